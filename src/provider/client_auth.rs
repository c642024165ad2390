//! How a client proves who it is at a token endpoint: the names of the OAuth client authentication method registry.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::assertion::Assertion;
use super::secret::{Secret, SecretRef, Secrets};
use super::{FetchError, Subject};

/// A client and its proof.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientAuth {
    /// Id and secret in an `Authorization: Basic` field (RFC 6749 §2.3.1).
    Basic {
        /// The client's id.
        id: ClientId,
        /// Its secret.
        secret: SecretRef,
    },
    /// Id and secret in the form.
    Post {
        /// The client's id.
        id: ClientId,
        /// Its secret.
        secret: SecretRef,
    },
    /// `client_secret_jwt` and `private_key_jwt`: the id in the form, and an assertion (RFC 7523 §2.2).
    Assertion {
        /// The client's id; somebody else's assertion may say it alone.
        id: Option<ClientId>,
        /// The proof.
        assertion: Assertion,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth`: the id in the form; the proof is the certificate of the
    /// connection (RFC 8705 §2).
    Certificate {
        /// The client's id.
        id: ClientId,
    },
    /// The id in the form, and no proof: a public client.
    None {
        /// The client's id.
        id: ClientId,
    },
    /// Neither id nor proof: the grant says enough (RFC 7521 §4.1).
    Anonymous,
}

/// A client id: no secret, but often kept beside one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientId {
    /// Written in the configuration.
    Literal(String),
    /// Kept elsewhere.
    Kept(SecretRef),
}

impl ClientId {
    /// Where it is, if it is kept.
    pub(super) const fn reference(&self) -> Option<&SecretRef> {
        match self {
            Self::Kept(reference) => Some(reference),
            Self::Literal(_) => None,
        }
    }

    pub(super) fn read(&self, secrets: &Secrets) -> Result<Secret, FetchError> {
        match self {
            Self::Literal(id) => Ok(Secret::new(id.clone())),
            Self::Kept(reference) => Ok(secrets.read(reference)?),
        }
    }
}

impl ClientAuth {
    /// Who asks, if that is said.
    pub(super) const fn id(&self) -> Option<&ClientId> {
        match self {
            Self::Basic { id, .. }
            | Self::Post { id, .. }
            | Self::Certificate { id }
            | Self::None { id } => Some(id),
            Self::Assertion { id, .. } => id.as_ref(),
            Self::Anonymous => None,
        }
    }

    /// Where what it needs is kept.
    pub(super) fn references(&self) -> impl Iterator<Item = &SecretRef> {
        let proof = match self {
            Self::Basic { secret, .. } | Self::Post { secret, .. } => Some(secret),
            Self::Assertion { assertion, .. } => Some(assertion.reference()),
            Self::Certificate { .. } | Self::None { .. } | Self::Anonymous => None,
        };
        let id = self.id().and_then(ClientId::reference);
        id.into_iter().chain(proof)
    }

    /// Adds the proof to a token request: to its form, or as the value of its `Authorization` field.
    ///
    /// # Errors
    ///
    /// When a secret cannot be read, or is no key.
    pub(super) fn authenticate(
        &self,
        form: &mut Form,
        subject: &Subject,
        secrets: &Secrets,
        now: SystemTime,
    ) -> Result<Option<HeaderValue>, FetchError> {
        let id = self.id().map(|id| id.read(secrets)).transpose()?;
        if let (Self::Basic { secret, .. }, Some(id)) = (self, &id) {
            let secret = secrets.read(secret)?;
            let value = basic(id, &secret);
            form.secrets.push(secret);
            return Ok(Some(value));
        }
        if let Some(id) = &id {
            form.add("client_id", id.reveal());
        }
        match self {
            Self::Post { secret, .. } => {
                form.add_secret("client_secret", secrets.read(secret)?);
            }
            Self::Assertion { assertion, .. } => {
                let id = id.as_ref().map(Secret::reveal);
                let implied: Vec<_> = id
                    .into_iter()
                    .flat_map(|id| [("iss", id), ("sub", id)]) // RFC 7523 §3
                    .collect();
                let made = assertion.make(&implied, subject, secrets, now)?;
                form.add("client_assertion_type", JWT_BEARER);
                form.add_secret("client_assertion", made);
            }
            Self::Basic { .. } | Self::Certificate { .. } | Self::None { .. } | Self::Anonymous => {
            }
        }
        Ok(None)
    }
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `application/x-www-form-urlencoded`, zeroed when dropped, because a secret may be in it.
#[derive(Default)]
pub struct Form {
    text: Zeroizing<String>,
    /// What must not be seen of it, nor of the field beside it.
    secrets: Vec<Secret>,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}

impl Form {
    /// Adds a parameter.
    pub fn add(&mut self, name: &str, value: &str) {
        self.make_room(2 + 3 * (name.len() + value.len()));
        let text = &mut self.text;
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        text.push('=');
        text.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    // A text that grew by itself would leave what it was behind.
    fn make_room(&mut self, bytes: usize) {
        if self.text.capacity() - self.text.len() < bytes {
            let mut larger = String::with_capacity(2 * self.text.len() + bytes);
            larger.push_str(&self.text);
            self.text = Zeroizing::new(larger);
        }
    }

    /// Adds a parameter that must not be seen.
    pub(super) fn add_secret(&mut self, name: &str, value: Secret) {
        self.add(name, value.reveal());
        self.secrets.push(value);
    }

    /// What must not be seen of it.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter()
    }

    /// The form as the content of a request: zeroed when that is dropped.
    #[must_use]
    pub fn to_content(&self) -> Bytes {
        Bytes::from_owner(self.text.clone())
    }

    /// The form as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

// RFC 6749 §2.3.1: both are form-encoded before they are joined, so that a colon or a % in them survives.
fn basic(id: &Secret, secret: &Secret) -> HeaderValue {
    let mut pair = Zeroizing::new(String::new());
    pair.extend(form_urlencoded::byte_serialize(id.reveal().as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.reveal().as_bytes()));
    basic_value(&pair)
}

/// The value of a field for the `Basic` scheme (RFC 7617 §2); `pair` has a colon in it.
pub(super) fn basic_value(pair: &str) -> HeaderValue {
    let mut value = Zeroizing::new(String::from("Basic "));
    // Writing to a string cannot fail.
    let _ = write!(
        value,
        "{}",
        base64::display::Base64Display::new(pair.as_bytes(), &STANDARD)
    );
    let mut value = HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_before_base64() {
        let value = basic(&Secret::new("a:b c".into()), &Secret::new("ü%+/".into()));
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = STANDARD.decode(encoded).unwrap();
        assert_eq!(pair, b"a%3Ab+c:%C3%BC%25%2B%2F");
        assert!(value.is_sensitive());
    }
}
