//! Session tokens: made from an authentication token for one merchant, and dead when it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::fake::answer::{self, Answer};
use crate::fake::bearer::bearer;
use crate::fake::digest::hmac_sha256;
use crate::fake::locked::Locked;
use crate::fake::recent::Recent;
use crate::fake::{Faults, HangUp, Received, TokenEndpoint, Verdict};

/// The scope of an authentication token that session tokens are made from, and that the API asks
/// for.
const SCOPE: &str = "pinpad_only";

/// What every session token begins with: the environment, and the beginning of a JWT.
const PREFIX: &str = "sandbox_eyJ";

/// From this many remembered tokens on, the expired are forgotten.
const MANY_SESSIONS: usize = 10_000;

/// The mint of session tokens, and its memory.
pub(super) struct Sessions {
    tokens: TokenEndpoint,
    faults: Faults,
    fetches: AtomicUsize,
    requests: Recent,
    lifetime: Locked<Duration>,
    made: Locked<HashMap<String, Session>>,
    key: [u8; 32],
}

#[derive(Clone)]
struct Session {
    parent: String,
    merchant: String,
    expires_at: Instant,
}

/// It knows tokens and a key, so it does not print them.
impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("fetches", &self.fetches())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    pub(super) fn new(tokens: TokenEndpoint) -> Self {
        Self {
            tokens,
            faults: Faults::default(),
            fetches: AtomicUsize::new(0),
            requests: Recent::default(),
            lifetime: Locked::new(Duration::from_secs(900)),
            made: Locked::default(),
            key: std::array::from_fn(|_| fastrand::u8(..)),
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.requests.to_vec()
    }

    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.lock() = lifetime;
    }

    pub(super) fn expire_all(&self) {
        let now = Instant::now();
        self.made
            .lock()
            .values_mut()
            .for_each(|session| session.expires_at = now);
    }

    /// Answers `POST /api/session_token/`. Whatever body came is of no importance, as with Forage.
    pub(super) async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.requests.push(request.clone());
        if let Some(wrong) = self.faults.meet(|| Refusal::Token.answer(request)).await? {
            return Ok(wrong);
        }
        Ok(self
            .mint(request)
            .unwrap_or_else(|refusal| refusal.answer(request)))
    }

    fn mint(&self, request: &Received) -> Result<Answer, Refusal> {
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        let parent = bearer(request).ok_or(Refusal::Token)?;
        self.check_authentication_token(parent)?;
        let merchant = merchant(request)?;
        let lifetime = *self.lifetime.lock();
        let token = self.token(merchant, lifetime);
        self.remember(
            &token,
            Session {
                parent: parent.to_owned(),
                merchant: merchant.to_owned(),
                expires_at: Instant::now() + lifetime,
            },
        );
        Ok(answer::json(StatusCode::OK, &json!({ "token": token })))
    }

    /// Whether `request` carries a token, of either kind, that may do business for the merchant it
    /// names.
    pub(super) fn check(&self, request: &Received) -> Result<(), Refusal> {
        let token = bearer(request).ok_or(Refusal::Token)?;
        if !token.starts_with(PREFIX) {
            self.check_authentication_token(token)?;
            return merchant(request).map(|_| ());
        }
        let session = self
            .made
            .lock()
            .get(token)
            .cloned()
            .ok_or(Refusal::BadSignature)?;
        if session.expires_at <= Instant::now() {
            return Err(Refusal::ExpiredSession);
        }
        match self.tokens.is_good(&session.parent) {
            Verdict::Good { .. } => {}
            Verdict::Expired => return Err(Refusal::ExpiredSignature),
            Verdict::Revoked | Verdict::Unknown => return Err(Refusal::BadSignature),
        }
        // Our guess; a proxy that mixes up two merchants' tokens shall not pass.
        if merchant(request)? == session.merchant {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    fn check_authentication_token(&self, token: &str) -> Result<(), Refusal> {
        let verdict = self.tokens.is_good(token);
        if !verdict.is_good() {
            return Err(Refusal::Token);
        }
        if verdict.allows(SCOPE) {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    /// `sandbox_` and a JWT, signed with HS256.
    fn token(&self, merchant: &str, lifetime: Duration) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = json!({
            "iat": now.as_secs(),
            "exp": (now + lifetime).as_secs(),
            "ma": merchant,
            "jti": format!("{:032x}", fastrand::u128(..)),
        });
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(&self.key, signed.as_bytes()));
        format!("sandbox_{signed}.{signature}")
    }

    fn remember(&self, token: &str, session: Session) {
        let mut made = self.made.lock();
        if made.len() >= MANY_SESSIONS {
            let now = Instant::now();
            made.retain(|_, old| old.expires_at > now);
        }
        made.insert(token.to_owned(), session);
    }
}

/// The merchant that a request names: seven digits, ten letters and digits, or `mid/` and an id.
/// Forage's documentation of all three leaves too much open to refuse any value.
fn merchant(request: &Received) -> Result<&str, Refusal> {
    request
        .field("merchant-account")
        .filter(|merchant| !merchant.is_empty())
        .ok_or(Refusal::Merchant)
}
