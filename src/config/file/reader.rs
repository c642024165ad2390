//! Reads a TOML table key by key, and at the end knows which keys nobody asked for.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::config::suggest::did_you_mean;

/// A value of the TOML tree, with its place.
pub(super) type Value<'a> = toml::Spanned<DeValue<'a>>;

/// A table that is being read.
#[derive(Default)]
pub(super) struct Table<'a> {
    /// None for a table that is not there.
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    /// Keys that somebody may have meant.
    known: Vec<&'static str>,
    /// Keys about which all has been said.
    settled: Vec<&'a str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self {
            table: Some(table),
            span,
            known: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// The value as a table, or a mistake.
    pub(super) fn of(value: &'a Value<'a>, report: &mut Report) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(table, value.span())),
            _ => {
                wrong_type(value, "a table", report);
                None
            }
        }
    }

    /// Where the table is: its head, or its braces.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is there, whatever it says.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The value of a key, as it is. From now on the key is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Value<'a>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// From now on the key is known, whether anybody reads it or not.
    pub(super) fn know(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// The value of a key, read by `read`. None if it is not there, or wrong and reported.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        report: &mut Report,
        read: impl FnOnce(&'a Value<'a>, &mut Report) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let value = self.take(key)?;
        Some(Spanned::new(read(value, report)?, value.span()))
    }

    /// Like [`read`](Self::read), and a mistake if it is not there. `example` is what to type.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        report: &mut Report,
        read: impl FnOnce(&'a Value<'a>, &mut Report) -> Option<T>,
    ) -> Option<Spanned<T>> {
        if self.has(key) {
            return self.read(key, report, read);
        }
        self.known.push(key);
        let is_meant = |(other, _): &(Spanned<&str>, _)| did_you_mean(other.value, [key]).is_some();
        report.push(match self.entries().into_iter().find(is_meant) {
            Some((misspelt, _)) => {
                self.settled.push(misspelt.value);
                unknown_key(&misspelt).hint(format!("did you mean `{key}`?"))
            }
            None => Diagnostic::error(format!("`{key}` is missing"), self.span())
                .hint(format!("add `{example}`")),
        });
        None
    }

    /// A key that must not be here, and why.
    pub(super) fn refuse(
        &mut self,
        key: &'static str,
        report: &mut Report,
        say: impl FnOnce(Range<usize>) -> Diagnostic,
    ) {
        if let Some(name) = self.key(key) {
            report.push(say(name.span()));
        }
        self.settled.push(key);
    }

    fn key(&self, key: &str) -> Option<&'a toml::Spanned<Cow<'a, str>>> {
        let (name, _) = self.table?.get_key_value(key)?;
        Some(name)
    }

    /// All keys, in the order of the file, for a table whose keys are names.
    pub(super) fn entries(&self) -> Vec<(Spanned<&'a str>, &'a Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .into_iter()
            .flatten()
            .map(|(key, value)| (Spanned::new(key.get_ref().as_ref(), key.span()), value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// Reports every key that nobody asked for, and whether there was one.
    pub(super) fn finish(self, report: &mut Report) -> bool {
        let mut unknown = false;
        let meant: Vec<&str> = self
            .known
            .iter()
            .copied()
            .filter(|key| !self.settled.contains(key))
            .collect();
        for (key, _) in self.entries() {
            if self.known.contains(&key.value) || self.settled.contains(&key.value) {
                continue;
            }
            unknown = true;
            let diagnostic = unknown_key(&key);
            report.push(match did_you_mean(key.value, meant.iter().copied()) {
                Some(meant) => diagnostic.hint(format!("did you mean `{meant}`?")),
                None => diagnostic.hint(format!("keys here are {}", meant.join(", "))),
            });
        }
        unknown
    }
}

fn unknown_key(key: &Spanned<&str>) -> Diagnostic {
    let message = if key.len() <= 64 {
        format!("unknown key `{}`", key.escape_debug())
    } else {
        "unknown key".to_owned()
    };
    Diagnostic::error(message, key.span.clone())
}

/// A value of another type than the wanted one. What it says stays hidden.
pub(super) fn wrong_type(value: &Value<'_>, wanted: &str, report: &mut Report) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    report.push(Diagnostic::error(
        format!("expected {wanted}, found {found}"),
        value.span(),
    ));
}
