//! `/sdk/auth/getToken`: a password, or a refresh token, for the token of a bank's backend.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{APP_ID, APP_SECRET};
use crate::fake::answer::{self, Answer};
use crate::fake::locked::Locked;
use crate::fake::minted::{Minted, random};
use crate::fake::recent::Recent;
use crate::fake::{Faults, HangUp, Received, clock};

/// From this many remembered refresh tokens on, the used ones are forgotten.
const MANY_TOKENS: usize = 10_000;

/// The token endpoint, and its memory.
pub(super) struct Backend {
    pub(super) faults: Faults,
    pub(super) requests: Recent,
    pub(super) access: Minted<Login>,
    pub(super) refresh: Minted<Login>,
    pub(super) logins: AtomicUsize,
    pub(super) refreshes: AtomicUsize,
    pub(super) habits: Locked<Habits>,
    /// Refresh tokens that were replaced, each with the login it came from.
    used: Locked<HashMap<String, Login>>,
    next_login: AtomicU64,
}

/// The login that a token goes back to, by way of any number of refreshes.
pub(super) type Login = u64;

/// What a test may change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    pub(super) rotate: bool,
    pub(super) omit_refresh_token: bool,
}

/// Knows tokens, so it does not print them.
impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

/// Why there is no token. No error of Infocus is known to the public; these are Keycloak's, which
/// makes its tokens.
enum Refusal {
    Request(&'static str),
    Credentials,
    GrantType,
    RefreshToken,
}

impl Backend {
    pub(super) fn new() -> Self {
        Self {
            faults: Faults::default(),
            requests: Recent::default(),
            access: Minted::new(Duration::from_secs(1800)),
            refresh: Minted::new(Duration::from_secs(86_400)),
            logins: AtomicUsize::new(0),
            refreshes: AtomicUsize::new(0),
            habits: Locked::new(Habits {
                rotate: true,
                omit_refresh_token: false,
            }),
            used: Locked::default(),
            next_login: AtomicU64::new(0),
        }
    }

    pub(super) async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        self.requests.push(request.clone());
        let document = request.json().unwrap_or_default();
        let grant_type = document.get("grant_type").and_then(Value::as_str);
        match grant_type {
            Some("password") => self.logins.fetch_add(1, Ordering::Relaxed),
            Some("refresh_token") => self.refreshes.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        if let Some(wrong) = self.faults.meet(|| Refusal::Credentials.answer()).await? {
            return Ok(wrong);
        }
        if request.method != Method::POST {
            return Ok(super::refuse(
                request,
                StatusCode::METHOD_NOT_ALLOWED,
                "POST only",
            ));
        }
        Ok(self
            .grant(request, &document)
            .unwrap_or_else(|refusal| refusal.answer()))
    }

    fn grant(&self, request: &Received, document: &Value) -> Result<Answer, Refusal> {
        if request.media_type().as_deref() != Some("application/json") || !document.is_object() {
            return Err(Refusal::Request("The body must be a JSON object"));
        }
        let text = |name: &str, missing: &'static str| {
            document
                .get(name)
                .and_then(Value::as_str)
                .ok_or(Refusal::Request(missing))
        };
        match text("grant_type", "Missing form parameter: grant_type")? {
            "password" => {
                let username = text("username", "Missing parameter: username")?;
                let password = text("password", "Missing parameter: password")?;
                if (username, password) != (APP_ID, APP_SECRET) {
                    return Err(Refusal::Credentials);
                }
                Ok(self.issue(self.next_login.fetch_add(1, Ordering::Relaxed), None))
            }
            "refresh_token" => self.renew(text("refresh_token", "No refresh token")?),
            _ => Err(Refusal::GrantType),
        }
    }

    fn renew(&self, old: &str) -> Result<Answer, Refusal> {
        if let Some(login) = self.used.lock().get(old).copied() {
            self.end(login); // whoever sends it again may have stolen it
            return Err(Refusal::RefreshToken);
        }
        let habits = *self.habits.lock();
        if habits.omit_refresh_token || !habits.rotate {
            let login = self.refresh.check(old).ok_or(Refusal::RefreshToken)?;
            return Ok(self.issue(login, Some(old)));
        }
        let login = self.refresh.take(old).ok_or(Refusal::RefreshToken)?;
        let mut used = self.used.lock();
        if used.len() >= MANY_TOKENS {
            used.clear();
        }
        used.insert(old.to_owned(), login);
        drop(used);
        Ok(self.issue(login, None))
    }

    /// Nothing that goes back to this login is good any more.
    fn end(&self, login: Login) {
        self.access.revoke_if(|of| *of == login);
        self.refresh.revoke_if(|of| *of == login);
    }

    fn issue(&self, login: Login, kept: Option<&str>) -> Answer {
        let token = access_token(self.access.lifetime());
        self.access.insert(&token, login);
        let mut document = json!({
            "access_token": token,
            "expires_in": self.access.lifetime().as_secs(),
            "token_type": "bearer",
        });
        let refresh_token = match kept {
            Some(old) => old.to_owned(),
            None => {
                let fresh = random(180);
                self.refresh.insert(&fresh, login);
                fresh
            }
        };
        if let Some(members) = document.as_object_mut()
            && !(kept.is_some() && self.habits.lock().omit_refresh_token)
        {
            members.insert("refresh_token".to_owned(), json!(refresh_token));
            let seconds = self.refresh.lifetime().as_secs();
            members.insert("refresh_expires_in".to_owned(), json!(seconds));
        }
        let mut answer = answer::json(StatusCode::OK, &document);
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// Two segments: the documentation's example begins with the claims, `{"jti":`, so ours does.
fn access_token(lifetime: Duration) -> String {
    let now = clock::unix_now();
    let claims = format!(
        concat!(
            r#"{{"jti":"{}","exp":{},"nbf":0,"iat":{},"#,
            r#""iss":"https://keycloak.infocus.company/auth/realms/master","#,
            r#""typ":"Bearer","azp":"API","auth_time":0}}"#
        ),
        random(36),
        now + lifetime.as_secs(),
        now,
    );
    format!("{}.{}", URL_SAFE_NO_PAD.encode(claims), random(342))
}

impl Refusal {
    fn answer(self) -> Answer {
        let (status, error, description) = match self {
            Self::Request(reason) => (StatusCode::BAD_REQUEST, "invalid_request", reason),
            Self::Credentials => (
                StatusCode::UNAUTHORIZED,
                "invalid_grant",
                "Invalid user credentials",
            ),
            Self::GrantType => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Unsupported grant_type",
            ),
            Self::RefreshToken => (
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                "Token is not active",
            ),
        };
        answer::json(
            status,
            &json!({ "error": error, "error_description": description }),
        )
    }
}
