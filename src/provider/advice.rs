//! What to do about a fetch that failed, in our words: nothing of what the provider said is in them.

use super::FetchError;
use super::secret::{SecretError, SecretRef};

impl FetchError {
    /// What to do about it, for whoever runs pillion.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Refused { error } => refused(error).to_owned(),
            Self::Secret(error) => error.advice(),
            Self::Throttled { .. } => {
                "nothing is wrong with the file: pillion asks again by itself, no sooner than it is let".to_owned()
            }
            Self::Unavailable { .. } => {
                "nothing is wrong with the file: pillion asks again by itself; if it stays so, ask the provider".to_owned()
            }
            Self::Unreachable { detail, .. } => unreachable(detail).to_owned(),
            Self::Timeout { .. } => {
                "check the firewall and `egress_proxy`; if the provider is only slow, raise `timeout`".to_owned()
            }
            Self::Malformed { .. } => {
                "compare what the provider documents with its URL, `token` and `expect` in the file"
                    .to_owned()
            }
        }
    }
}

impl SecretError {
    /// What to do about it, for whoever runs pillion.
    #[must_use]
    pub fn advice(&self) -> String {
        match &self.reference {
            SecretRef::Env(name) => {
                format!("set {name} in the environment of pillion, and start it again")
            }
            SecretRef::File(_) => {
                "mount the file where pillion can read it, or correct its path".to_owned()
            }
        }
    }
}

/// What to do about a refusal with this code of RFC 6749 §5.2 or of a registry beside it.
#[must_use]
pub fn refused(code: &str) -> &'static str {
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

/// What to do about a provider that cannot be reached, judged by what the system or TLS said about it.
#[must_use]
pub fn unreachable(detail: &str) -> &'static str {
    let detail = detail.to_ascii_lowercase();
    if detail.contains("dns error") {
        "the name was not found: check the host in the URL, and this machine's resolver"
    } else if detail.contains("unknownissuer") {
        "TLS: nobody whom this machine trusts vouches for the certificate: name who does, `tls = { ca = \"...\" }`"
    } else if detail.contains("not valid for name") || detail.contains("notvalidforname") {
        "TLS: the certificate is another host's: check the host in the URL, and who answers there"
    } else if detail.contains("expired") {
        "TLS: the certificate has expired: the provider has to renew it, unless this machine's clock is wrong"
    } else if detail.contains("handshake") || detail.contains("certificate") {
        "TLS: check that the URL's port speaks it, and whether the provider wants a client certificate"
    } else {
        "nobody answers there: check host and port, the firewall, and `egress_proxy`"
    }
}
