//! The tokens that a fake has made: what each is for, and whether it is still good.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::locked::Locked;

/// From this many remembered tokens on, those that are of no use any more are forgotten.
const MANY_TOKENS: usize = 10_000;

/// Tokens, each with what it is about. They are not printed.
pub(super) struct Minted<T> {
    lifetime: Locked<Duration>,
    tokens: Locked<HashMap<String, Entry<T>>>,
}

struct Entry<T> {
    about: T,
    expires_at: Instant,
}

impl<T: Clone> Minted<T> {
    /// No tokens yet; those to come live this long.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime: Locked::new(lifetime),
            tokens: Locked::default(),
        }
    }

    pub(super) fn lifetime(&self) -> Duration {
        *self.lifetime.lock()
    }

    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.lock() = lifetime;
    }

    pub(super) fn insert(&self, token: &str, about: T) {
        self.insert_for(token, about, self.lifetime());
    }

    pub(super) fn insert_for(&self, token: &str, about: T, lifetime: Duration) {
        let now = Instant::now();
        let expires_at = now + lifetime;
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MANY_TOKENS {
            tokens.retain(|_, old| old.expires_at > now);
        }
        tokens.insert(token.to_owned(), Entry { about, expires_at });
    }

    /// What `token` is about, while it is good.
    pub(super) fn check(&self, token: &str) -> Option<T> {
        let tokens = self.tokens.lock();
        let entry = tokens.get(token)?;
        (entry.expires_at > Instant::now()).then(|| entry.about.clone())
    }

    /// The same, for the last time.
    pub(super) fn take(&self, token: &str) -> Option<T> {
        let entry = self.tokens.lock().remove(token)?;
        (entry.expires_at > Instant::now()).then_some(entry.about)
    }

    pub(super) fn revoke_all(&self) {
        self.tokens.lock().clear();
    }

    pub(super) fn revoke_if(&self, is_meant: impl Fn(&T) -> bool) {
        self.tokens
            .lock()
            .retain(|_, entry| !is_meant(&entry.about));
    }
}

impl<T> std::fmt::Debug for Minted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted")
            .field("tokens", &self.tokens.lock().len())
            .finish_non_exhaustive()
    }
}

/// This many characters of base64url, never seen before.
pub(super) fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(length)
        .collect()
}
