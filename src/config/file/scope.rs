//! `scope`: a list of scope tokens, or one string of them as RFC 6749 §3.3 writes it.

use toml::de::DeValue;

use super::names::unique;
use super::reader::{Value, wrong_type};
use super::value::{list, part_of_string, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;

pub(super) fn scope(value: &Value<'_>, report: &mut Report) -> Option<Vec<Spanned<String>>> {
    let all = match value.get_ref() {
        DeValue::Array(_) => list(value, "a list of strings", report, scope_token)?,
        DeValue::String(_) => split(value, report)?,
        _ => {
            wrong_type(value, "a list of strings", report);
            return None;
        }
    };
    Some(unique(all, "a scope", report))
}

fn scope_token(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = string(value, "a string", report)?;
    if is_scope_token(text) {
        return Some(text.to_owned());
    }
    let diagnostic = Diagnostic::error("this cannot be a scope", value.span());
    report.push(if text.trim().contains(' ') {
        diagnostic.hint("write every scope as a string of its own")
    } else {
        diagnostic.hint("a scope is visible ASCII without a space, `\"` or `\\` (RFC 6749 §3.3)")
    });
    None
}

fn split(value: &Value<'_>, report: &mut Report) -> Option<Vec<Spanned<String>>> {
    let text = string(value, "a string", report)?;
    let mut all = Vec::new();
    let mut offset = 0;
    for word in text.split(' ') {
        if !word.is_empty() {
            let span = part_of_string(report.source(), &value.span(), offset, word.len());
            if is_scope_token(word) {
                all.push(Spanned::new(word.to_owned(), span));
            } else {
                report.push(
                    Diagnostic::error("this cannot be a scope", span)
                        .hint("a scope is visible ASCII without `\"` or `\\` (RFC 6749 §3.3)"),
                );
            }
        }
        offset += word.len() + 1;
    }
    Some(all)
}

fn is_scope_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.bytes().all(good)
}
