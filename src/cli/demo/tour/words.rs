//! How the tour says times, counts and tokens.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::fake::Received;

pub(super) fn token(request: &Received) -> Option<&str> {
    request.field("authorization")?.strip_prefix("Bearer ")
}

/// Tells tokens apart without telling them.
pub(super) fn fingerprint(request: &Received) -> String {
    let Some(token) = token(request) else {
        return "none".to_owned();
    };
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
