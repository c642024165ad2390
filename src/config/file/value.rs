//! The plain values of the file: each from TOML to its type, or a mistake that says what to type.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::reader::{Table, Value, not_yet, wrong_type};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::config::suggest::did_you_mean;
use crate::provider::secret::SecretRef;

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
    report.show(value.span());
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
    later: &[&str],
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
    if later.contains(&text) {
        not_yet(&format!("`{text}`"), value.span(), report);
        return None;
    }
    let diagnostic = Diagnostic::error(
        format!("unknown value `{}`", text.escape_debug()),
        value.span(),
    );
    let meant = did_you_mean(text, names().chain(later.iter().copied()));
    report.push(match meant {
        Some(meant) => diagnostic.hint(format!("did you mean \"{meant}\"?")),
        None => diagnostic.hint(format!("write one of {}", one_of())),
    });
    None
}

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

/// An IP address and a port.
pub(super) fn address(value: &Value<'_>, report: &mut Report) -> Option<SocketAddr> {
    let text = string(value, "an address like \"127.0.0.1:8080\"", report)?;
    if text.starts_with("unix:") {
        not_yet("a Unix socket", value.span(), report);
        return None;
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let diagnostic = Diagnostic::error("expected an IP address and a port", value.span());
    let port = text
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    let host = text.split(':').next().unwrap_or_default();
    report.push(match (host, port) {
        ("localhost" | "" | "*", Some(port)) => {
            diagnostic.hint(format!("write \"127.0.0.1:{port}\""))
        }
        (host, Some(port)) if host == port.to_string() => {
            diagnostic.hint(format!("write \"127.0.0.1:{port}\""))
        }
        _ => diagnostic.hint("write something like \"127.0.0.1:8080\" or \"[::1]:8080\""),
    });
    None
}

/// An exact host name, in lower case.
pub(super) fn host(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = string(value, "a host name", report)?;
    let diagnostic = Diagnostic::error("expected a host name", value.span());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_ipv6 = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    if is_ipv6 || (!text.is_empty() && text.chars().all(plain)) {
        return Some(text.to_ascii_lowercase());
    }
    report.push(if text.contains('*') {
        diagnostic.hint("names are exact, there is no `*`: list every name")
    } else if text.contains("://") {
        diagnostic.hint("leave the scheme out: write \"api.internal\"")
    } else if text.contains(':') {
        diagnostic.hint("leave the port out: a name is taken on every port")
    } else {
        diagnostic.hint("write something like \"api.internal\"")
    });
    None
}

pub(super) fn header_name(value: &Value<'_>, report: &mut Report) -> Option<HeaderName> {
    let text = string(value, "the name of a header", report)?;
    parse_header_name(text, value.span(), report)
}

pub(super) fn parse_header_name(
    text: &str,
    span: Range<usize>,
    report: &mut Report,
) -> Option<HeaderName> {
    let parsed = HeaderName::from_bytes(text.as_bytes());
    if parsed.is_err() {
        report.push(
            Diagnostic::error("this cannot be the name of a header", span)
                .hint("a name is letters, digits and `-`, without a space or a colon"),
        );
    }
    parsed.ok()
}

/// Methods that RFC 9110 and RFC 5789 define.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn method(value: &Value<'_>, report: &mut Report) -> Option<Method> {
    let text = string(value, "a method", report)?;
    let wrong = |message: &str| Diagnostic::error(message, value.span());
    let refused = match text.to_ascii_uppercase().as_str() {
        "TRACE" => Some("the answer to TRACE would show the token to its caller"),
        "CONNECT" => Some("CONNECT opens a tunnel, and what goes through it carries no token"),
        _ => None,
    };
    if let Some(reason) = refused {
        report.push(
            wrong("no route can take this method")
                .hint("leave it out")
                .note(reason),
        );
        return None;
    }
    if METHODS.contains(&text) {
        return Method::from_bytes(text.as_bytes()).ok();
    }
    if let Some(meant) = did_you_mean(text, METHODS) {
        report.push(wrong("unknown method").hint(format!("did you mean \"{meant}\"?")));
        return None;
    }
    let parsed = Method::from_bytes(text.as_bytes()).ok();
    if parsed.is_none() || text.chars().any(|c| c.is_ascii_lowercase()) {
        let hint = format!("methods are {} and others in capitals", METHODS.join(", "));
        report.push(wrong("this cannot be a method").hint(hint));
        return None;
    }
    parsed
}

/// An absolute path of the file system.
pub(super) fn file_path(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = hidden_string(value, "the path of a file", report)?;
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    report.push(
        Diagnostic::error("expected an absolute path", value.span())
            .hint("begin it with `/`: where the program is started says nothing about the file"),
    );
    None
}

/// Where a secret is kept. Nothing of it is ever shown.
pub(super) fn secret(value: &Value<'_>, report: &mut Report) -> Option<SecretRef> {
    let DeValue::Table(table) = value.get_ref() else {
        report.push(
            Diagnostic::error("a secret cannot be written here", value.span())
                .hint("write { env = \"NAME\" } or { file = \"/run/secrets/...\" }")
                .note("only a reference can be read again when the secret is rotated, and kept in a repository"),
        );
        return None;
    };
    let mut table = Table::new(table, value.span());
    let env = table.take("env");
    let file = table.take("file");
    let unknown = table.finish(report);
    match (env, file) {
        (Some(env), None) => environment_variable(env, report),
        (None, Some(file)) => file_path(file, report).map(SecretRef::File),
        (Some(_), Some(_)) => {
            report.push(
                Diagnostic::error("a secret is in one place", value.span())
                    .hint("keep `env` or `file`, not both"),
            );
            None
        }
        (None, None) => {
            if !unknown {
                report.push(
                    Diagnostic::error("expected a reference to a secret", value.span())
                        .hint("write { env = \"NAME\" } or { file = \"/run/secrets/...\" }"),
                );
            }
            None
        }
    }
}

fn environment_variable(value: &Value<'_>, report: &mut Report) -> Option<SecretRef> {
    let name = hidden_string(value, "the name of an environment variable", report)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && !digit_first && name.chars().all(plain) {
        return Some(SecretRef::Env(name.to_owned()));
    }
    report.push(
        Diagnostic::error(
            "this cannot be the name of an environment variable",
            value.span(),
        )
        .hint("write the variable's name, like { env = \"CLIENT_SECRET\" }, not what is in it"),
    );
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
