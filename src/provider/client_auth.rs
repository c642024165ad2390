//! How a client proves who it is at a token endpoint: the names of the OAuth client authentication method registry.

use std::fmt::Write as _;

use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::FetchError;
use super::secret::{Secret, SecretRef, Secrets};

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
    /// The id in the form, and no proof: a public client.
    None {
        /// The client's id.
        id: ClientId,
    },
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
    fn read(&self, secrets: &Secrets) -> Result<Secret, FetchError> {
        match self {
            Self::Literal(id) => Ok(Secret::new(id.clone())),
            Self::Kept(reference) => Ok(secrets.read(reference)?),
        }
    }
}

impl ClientAuth {
    /// Where what it needs is kept.
    pub(super) fn references(&self) -> impl Iterator<Item = &SecretRef> {
        let (id, secret) = match self {
            Self::Basic { id, secret } | Self::Post { id, secret } => (id, Some(secret)),
            Self::None { id } => (id, None),
        };
        let kept = match id {
            ClientId::Kept(reference) => Some(reference),
            ClientId::Literal(_) => None,
        };
        kept.into_iter().chain(secret)
    }

    /// Adds the proof to a token request: to its form, or as the value of its `Authorization` field.
    ///
    /// # Errors
    ///
    /// When a secret cannot be read.
    pub(super) fn authenticate(
        &self,
        form: &mut Form,
        secrets: &Secrets,
    ) -> Result<Option<HeaderValue>, FetchError> {
        match self {
            Self::Basic { id, secret } => {
                let (id, secret) = (id.read(secrets)?, secrets.read(secret)?);
                Ok(Some(basic(&id, &secret)))
            }
            Self::Post { id, secret } => {
                form.add("client_id", id.read(secrets)?.reveal());
                form.add("client_secret", secrets.read(secret)?.reveal());
                Ok(None)
            }
            Self::None { id } => {
                form.add("client_id", id.read(secrets)?.reveal());
                Ok(None)
            }
        }
    }
}

/// `application/x-www-form-urlencoded`, zeroed when dropped, because a secret may be in it.
#[derive(Debug, Default)]
pub struct Form(Zeroizing<String>);

impl Form {
    /// Adds a parameter.
    pub fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0
            .extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0
            .extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// The form as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// RFC 6749 §2.3.1: both are form-encoded before they are joined, so that a colon or a % in them survives.
fn basic(id: &Secret, secret: &Secret) -> HeaderValue {
    let mut pair = Zeroizing::new(String::new());
    pair.extend(form_urlencoded::byte_serialize(id.reveal().as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.reveal().as_bytes()));
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
