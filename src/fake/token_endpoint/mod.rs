//! An OAuth 2.0 token endpoint for client credentials (RFC 6749 §4.4), without a socket.

mod assertion;
mod form;
mod grant;
mod refusal;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use serde_json::{Map, Value};
use tokio::time::Instant;

pub(super) use self::form::parse as parse_form;
use self::grant::Grant;
use self::refusal::Refusal;
pub use self::rules::{ClientAuth, Dialect, LifetimeParameter, Rules, TokenStyle};
use super::answer::{self, Answer};
use super::locked::Locked;
use super::recent::Recent;
use super::{Faults, HangUp, Received};

/// From this many remembered tokens on, those that are of no use any more are forgotten.
const MANY_TOKENS: usize = 10_000;

/// A token endpoint, and the memory of every token that it issued. Clones are the same endpoint.
#[derive(Clone)]
pub struct TokenEndpoint(Arc<State>);

/// What the endpoint thinks of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is good, for these scopes.
    Good {
        /// What the token was granted.
        scopes: BTreeSet<String>,
    },
    /// It was never issued here.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its time is not over, but it was revoked.
    Revoked,
}

impl Verdict {
    /// Whether the token may be used.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }

    /// Whether the token may be used for `scope`.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        matches!(self, Self::Good { scopes } if scopes.contains(scope))
    }
}

struct State {
    rules: Rules,
    faults: Faults,
    fetches: AtomicUsize,
    granted: AtomicUsize,
    requests: Recent,
    issued: Locked<HashMap<String, Issued>>,
    seen: Locked<HashSet<String>>,
    lifetime: Locked<Duration>,
    amend: Locked<Arc<Amend>>,
    /// A public key in PEM.
    key: Locked<Option<String>>,
}

type Amend = dyn Fn(&mut Map<String, Value>) + Send + Sync;

struct Issued {
    scopes: BTreeSet<String>,
    expires_at: Instant,
    revoked: bool,
}

impl TokenEndpoint {
    /// An endpoint that follows these rules and has issued nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let lifetime = Locked::new(rules.lifetime);
        Self(Arc::new(State {
            rules,
            faults: Faults::default(),
            fetches: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            requests: Recent::default(),
            issued: Locked::default(),
            seen: Locked::default(),
            lifetime,
            amend: Locked::new(Arc::new(|_| {})),
            key: Locked::default(),
        }))
    }

    /// From now on the client may also come with an assertion that the key to this public key, in PEM, has signed.
    pub fn also_take_assertions_of(&self, public_key_pem: &str) {
        *self.0.key.lock() = Some(public_key_pem.to_owned());
    }

    /// The rules, with the one client's credentials.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// What this endpoint shall do wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// How many requests came, whatever became of them.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.0.fetches.load(Ordering::Relaxed)
    }

    /// How many of them were answered with a token.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.0.granted.load(Ordering::Relaxed)
    }

    /// The newest requests, oldest first, as they came.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.0.requests.to_vec()
    }

    /// When the newest requests came, oldest first.
    #[must_use]
    pub fn fetch_times(&self) -> Vec<Instant> {
        let requests = self.requests().into_iter();
        requests.map(|request| request.at).collect()
    }

    /// The newest request, as it came.
    #[must_use]
    pub fn last_request(&self) -> Option<Received> {
        self.0.requests.last()
    }

    /// Tokens issued from now on live this long, and say so in `expires_in`.
    pub fn set_lifetime(&self, lifetime: Duration) {
        *self.0.lifetime.lock() = lifetime;
    }

    /// Answers with a token are passed through `amend` from now on: `expires_in` as a string, no
    /// `expires_in` at all, another `token_type`.
    pub fn amend_answers(&self, amend: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        *self.0.amend.lock() = Arc::new(amend);
    }

    /// Every token issued so far is revoked.
    pub fn revoke_all(&self) {
        self.0
            .issued
            .lock()
            .values_mut()
            .for_each(|issued| issued.revoked = true);
    }

    /// This token is revoked.
    pub fn revoke(&self, token: &str) {
        if let Some(issued) = self.0.issued.lock().get_mut(token) {
            issued.revoked = true;
        }
    }

    /// The time of every token issued so far is over.
    pub fn expire_all(&self) {
        let now = Instant::now();
        self.0
            .issued
            .lock()
            .values_mut()
            .for_each(|issued| issued.expires_at = now);
    }

    /// What this endpoint thinks of `token` now.
    #[must_use]
    pub fn is_good(&self, token: &str) -> Verdict {
        let issued = self.0.issued.lock();
        match issued.get(token) {
            None => Verdict::Unknown,
            Some(issued) if issued.expires_at <= Instant::now() => Verdict::Expired,
            Some(issued) if issued.revoked => Verdict::Revoked,
            Some(issued) => Verdict::Good {
                scopes: issued.scopes.clone(),
            },
        }
    }

    /// Answers a request for a token.
    pub(super) async fn answer(&self, request: Received) -> Result<Answer, HangUp> {
        let state = &self.0;
        state.fetches.fetch_add(1, Ordering::Relaxed);
        state.requests.push(request.clone());
        let refuse = |refusal: Refusal| refusal.answer(state.rules.dialect);
        if let Some(wrong) = state
            .faults
            .meet(|| refuse(Refusal::Client { challenge: true }))
            .await?
        {
            return Ok(wrong);
        }
        Ok(match Grant::judge(&state.rules_for(&request), &request) {
            Ok(grant) if !state.is_new(grant.jti.as_ref()) => {
                refuse(Refusal::Client { challenge: false })
            }
            Ok(grant) => self.issue(grant),
            Err(refusal) => refuse(refusal),
        })
    }

    fn issue(&self, grant: Grant) -> Answer {
        let state = &self.0;
        let lifetime = grant.lifetime.unwrap_or_else(|| *state.lifetime.lock());
        let token = state.rules.token_style.token();
        let mut document = Map::new();
        document.insert("access_token".to_owned(), token.clone().into());
        document.insert("expires_in".to_owned(), lifetime.as_secs().into());
        document.insert("token_type".to_owned(), "Bearer".into());
        document.insert("scope".to_owned(), grant.scopes.join(" ").into());
        state.remember(
            token,
            Issued {
                scopes: grant.scopes.into_iter().collect(),
                expires_at: Instant::now() + lifetime,
                revoked: false,
            },
        );
        state.granted.fetch_add(1, Ordering::Relaxed);
        let amend = Arc::clone(&state.amend.lock());
        amend(&mut document);
        let mut answer = answer::json(StatusCode::OK, &Value::Object(document));
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store")); // RFC 6749 §5.1
        answer
            .headers_mut()
            .insert(PRAGMA, HeaderValue::from_static("no-cache"));
        answer
    }
}

impl State {
    /// The rules, as they are for a client that comes in this way.
    fn rules_for(&self, request: &Received) -> Cow<'_, Rules> {
        let parameters = form::parse(&request.body).unwrap_or_default();
        let asserts = parameters
            .iter()
            .any(|(name, _)| name == "client_assertion");
        match self.key.lock().clone().filter(|_| asserts) {
            Some(key) => Cow::Owned(Rules {
                client_auth: ClientAuth::PrivateKeyJwt,
                client_secret: key,
                ..self.rules.clone()
            }),
            None => Cow::Borrowed(&self.rules),
        }
    }

    /// Whether the assertion of this `jti` comes for the first time (RFC 7523 §3, rule 7).
    fn is_new(&self, jti: Option<&String>) -> bool {
        let mut seen = self.seen.lock();
        if seen.len() >= MANY_TOKENS {
            seen.clear();
        }
        jti.is_none_or(|jti| seen.insert(jti.clone()))
    }

    fn remember(&self, token: String, new: Issued) {
        let mut issued = self.issued.lock();
        if issued.len() >= MANY_TOKENS {
            let now = Instant::now();
            issued.retain(|_, old| !old.revoked && old.expires_at > now);
        }
        issued.insert(token, new);
    }
}

impl std::fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("fetches", &self.fetches())
            .field("granted", &self.granted())
            .finish_non_exhaustive()
    }
}
