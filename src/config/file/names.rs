//! Names that the file gives to things, and lists in which everything is once.

use std::ops::Range;

use super::reader::Value;
use super::value::{list, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::config::suggest::did_you_mean;

/// A name that the file gives to something.
pub(super) fn name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = string(value, "a name", report)?;
    is_name(text, value.span(), report).then(|| text.to_owned())
}

/// Whether it can be a name; a mistake if not.
pub(super) fn is_name(text: &str, span: Range<usize>, report: &mut Report) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let good = (1..=64).contains(&text.len()) && text.chars().all(plain);
    if !good {
        report.push(
            Diagnostic::error("this cannot be a name", span)
                .hint("a name is up to 64 letters, digits, `-` and `_`"),
        );
    }
    good
}

/// The mistake of naming an input that the provider does not declare.
pub(super) fn no_input(name: &Spanned<String>, inputs: &[&str]) -> Diagnostic {
    let message = format!("there is no input `{}`", name.value);
    let diagnostic = Diagnostic::error(message, name.span.clone());
    match did_you_mean(name, inputs.iter().copied()) {
        Some(meant) => diagnostic.hint(format!("did you mean \"{meant}\"?")),
        None => diagnostic.hint("declare it in `inputs` of this provider"),
    }
}

/// Whether a name is here for the first time; a mistake if not.
pub(super) fn is_first<T: PartialEq>(
    item: &Spanned<T>,
    earlier: &[Spanned<T>],
    what: &str,
    report: &mut Report,
) -> bool {
    let Some(first) = earlier.iter().find(|other| other.value == item.value) else {
        return true;
    };
    report.push(
        Diagnostic::error(format!("{what} twice"), item.span.clone())
            .also(first.span.clone(), "the first time"),
    );
    false
}

/// A list of names, each once.
pub(super) fn names(value: &Value<'_>, what: &str, report: &mut Report) -> Vec<Spanned<String>> {
    let all = list(value, "a list of names", report, name).unwrap_or_default();
    unique(all, what, report)
}

/// The items without those that are there twice, which are mistakes.
pub(super) fn unique<T: PartialEq>(
    items: Vec<Spanned<T>>,
    what: &str,
    report: &mut Report,
) -> Vec<Spanned<T>> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if is_first(&item, &kept, what, report) {
            kept.push(item);
        }
    }
    kept
}
