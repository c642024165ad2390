//! The Concierge service of Infocus: a backend token with a refresh token, client tokens made from
//! it, and an API that takes it.

mod backend;
mod client_token;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::backend::Backend;
use self::client_token::{ClientTokens, Kind};
use super::answer::{self, Answer};
use super::bearer::bearer;
use super::locked::Locked;
use super::recent::Recent;
use super::{Authority, FakeError, Faults, HangUp, Received, Server};

/// Made up, and with everything in it that has to be escaped in JSON.
const APP_ID: &str = "made-up \"application\" of the demo";
const APP_SECRET: &str = "made up: \\ and \"quotes\" and {braces} and ü";

/// From this many users on, all are forgotten.
const MANY_USERS: usize = 10_000;

/// Infocus, with one application.
#[derive(Debug)]
pub struct Concierge {
    site: Arc<Site>,
    server: Server,
}

#[derive(Debug)]
struct Site {
    backend: Backend,
    clients: ClientTokens,
    api_faults: Faults,
    api_requests: Recent,
    users: Locked<BTreeMap<String, Value>>,
}

impl Concierge {
    /// The one host.
    pub const HOST: &str = "api.infocus.company";
    /// The endpoint of backend tokens.
    pub const TOKEN_ENDPOINT: &str = "https://api.infocus.company/sdk/auth/getToken";

    /// Starts the host, with a certificate of `authority` or without TLS.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be made or no socket can be opened.
    pub async fn start(authority: Option<&Authority>) -> Result<Self, FakeError> {
        let tls = authority
            .map(|authority| authority.server_config(&[Self::HOST]))
            .transpose()?;
        let site = Arc::new(Site {
            backend: Backend::new(),
            clients: ClientTokens::new(),
            api_faults: Faults::default(),
            api_requests: Recent::default(),
            users: Locked::default(),
        });
        let answering = Arc::clone(&site);
        let server = Server::start(tls, move |request| {
            let site = Arc::clone(&answering);
            async move { site.answer(&Received::read(request).await?).await }
        })
        .await?;
        Ok(Self { site, server })
    }

    /// The application's id: `username`.
    #[must_use]
    pub fn app_id(&self) -> &str {
        APP_ID
    }

    /// The application's secret: `password`.
    #[must_use]
    pub fn app_secret(&self) -> &str {
        APP_SECRET
    }

    /// What the endpoint of backend tokens shall do wrong.
    #[must_use]
    pub fn token_faults(&self) -> &Faults {
        &self.site.backend.faults
    }

    /// What the endpoints of client tokens shall do wrong.
    #[must_use]
    pub fn client_token_faults(&self) -> &Faults {
        &self.site.clients.faults
    }

    /// What the rest of the API shall do wrong.
    #[must_use]
    pub fn api_faults(&self) -> &Faults {
        &self.site.api_faults
    }

    /// How many times somebody came with the password, whatever became of it.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.site.backend.logins.load(Ordering::Relaxed)
    }

    /// How many times somebody came with a refresh token, whatever became of it.
    #[must_use]
    pub fn refreshes(&self) -> usize {
        self.site.backend.refreshes.load(Ordering::Relaxed)
    }

    /// How many times client tokens were asked for, whatever became of the requests.
    #[must_use]
    pub fn client_token_fetches(&self) -> usize {
        self.site.clients.fetches.load(Ordering::Relaxed)
    }

    /// Backend tokens made from now on live this long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.site.backend.access.set_lifetime(lifetime);
    }

    /// Refresh tokens made from now on live this long.
    pub fn set_refresh_lifetime(&self, lifetime: Duration) {
        self.site.backend.refresh.set_lifetime(lifetime);
    }

    /// Whether a refresh token is good for one refresh, as it is at first: a second one with it
    /// ends everything that came from the same login.
    pub fn rotate_refresh_tokens(&self, yes: bool) {
        self.site.backend.habits.lock().rotate = yes;
    }

    /// Whether the answer to a refresh leaves the refresh token out; the old one stays good then.
    pub fn omit_refresh_token(&self, yes: bool) {
        self.site.backend.habits.lock().omit_refresh_token = yes;
    }

    /// Whether client tokens say when they expire.
    pub fn state_client_token_expiry(&self, yes: bool) {
        self.site.clients.hide_expiry.store(!yes, Ordering::Relaxed);
    }

    /// No backend token made so far is good any more. Refresh tokens are, and client tokens too.
    pub fn revoke_all(&self) {
        self.site.backend.access.revoke_all();
    }

    /// No refresh token made so far is good any more.
    pub fn revoke_refresh_tokens(&self) {
        self.site.backend.refresh.revoke_all();
    }

    /// No client token made so far is good any more.
    pub fn revoke_client_tokens(&self) {
        self.site.clients.tokens.revoke_all();
    }

    /// The newest requests for backend tokens, oldest first, whatever became of them.
    #[must_use]
    pub fn token_requests(&self) -> Vec<Received> {
        self.site.backend.requests.to_vec()
    }

    /// The newest requests for client tokens, oldest first, whatever became of them.
    #[must_use]
    pub fn client_token_requests(&self) -> Vec<Received> {
        self.site.clients.requests.to_vec()
    }

    /// The newest other requests, oldest first, whatever became of them.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Received> {
        self.site.api_requests.to_vec()
    }

    /// The newest of them.
    #[must_use]
    pub fn last_api_request(&self) -> Option<Received> {
        self.site.api_requests.last()
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Site {
    async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        if !request.is_for(Concierge::HOST) {
            return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
        }
        if request.path() == "/sdk/auth/getToken" {
            return self.backend.answer(request).await;
        }
        match Kind::of(request.path()) {
            Some(kind) => self.client_token(kind, request).await,
            None => self.api(request).await,
        }
    }

    async fn client_token(&self, kind: Kind, request: &Received) -> Result<Answer, HangUp> {
        let clients = &self.clients;
        clients.requests.push(request.clone());
        clients.fetches.fetch_add(1, Ordering::Relaxed);
        if let Some(wrong) = clients.faults.meet(|| unauthorized(request)).await? {
            return Ok(wrong);
        }
        if request.method != Method::POST {
            return Ok(refuse(request, StatusCode::METHOD_NOT_ALLOWED, "POST only"));
        }
        if !self.is_backend(request) {
            return Ok(unauthorized(request));
        }
        Ok(clients
            .answer(kind, request)
            .unwrap_or_else(|reason| refuse(request, StatusCode::BAD_REQUEST, &reason)))
    }

    fn is_backend(&self, request: &Received) -> bool {
        bearer(request).is_some_and(|token| self.backend.access.check(token).is_some())
    }

    async fn api(&self, request: &Received) -> Result<Answer, HangUp> {
        self.api_requests.push(request.clone());
        if let Some(wrong) = self.api_faults.meet(|| unauthorized(request)).await? {
            return Ok(wrong);
        }
        // Our guess, so that a client token can be tried: what the mobile kit calls is not public.
        if request.path() == "/sdk/client/profile" {
            let owner = bearer(request).and_then(|token| self.clients.tokens.check(token));
            return Ok(owner.map_or_else(
                || unauthorized(request),
                |owner| answer::json(StatusCode::OK, &owner),
            ));
        }
        let Some(action) = request.path().strip_prefix("/api/user/") else {
            return Ok(refuse(request, StatusCode::NOT_FOUND, "Not found"));
        };
        if !self.is_backend(request) {
            return Ok(unauthorized(request));
        }
        Ok(self.users(action, request))
    }

    /// Only the paths and `clid`, a bank's id of its customer, are known; the rest is our guess.
    fn users(&self, action: &str, request: &Received) -> Answer {
        let document = request.json().unwrap_or_default();
        let clid = document.get("clid").and_then(Value::as_str);
        let mut users = self.users.lock();
        let outcome = match (action, clid) {
            ("list", _) => json!({ "users": users.values().collect::<Vec<_>>() }),
            ("add" | "update", Some(clid)) => {
                if users.len() >= MANY_USERS {
                    users.clear();
                }
                users.insert(clid.to_owned(), document.clone());
                document
            }
            ("close", Some(clid)) => {
                if users.remove(clid).is_none() {
                    return refuse(request, StatusCode::NOT_FOUND, "No such user");
                }
                json!({ "clid": clid, "closed": true })
            }
            ("add" | "update" | "close", None) => {
                return refuse(request, StatusCode::BAD_REQUEST, "clid is missing");
            }
            _ => return refuse(request, StatusCode::NOT_FOUND, "Not found"),
        };
        answer::json(StatusCode::OK, &outcome)
    }
}

fn unauthorized(request: &Received) -> Answer {
    refuse(
        request,
        StatusCode::UNAUTHORIZED,
        "Invalid or expired token",
    )
}

/// Our guess: no error of the API is known.
fn refuse(request: &Received, status: StatusCode, message: &str) -> Answer {
    answer::json(
        status,
        &json!({
            "status": status.as_u16(),
            "error": status.canonical_reason(),
            "message": message,
            "path": request.path(),
        }),
    )
}
