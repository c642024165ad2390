//! What to do about a fetch that failed.

use std::time::Duration;

use crate::provider::secret::SecretRef;
use crate::provider::{FetchError, advice};
use crate::token::TokenError;

/// What to do about it, when `last` was the last step that went well.
pub(in crate::cli) fn advice(error: &TokenError, last: Option<&str>) -> String {
    match error {
        TokenError::Fetch(error) | TokenError::BackingOff { cause: error, .. } => {
            about(error, last)
        }
        TokenError::Waited(_) => late(last),
        TokenError::TooManyWaiters => "try again in a moment".to_owned(),
    }
}

fn about(error: &FetchError, last: Option<&str>) -> String {
    match error {
        FetchError::Refused { error } => advice::refused(error).to_owned(),
        FetchError::Secret(error) => match &error.reference {
            SecretRef::Env(name) => format!("set {name} in the environment of this command"),
            SecretRef::File(_) => {
                "mount the file where whoever runs this can read it, or correct its path".to_owned()
            }
        },
        FetchError::Throttled { .. } | FetchError::Unavailable { .. } => {
            passes(error.retry_after())
        }
        FetchError::Unreachable { detail, .. } => unreachable(detail, last).to_owned(),
        FetchError::Timeout { .. } => late(last),
        FetchError::Malformed { .. } => {
            "compare what the provider documents with its URL, `token` and `expect` in the file"
                .to_owned()
        }
    }
}

fn passes(retry_after: Option<Duration>) -> String {
    let when = retry_after.map_or("later".to_owned(), |wait| format!("in {wait:?}"));
    format!("nothing is wrong with the file: try again {when}; a running pillion does by itself")
}

fn unreachable(detail: &str, last: Option<&str>) -> &'static str {
    let said = advice::unreachable(detail);
    if last == Some("asked") && !said.starts_with("TLS") && !said.starts_with("the name") {
        return "the connection was good until it was asked: try again; if it stays so, ask the provider";
    }
    said
}

fn late(last: Option<&str>) -> String {
    let where_it_stopped = match last {
        Some("asked") => "it was asked and did not answer",
        Some("connected") => "it was connected to and did not speak TLS",
        Some("name resolved") => "no connection came about: check the firewall, and `egress_proxy`",
        _ => "nothing came back: check the resolver, the firewall, and `egress_proxy`",
    };
    format!("{where_it_stopped}; if it is only slow, raise `timeout`")
}
