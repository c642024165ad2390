//! Forage's sandbox: authentication tokens, session tokens made from them, and an API that takes
//! either.

mod api;
mod refusal;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use self::api::Api;
use self::session::Sessions;
use super::answer::{self, Answer};
use super::{
    Authority, ClientAuth, Dialect, FakeError, Faults, HangUp, LifetimeParameter, Received, Rules,
    Server, TokenEndpoint, TokenStyle,
};

/// Made up, and with everything in it that has to be escaped in front of base64.
const CLIENT_ID: &str = "made-up+client/of the demo";
const CLIENT_SECRET: &str = "made up: 50% off, +1 = \"ü\" & co/~";

/// Forage, with one client.
#[derive(Debug)]
pub struct Forage {
    token_endpoint: TokenEndpoint,
    sessions: Arc<Sessions>,
    api: Arc<Api>,
    server: Server,
}

impl Forage {
    /// The one host.
    pub const HOST: &str = "api.sandbox.joinforage.app";
    /// The token endpoint.
    pub const TOKEN_ENDPOINT: &str = "https://api.sandbox.joinforage.app/o/token/";

    /// Starts the host, with a certificate of `authority` or without TLS.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be made or no socket can be opened.
    pub async fn start(authority: Option<&Authority>) -> Result<Self, FakeError> {
        let tls = authority
            .map(|authority| authority.server_config(&[Self::HOST]))
            .transpose()?;
        let token_endpoint = TokenEndpoint::new(rules());
        let sessions = Arc::new(Sessions::new(token_endpoint.clone()));
        let api = Arc::new(Api::new(Arc::clone(&sessions)));
        let site = Arc::new(Site {
            tokens: token_endpoint.clone(),
            sessions: Arc::clone(&sessions),
            api: Arc::clone(&api),
        });
        let server = Server::start(tls, move |request| {
            let site = Arc::clone(&site);
            async move { site.answer(Received::read(request).await?).await }
        })
        .await?;
        Ok(Self {
            token_endpoint,
            sessions,
            api,
            server,
        })
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.token_endpoint.rules().client_id
    }

    /// The client's secret.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.token_endpoint.rules().client_secret
    }

    /// The endpoint of authentication tokens. Revoking one there ends its sessions too.
    #[must_use]
    pub fn token_endpoint(&self) -> &TokenEndpoint {
        &self.token_endpoint
    }

    /// What the mint of session tokens shall do wrong.
    #[must_use]
    pub fn session_faults(&self) -> &Faults {
        self.sessions.faults()
    }

    /// What the rest of the API shall do wrong.
    #[must_use]
    pub fn api_faults(&self) -> &Faults {
        self.api.faults()
    }

    /// How many session tokens were asked for, whatever became of the requests.
    #[must_use]
    pub fn session_fetches(&self) -> usize {
        self.sessions.fetches()
    }

    /// The newest requests for session tokens, oldest first, whatever became of them.
    #[must_use]
    pub fn session_requests(&self) -> Vec<Received> {
        self.sessions.requests()
    }

    /// Session tokens made from now on live this long.
    pub fn set_session_lifetime(&self, lifetime: Duration) {
        self.sessions.set_lifetime(lifetime);
    }

    /// Every session token made so far has expired.
    pub fn expire_sessions(&self) {
        self.sessions.expire_all();
    }

    /// The newest requests to the rest of the API, oldest first, whatever became of them.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Received> {
        self.api.requests()
    }

    /// The newest of them.
    #[must_use]
    pub fn last_api_request(&self) -> Option<Received> {
        self.api.last_request()
    }

    /// How many payments were made. A repeated `Idempotency-Key` makes no second one.
    #[must_use]
    pub fn payments(&self) -> usize {
        self.api.payments()
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

fn rules() -> Rules {
    Rules {
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        client_auth: ClientAuth::ClientSecretBasic,
        audience: None,
        scopes: ["hosted_checkout", "pinpad_only", "reporting", "accounts"]
            .map(str::to_owned)
            .to_vec(),
        default_scope: Some("hosted_checkout".to_owned()),
        lifetime: Duration::from_secs(604_800),
        // The documentation begins at a day; Forage's own test asks for a minute.
        lifetime_parameter: Some(LifetimeParameter {
            name: "expiration",
            seconds: 1..=2_592_000,
        }),
        token_style: TokenStyle::Prefixed("sandbox_"),
        dialect: Dialect::Rfc6749,
    }
}

/// What the server's tasks share.
struct Site {
    tokens: TokenEndpoint,
    sessions: Arc<Sessions>,
    api: Arc<Api>,
}

impl Site {
    /// Nothing here redirects to the path with the slash: a POST would lose its body.
    async fn answer(&self, request: Received) -> Result<Answer, HangUp> {
        if !request.is_for(Forage::HOST) {
            return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
        }
        match request.path() {
            "/o/token/" => self.tokens.answer(request).await,
            "/api/session_token/" => self.sessions.answer(&request).await,
            _ => self.api.answer(&request).await,
        }
    }
}
