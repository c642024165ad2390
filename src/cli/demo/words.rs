//! How the tour says times, counts and tokens.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::fake::Received;

pub(super) fn token(request: &Received) -> Option<&str> {
    request.field("authorization")?.strip_prefix("Bearer ")
}

/// What a request has for a credential, without telling it.
pub(super) fn carried(request: &Received) -> String {
    match request.field("authorization") {
        None => "no credential".to_owned(),
        Some(value) => match value.split_once(' ') {
            Some(("Basic", key)) => format!("key {}", fingerprint(key)),
            _ => format!("token {}", fingerprint(token(request).unwrap_or(value))),
        },
    }
}

/// Tells tokens apart without telling them.
pub(super) fn fingerprint(token: &str) -> String {
    let mut text = "#".to_owned();
    for byte in digest(&SHA256, token.as_bytes()).as_ref().iter().take(3) {
        write!(text, "{byte:02x}").ok();
    }
    text
}

pub(super) fn told_time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    }
}
