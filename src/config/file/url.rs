//! URLs of the file.

use std::ops::Range;
use std::path::PathBuf;

use http::Uri;

use super::network::socket;
use super::reader::Value;
use super::value::hidden_string;
use crate::config::report::{Diagnostic, Report};

/// Where requests go: no query, because the request brings its own. With the Unix socket that leads there, if one does.
pub(super) fn upstream(value: &Value<'_>, report: &mut Report) -> Option<(Uri, Option<PathBuf>)> {
    let text = hidden_string(value, "a URL", report)?;
    if let Some(rest) = text.strip_prefix("unix:") {
        return unix(rest, value.span(), report);
    }
    no_query(text, value.span(), report).map(|url| (url, None))
}

/// `unix:/run/app.sock`, and after a further colon what would follow `http:` in a URL: `/base`, or `//host/base`.
fn unix(text: &str, span: Range<usize>, report: &mut Report) -> Option<(Uri, Option<PathBuf>)> {
    // As in other URLs, what may have a secret in it is not shown.
    if !text.contains(['@', '?', '#', '\n']) {
        report.show(span.clone());
    }
    let (path, rest) = match text.split_once(":/") {
        Some((path, rest)) => (path, format!("/{rest}")),
        None => (text, "/".to_owned()),
    };
    let target = if rest.starts_with("//") {
        format!("http:{rest}")
    } else {
        format!("http://localhost{rest}")
    };
    let path = socket(path, "unix:/run/app.sock", span.clone(), report)?;
    Some((no_query(&target, span, report)?, Some(path)))
}

/// Where something is reported to, over the network: no query.
pub(super) fn base(value: &Value<'_>, report: &mut Report) -> Option<Uri> {
    let text = hidden_string(value, "a URL", report)?;
    no_query(text, value.span(), report)
}

fn no_query(text: &str, span: Range<usize>, report: &mut Report) -> Option<Uri> {
    if text.contains('?') {
        report.push(
            Diagnostic::error("an upstream has no query", span)
                .hint("end the URL before the `?`: the query is the request's own"),
        );
        return None;
    }
    url(text, span, report)
}

/// Where tokens are asked for: it may have a query (RFC 6749 §3.2), which is not shown.
pub(super) fn endpoint(value: &Value<'_>, report: &mut Report) -> Option<Uri> {
    let text = hidden_string(value, "a URL", report)?;
    url(text, value.span(), report)
}

pub(super) fn url(text: &str, span: Range<usize>, report: &mut Report) -> Option<Uri> {
    let wrong = |message: &str| Diagnostic::error(message, span.clone());
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    let authority = authority(text);
    let public = show_if_public(text, span.clone(), report);
    if authority.contains('@') {
        report.push(
            wrong("a URL cannot have a user or a password in it")
                .hint("leave out what is before the `@`: credentials belong to a provider"),
        );
        return None;
    }
    if text.contains('#') {
        report.push(
            wrong("a URL here has no fragment")
                .hint("end it before the `#`: a fragment is never sent"),
        );
        return None;
    }
    if after_scheme.is_none() {
        let diagnostic = wrong("expected a URL");
        report.push(if public && is_plain(text) {
            diagnostic.hint(format!("write \"https://{text}\""))
        } else {
            diagnostic.hint("write something like \"https://api.example.com\"")
        });
        return None;
    }
    let port = authority.rsplit_once(':');
    if port.is_some_and(|(_, port)| is_bad_port(port)) {
        report.push(wrong("this is not a port").hint("a port is a number from 1 to 65535"));
        return None;
    }
    match text.parse::<Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("https" | "http")) => {
            report.push(wrong("expected an https URL").hint("begin it with `https://`"));
            None
        }
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Some(uri),
        _ => {
            report.push(
                wrong("this is not a URL")
                    .hint("write something like \"https://api.example.com/base\""),
            );
            None
        }
    }
}

/// What is between the scheme and the path, if it is a URL at all.
pub(super) fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Lets diagnostics show it, if it has no place for a secret.
///
/// Nobody keeps one in a host or a path; in what else a URL may have it has been seen.
pub(super) fn show_if_public(text: &str, span: Range<usize>, report: &mut Report) -> bool {
    let public = !text.contains(['@', '?', '#', '\n']) && is_host_and_port(authority(text));
    if public {
        report.show(span);
    }
    public
}

/// Whether it can be no more than that: a password whose `@` has been forgotten looks like a port, but has more than digits.
fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    host.chars().all(plain)
        && (is_bracketed || !host.contains(':'))
        && port.len() <= 5
        && port.chars().all(|c| c.is_ascii_digit())
}

/// What a URL without its scheme looks like.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/".contains(c);
    text.contains('.') && !text.starts_with('/') && text.chars().all(plain)
}

/// Whether what follows the last colon is meant to be a port and is none. It may be the end of an IPv6 address.
fn is_bad_port(text: &str) -> bool {
    !text.ends_with(']') && !text.parse::<u16>().is_ok_and(|port| port > 0)
}
