//! Assertions (RFC 7521, RFC 7523): JWTs by which a client proves who it is, or for which it is granted a token.

use std::time::SystemTime;

use super::jwt::Jwt;
use super::secret::{Secret, SecretRef, Secrets};
use super::{FetchError, Subject};

/// An assertion, made or read anew for every attempt.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Assertion {
    /// Somebody else's, where it is put: a Kubernetes service account token, a JWT-SVID.
    Kept(SecretRef),
    /// Signed here.
    Signed {
        /// What is signed.
        jwt: Box<Jwt>,
        /// `aud`, unless the claims say otherwise.
        audience: String,
    },
}

impl Assertion {
    /// Where what it needs is kept.
    pub(super) fn reference(&self) -> &SecretRef {
        match self {
            Self::Kept(reference) => reference,
            Self::Signed { jwt, .. } => &jwt.key,
        }
    }

    /// The assertion itself. `implied` are claims that those of the configuration may replace.
    ///
    /// # Errors
    ///
    /// When a secret cannot be read or cannot sign.
    pub(super) fn make(
        &self,
        implied: &[(&str, &str)],
        subject: &Subject,
        secrets: &Secrets,
        now: SystemTime,
    ) -> Result<Secret, FetchError> {
        match self {
            Self::Kept(reference) => Ok(secrets.read(reference)?),
            Self::Signed { jwt, audience } => {
                let mut all = vec![("aud", audience.as_str())];
                all.extend(implied);
                jwt.sign(&all, subject, secrets, now)
            }
        }
    }
}
