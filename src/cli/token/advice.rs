//! What to do about a fetch that failed.

use std::time::Duration;

use crate::provider::FetchError;
use crate::provider::secret::SecretRef;
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
        FetchError::Refused { error } => refused(error).to_owned(),
        FetchError::Secret(error) => match &error.reference {
            SecretRef::Env(name) => format!("set {name} in the environment of this command"),
            SecretRef::File(_) => {
                "mount the file where whoever runs this can read it, or correct its path".to_owned()
            }
        },
        FetchError::Throttled { .. } | FetchError::Unavailable { .. } => {
            passes(error.retry_after())
        }
        FetchError::Unreachable { detail, .. } => unreachable(detail, last),
        FetchError::Timeout { .. } => late(last),
        FetchError::Malformed { .. } => {
            "compare what the provider documents with its URL, `token` and `expect` in the file"
                .to_owned()
        }
    }
}

fn refused(code: &str) -> &'static str {
    match code {
        "invalid_client" => {
            "check `client_id`, `client_secret` and `client_auth`: the provider does not know this client so"
        }
        "invalid_scope" => {
            "check `scope`: the provider does not give this client what is asked for"
        }
        "invalid_target" => "check `resource` and `audience`",
        "invalid_grant" => {
            "the refresh token, password or assertion is not good any more: provide another"
        }
        "unauthorized_client" | "unsupported_grant_type" => {
            "check `grant_type`: the provider does not let this client use it"
        }
        "consent_required" | "interaction_required" | "access_denied" => {
            "somebody has to allow it, at the provider"
        }
        _ => "check the secret and what the request says; the provider says no more than this",
    }
}

fn passes(retry_after: Option<Duration>) -> String {
    let when = retry_after.map_or("later".to_owned(), |wait| format!("in {wait:?}"));
    format!("nothing is wrong with the file: try again {when}; a running pillion does by itself")
}

fn unreachable(detail: &str, last: Option<&str>) -> String {
    let detail = detail.to_ascii_lowercase();
    let advice = if detail.contains("dns error") {
        "the name was not found: check the host in the URL, and this machine's resolver"
    } else if detail.contains("unknownissuer") {
        "TLS: nobody whom this machine trusts vouches for the certificate: name who does, `tls = { ca = \"...\" }`"
    } else if detail.contains("not valid for name") || detail.contains("notvalidforname") {
        "TLS: the certificate is another host's: check the host in the URL, and who answers there"
    } else if detail.contains("expired") {
        "TLS: the certificate has expired: the provider has to renew it, unless this machine's clock is wrong"
    } else if detail.contains("handshake") || detail.contains("certificate") {
        "TLS: check that the URL's port speaks it, and whether the provider wants a client certificate"
    } else if last == Some("asked") {
        "the connection was good until it was asked: try again; if it stays so, ask the provider"
    } else {
        "nobody answers there: check host and port, the firewall, and `egress_proxy`"
    };
    advice.to_owned()
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
