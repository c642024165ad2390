//! The newest refresh token, where every answer may bring another one (RFC 6749 §6).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::secret::Secret;

/// The refresh token that came with the newest answer (RFC 6749 §6): the one before it may be of no use any more.
#[derive(Debug, Default)]
pub struct Rotated(Mutex<Option<Generation>>);

#[derive(Debug)]
struct Generation {
    /// From which all of them descend. Another one begins anew.
    bootstrap: Secret,
    latest: Secret,
}

impl Rotated {
    /// The newest descendant of this first one.
    pub(super) fn latest(&self, bootstrap: Secret) -> Secret {
        match &*self.lock() {
            Some(known) if known.bootstrap == bootstrap => known.latest.clone(),
            _ => bootstrap,
        }
    }

    /// The newest one is this from now on.
    pub(super) fn keep(&self, bootstrap: Secret, latest: Secret) {
        *self.lock() = Some(Generation { bootstrap, latest });
    }

    /// The newest one was refused: the first one is as good.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    // Held for a move of pointers, never across an await. What it guards cannot be half written.
    fn lock(&self) -> MutexGuard<'_, Option<Generation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_first_token_that_was_replaced_begins_anew() {
        let rotated = Rotated::default();
        assert_eq!(rotated.latest(secret("first")), secret("first"));
        rotated.keep(secret("first"), secret("second"));
        assert_eq!(rotated.latest(secret("first")), secret("second"));
        assert_eq!(rotated.latest(secret("other")), secret("other"));
        rotated.forget();
        assert_eq!(rotated.latest(secret("first")), secret("first"));
    }
}
