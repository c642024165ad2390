//! The newest refresh token, where every answer may bring another one (RFC 6749 §6).

use std::hash::{Hash, Hasher};

use http::Uri;
use tokio::sync::{Mutex, MutexGuard};

use super::secret::{Secret, SecretRef};

/// A refresh token from outside and its descendants: each may be good for one use, and the second use of one may be the end
/// of all (RFC 9700 §4.14.2). So whoever wants to use it waits for its [`turn`](Self::turn).
///
/// There is one for all providers that begin with the same token at the same endpoint: it outlives a reload, and tokens of
/// several scopes take turns. It is kept in memory only, and replicas do not know of each other: each needs a first token of
/// its own, unless the provider leaves the first one good when it gives another.
#[derive(Debug)]
pub struct Rotation {
    first: SecretRef,
    token_endpoint: Uri,
    /// Held while the token is on its way and the answer has not come: nobody else can do anything useful with it.
    newest: Mutex<Option<Generation>>,
}

#[derive(Debug)]
struct Generation {
    /// From which all of them descend. Another one begins anew.
    first: Secret,
    newest: Secret,
}

impl Rotation {
    /// Of the refresh token in this place, at this endpoint. Nothing has come of it yet.
    #[must_use]
    pub fn new(first: SecretRef, token_endpoint: Uri) -> Self {
        Self {
            first,
            token_endpoint,
            newest: Mutex::default(),
        }
    }

    /// Where the first one is.
    #[must_use]
    pub const fn first(&self) -> &SecretRef {
        &self.first
    }

    /// Waits until nobody else is using the newest descendant of this first one.
    pub(super) async fn turn(&self, first: Secret) -> Turn<'_> {
        let newest = self.newest.lock().await;
        Turn { first, newest }
    }

    fn identity(&self) -> (&SecretRef, &Uri) {
        (&self.first, &self.token_endpoint)
    }
}

/// Two are the same if they begin with the same.
impl PartialEq for Rotation {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Rotation {}

impl Hash for Rotation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The use of a refresh token by one request, which ends when this is dropped.
pub(super) struct Turn<'a> {
    first: Secret,
    newest: MutexGuard<'a, Option<Generation>>,
}

impl Turn<'_> {
    /// The token to use.
    pub(super) fn token(&self) -> &Secret {
        match &*self.newest {
            Some(known) if known.first == self.first => &known.newest,
            _ => &self.first,
        }
    }

    /// The newest one is this from now on.
    pub(super) fn keep(&mut self, newest: Secret) {
        let first = self.first.clone();
        *self.newest = Some(Generation { first, newest });
    }

    /// The newest one was refused: the first one is as good.
    pub(super) fn forget(&mut self) {
        *self.newest = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn rotation() -> Rotation {
        let endpoint = Uri::from_static("https://login.example/token");
        Rotation::new(SecretRef::Env("FIRST".to_owned()), endpoint)
    }

    #[tokio::test]
    async fn a_first_token_that_was_replaced_begins_anew() {
        let rotation = rotation();
        let first = || rotation.turn(secret("first"));
        assert_eq!(first().await.token(), &secret("first"));
        first().await.keep(secret("second"));
        assert_eq!(first().await.token(), &secret("second"));
        let other = rotation.turn(secret("other")).await;
        assert_eq!(other.token(), &secret("other"));
        drop(other);
        first().await.forget();
        assert_eq!(first().await.token(), &secret("first"));
    }

    #[tokio::test]
    async fn one_uses_it_at_a_time() {
        let rotation = rotation();
        let mut turn = rotation.turn(secret("first")).await;
        assert!(rotation.turn(secret("first")).now_or_never().is_none());
        turn.keep(secret("second"));
        drop(turn);
        let next = rotation.turn(secret("first")).await;
        assert_eq!(next.token(), &secret("second"));
    }
}
