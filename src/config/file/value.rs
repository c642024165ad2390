//! The plain values of the file: each from TOML to its type, or a mistake that says what to type.

use std::ops::Range;

use toml::de::DeValue;

use super::reader::{Value, wrong_type};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::config::suggest::did_you_mean;

/// A string whose content stays hidden.
pub(super) fn hidden_string<'a>(
    value: &'a Value<'_>,
    wanted: &str,
    report: &mut Report,
) -> Option<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text),
        _ => {
            wrong_type(value, wanted, report);
            None
        }
    }
}

/// A string at a place where nobody keeps a secret.
pub(super) fn string<'a>(
    value: &'a Value<'_>,
    wanted: &str,
    report: &mut Report,
) -> Option<&'a str> {
    let text = hidden_string(value, wanted, report)?;
    // Nor is a string of several lines, which may have swallowed what comes after it.
    if !text.contains('\n') {
        report.show(value.span());
    }
    Some(text)
}

pub(super) fn boolean(value: &Value<'_>, report: &mut Report) -> Option<bool> {
    match value.get_ref() {
        DeValue::Boolean(boolean) => {
            report.show(value.span());
            Some(*boolean)
        }
        _ => {
            wrong_type(value, "true or false", report);
            None
        }
    }
}

/// A number of things: at least one.
pub(super) fn count(value: &Value<'_>, report: &mut Report) -> Option<usize> {
    let number = integer(value, "a number", report)?;
    if (1..=MOST).contains(&number) {
        return Some(number);
    }
    let message = format!("expected a number from 1 to {MOST}");
    report.push(Diagnostic::error(message, value.span()));
    None
}

/// A share of a whole: from 0 to 1.
pub(super) fn share(value: &Value<'_>, report: &mut Report) -> Option<f64> {
    let number: Option<f64> = match value.get_ref() {
        DeValue::Integer(integer) => integer.as_str().parse().ok(),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => {
            wrong_type(value, "a number from 0 to 1", report);
            return None;
        }
    };
    report.show(value.span());
    let share = number.filter(|number| (0.0..=1.0).contains(number));
    if share.is_none() {
        report.push(
            Diagnostic::error("expected a number from 0 to 1", value.span())
                .hint("0.1 is a tenth, 1 is all"),
        );
    }
    share
}

/// More of anything would be no limit.
const MOST: usize = 10_000_000;

/// Negative numbers become one that is out of every range.
pub(super) fn integer(value: &Value<'_>, wanted: &str, report: &mut Report) -> Option<usize> {
    match value.get_ref() {
        DeValue::Integer(integer) => {
            report.show(value.span());
            let number = usize::from_str_radix(integer.as_str(), integer.radix());
            Some(number.unwrap_or(usize::MAX))
        }
        _ => {
            wrong_type(value, wanted, report);
            None
        }
    }
}

/// A list, every element read by `read`. None only if it is no list.
pub(super) fn list<'a, T>(
    value: &'a Value<'a>,
    wanted: &str,
    report: &mut Report,
    mut read: impl FnMut(&'a Value<'a>, &mut Report) -> Option<T>,
) -> Option<Vec<Spanned<T>>> {
    let DeValue::Array(array) = value.get_ref() else {
        wrong_type(value, wanted, report);
        return None;
    };
    let read = array
        .iter()
        .filter_map(|element| Some(Spanned::new(read(element, report)?, element.span())));
    Some(read.collect())
}

/// One value or a list of them.
pub(super) fn one_or_list<'a, T>(
    value: &'a Value<'a>,
    report: &mut Report,
    mut read: impl FnMut(&'a Value<'a>, &mut Report) -> Option<T>,
) -> Option<Vec<Spanned<T>>> {
    match value.get_ref() {
        DeValue::Array(_) => list(value, "a list", report, read),
        _ => Some(vec![Spanned::new(read(value, report)?, value.span())]),
    }
}

/// A mistake if it is a list of nothing.
pub(super) fn is_not_empty(
    value: &Value<'_>,
    message: &str,
    hint: &str,
    report: &mut Report,
) -> Option<()> {
    let is_empty = value
        .get_ref()
        .as_array()
        .is_some_and(|array| array.is_empty());
    if is_empty {
        report.push(Diagnostic::error(message, value.span()).hint(hint));
    }
    (!is_empty).then_some(())
}

/// A word out of a closed set.
pub(super) fn choice<T: Copy>(
    value: &Value<'_>,
    choices: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let names = || choices.iter().map(|(name, _)| *name);
    let one_of = || {
        names()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = string(value, &format!("one of {}", one_of()), report)?;
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
        return Some(*choice);
    }
    let message = if text.len() <= 40 && text.chars().all(|c| c.is_ascii_graphic()) {
        format!("unknown value `{text}`")
    } else {
        "unknown value".to_owned()
    };
    let diagnostic = Diagnostic::error(message, value.span());
    report.push(match did_you_mean(text, names()) {
        Some(meant) => diagnostic.hint(format!("did you mean \"{meant}\"?")),
        None => diagnostic.hint(format!("write one of {}", one_of())),
    });
    None
}

/// The place of a part of a string, where the string is written as it is meant; else the whole string.
pub(super) fn part_of_string(
    source: &str,
    span: &Range<usize>,
    offset: usize,
    length: usize,
) -> Range<usize> {
    match plain_content(source, span) {
        Some(content) => content.start + offset..content.start + offset + length,
        None => span.clone(),
    }
}

/// The inside of a string of one line without escapes.
pub(super) fn plain_content(source: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let raw = source.get(span.clone())?;
    let quoted = |quote: char| {
        let inside = raw.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inside.contains(quote)).then_some(inside)
    };
    let inside = match quoted('"') {
        Some(inside) if inside.contains('\\') => None,
        Some(inside) => Some(inside),
        None => quoted('\''),
    }?;
    Some(span.start + 1..span.start + 1 + inside.len())
}
