//! A long-lived key, read from where it is kept.

use std::time::Duration;

use super::extract;
use super::secret::{SecretRef, Secrets};
use super::{FetchError, Grant, Lifetime};

/// `type = "static"`
#[derive(Debug)]
pub struct StaticKey {
    /// Where the key is.
    pub secret: SecretRef,
    /// How it is read.
    pub secrets: Secrets,
}

impl StaticKey {
    /// Reads the key.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be a field value.
    pub(super) fn fetch(&self) -> Result<Grant, FetchError> {
        let token = self.secrets.read(&self.secret)?;
        extract::check_token(token.reveal())?;
        Ok(Grant::new(
            token,
            Lifetime::Unlimited {
                look_again: LOOK_AGAIN,
            },
        ))
    }
}

/// A rotated key is in use after this time at the latest, or at the first 401.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
