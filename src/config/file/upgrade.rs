//! `upgrades`: protocols that may follow HTTP on a connection.

use http::HeaderName;

use super::reader::Value;
use super::value::string;
use crate::config::report::{Diagnostic, Report};

/// A protocol as `Upgrade` names it (RFC 9110 §7.8), in lower case.
pub(super) fn upgrade(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let protocol = string(value, "a protocol", report)?.to_ascii_lowercase();
    let (name, version) = protocol.split_once('/').unwrap_or((&protocol, "-"));
    let is_token = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok();
    if !is_token(name) || !is_token(version) {
        report.push(
            Diagnostic::error("expected a protocol as `Upgrade` names it", value.span())
                .hint("write something like \"websocket\" or \"spdy/3.1\""),
        );
        return None;
    }
    if CARRYING_REQUESTS.contains(&name) {
        report.push(
            Diagnostic::error("no route can be upgraded to this protocol", value.span())
                .hint("leave it out")
                .note("what it carries are requests, and they would pass without a token"),
        );
        return None;
    }
    Some(protocol)
}

const CARRYING_REQUESTS: [&str; 5] = ["h2", "h2c", "h3", "http", "tls"];
