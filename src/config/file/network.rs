//! Addresses, hosts, methods and headers.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use http::{HeaderName, Method};

use super::reader::Value;
use super::value::string;
use crate::config::report::{Diagnostic, Report};
use crate::config::suggest::did_you_mean;

/// An IP address and a port.
pub(super) fn address(value: &Value<'_>, report: &mut Report) -> Option<SocketAddr> {
    let text = string(value, "an address like \"127.0.0.1:8080\"", report)?;
    if text.starts_with("unix:") {
        report.push(
            Diagnostic::error("the admin listener has no Unix socket", value.span()).hint(
                "probes and Prometheus come over TCP: write something like \"127.0.0.1:9901\"",
            ),
        );
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

/// Where the app may call: an address, or `unix:` and a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

pub(super) fn place(value: &Value<'_>, report: &mut Report) -> Option<Place> {
    let text = string(value, "an address like \"127.0.0.1:8080\"", report)?;
    let Some(path) = text.strip_prefix("unix:") else {
        return address(value, report).map(Place::Address);
    };
    socket(path, "unix:/run/pillion/proxy.sock", value.span(), report).map(Place::Socket)
}

/// The path of a Unix socket; `example` is what the whole value may look like.
pub(super) fn socket(
    path: &str,
    example: &str,
    span: Range<usize>,
    report: &mut Report,
) -> Option<PathBuf> {
    // The room that the system has for it, with a nought at its end (unix(7)).
    if path.starts_with('/') && path.len() <= 107 {
        return Some(PathBuf::from(path));
    }
    report.push(
        Diagnostic::error("expected an absolute path of at most 107 bytes", span)
            .hint(format!("write something like \"{example}\"")),
    );
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
