//! Pointers of the file, and what values are held against.

use std::ops::Range;

use serde_json::Value as JsonValue;
use toml::de::DeValue;

use super::json::scalar;
use super::reader::{Value, wrong_type};
use super::value::hidden_string;
use crate::config::report::{Diagnostic, Report};
use crate::provider::pointer::Pointer;

/// A pointer to a part of a JSON document.
pub(super) fn pointer(value: &Value<'_>, report: &mut Report) -> Option<Pointer> {
    let text = hidden_string(value, "a pointer like \"/access_token\"", report)?;
    parse(text, value.span(), report)
}

/// The same, of the text itself.
pub(super) fn parse(text: &str, span: Range<usize>, report: &mut Report) -> Option<Pointer> {
    // A secret in its place seldom looks like one.
    if is_plain(text) {
        report.show(span.clone());
    }
    if text.is_empty() {
        report.push(
            Diagnostic::error("this points at nothing in particular", span)
                .hint("write a pointer like \"/access_token\""),
        );
        return None;
    }
    match Pointer::parse(text) {
        Ok(pointer) => Some(pointer),
        Err(error) => {
            let diagnostic = Diagnostic::error("this is not a pointer", span)
                .note(format!("{error} (RFC 6901)"));
            report.push(if is_name(text) {
                diagnostic.hint("begin it with `/`")
            } else {
                diagnostic.hint("write something like \"/data/token\", with `*` for any element")
            });
            None
        }
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-/*".contains(c);
    text.starts_with('/') && text.len() <= 100 && text.chars().all(plain)
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One value, or a list of them.
pub(super) fn values(value: &Value<'_>, report: &mut Report) -> Option<Vec<JsonValue>> {
    let DeValue::Array(array) = value.get_ref() else {
        return Some(vec![one(value, report)?]);
    };
    if array.is_empty() {
        report.push(
            Diagnostic::error("nothing is one of these", value.span())
                .hint("write the values that count, like [\"OK\"]"),
        );
        return None;
    }
    array.iter().map(|value| one(value, report)).collect()
}

fn one(value: &Value<'_>, report: &mut Report) -> Option<JsonValue> {
    match value.get_ref() {
        DeValue::String(text) => Some(JsonValue::from(text.as_ref())),
        DeValue::Array(_) | DeValue::Table(_) => {
            wrong_type(value, "a string, a number or a boolean", report);
            None
        }
        _ => scalar(value, report),
    }
}
