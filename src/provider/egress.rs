//! How pillion proves who it is to an egress proxy: the `Basic` scheme (RFC 7617).

use http::HeaderValue;
use zeroize::Zeroizing;

use super::client_auth::{ClientId, basic_value};
use super::secret::{SecretError, SecretRef, Secrets};

/// A user of an egress proxy.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ProxyUser {
    /// Its name.
    pub username: ClientId,
    /// Its password.
    pub password: SecretRef,
}

impl ProxyUser {
    /// The value of `Proxy-Authorization`, made of what the secrets are now.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or the name has a colon, which would begin the password.
    pub fn authorization(&self, secrets: &Secrets) -> Result<HeaderValue, SecretError> {
        let mut pair = Zeroizing::new(String::new());
        match &self.username {
            ClientId::Literal(name) => pair.push_str(name),
            ClientId::Kept(reference) => {
                pair.push_str(secrets.read(reference)?.reveal());
                if pair.contains(':') {
                    return Err(SecretError {
                        reference: reference.clone(),
                        reason: "has a colon, which a user's name cannot have".to_owned(),
                    });
                }
            }
        }
        pair.push(':');
        pair.push_str(secrets.read(&self.password)?.reveal());
        Ok(basic_value(&pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(username: ClientId) -> ProxyUser {
        ProxyUser {
            username,
            password: SecretRef::Env("open sesame".to_owned()),
        }
    }

    fn secrets() -> Secrets {
        Secrets::supplied(|reference| match reference {
            SecretRef::Env(name) => Some(name.clone()),
            SecretRef::File(_) => None,
        })
    }

    /// The example of RFC 7617 §2.
    #[test]
    fn name_and_password_are_joined_as_they_are() {
        let value = user(ClientId::Literal("Aladdin".to_owned())).authorization(&secrets());
        let value = value.unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_name_with_a_colon_in_it_is_not_sent() {
        let kept = ClientId::Kept(SecretRef::Env("a:b".to_owned()));
        user(kept).authorization(&secrets()).unwrap_err();
    }
}
