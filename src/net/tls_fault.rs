//! Why a TLS handshake failed, in words for whoever has to put it right.

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// A handshake that failed. Says what is wrong with whom; what the other side wrote is not repeated.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{words}")]
pub struct TlsFault {
    words: Arc<str>,
    #[source]
    cause: Arc<io::Error>,
}

impl TlsFault {
    /// What `cause` says about `host`.
    #[must_use]
    pub fn new(host: &str, cause: io::Error) -> Self {
        let error = cause.get_ref().and_then(|inner| inner.downcast_ref());
        let words = match error {
            Some(error) => explain(host, error),
            None => format!("{host} broke off the TLS handshake"),
        };
        Self {
            words: words.into(),
            cause: Arc::new(cause),
        }
    }
}

fn explain(host: &str, error: &Error) -> String {
    match error {
        Error::InvalidCertificate(fault) => {
            format!("the certificate of {host} {}", certificate(fault))
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
            format!("{host} speaks neither TLS 1.2 nor TLS 1.3 as it is spoken today")
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA,
        ) => format!("{host} wants another client certificate: see `tls` in the file"),
        Error::AlertReceived(alert) => {
            format!("{host} ended the TLS handshake with the alert {alert:?}")
        }
        Error::InvalidMessage(_) => format!("{host} does not speak TLS"),
        _ => format!("the TLS handshake with {host} failed"),
    }
}

fn certificate(fault: &CertificateError) -> String {
    use CertificateError as E;
    let words = match fault {
        E::ExpiredContext { not_after, .. } => return format!("expired on {}", date(*not_after)),
        E::NotValidYetContext { not_before, .. } => {
            return format!("is not valid before {}", date(*not_before));
        }
        E::Expired => "has expired",
        E::NotValidYet => "is not valid yet",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "is another host's: it does not have this name"
        }
        E::UnknownIssuer => "is signed by nobody who is trusted here",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not one for servers",
        E::BadSignature => {
            "has a signature that is forged, or made with a key that is not trusted any more, as a short one of RSA"
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is not trusted any more, as with SHA-1"
        }
        E::Revoked => "has been revoked",
        E::BadEncoding => "cannot be read",
        _ => "is not one that its signers were allowed to sign",
    };
    words.to_owned()
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
