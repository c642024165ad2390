//! Stitch: client tokens from one host, a GraphQL API on another.

mod api;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;

use self::api::Api;
use super::answer::{self, Answer};
use super::{
    Authority, ClientAuth, Dialect, FakeError, Faults, HangUp, Received, Rules, Server,
    TokenEndpoint, TokenStyle,
};

/// Made up, and with everything in it that has to be escaped in a form.
const CLIENT_ID: &str = "test-5f1a0f2e-8c1b-4d53-9d0a-6f2f5b3c7e11";
const CLIENT_SECRET: &str = "made up: 100% of nothing & more+more=less/ü";

/// The scopes of client tokens that Stitch documents.
const SCOPES: [&str; 8] = [
    "client_paymentrequest",
    "client_bankaccountverification",
    "client_imageupload",
    "client_businesslookup",
    "client_paymentauthorizationrequest",
    "client_refund",
    "client_disbursement",
    "client_recurringpaymentconsentrequest",
];

/// Stitch, with its two hosts and one client.
#[derive(Debug)]
pub struct Stitch {
    token_endpoint: TokenEndpoint,
    api: Arc<Api>,
    secure_server: Server,
    api_server: Server,
}

impl Stitch {
    /// The host of the token endpoint.
    pub const SECURE_HOST: &str = "secure.stitch.money";
    /// The host of the API.
    pub const API_HOST: &str = "api.stitch.money";
    /// The token endpoint, which is also the `audience` that a request must name.
    pub const TOKEN_ENDPOINT: &str = "https://secure.stitch.money/connect/token";

    /// Starts both hosts, with certificates of `authority` or without TLS.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be made or a socket cannot be opened.
    pub async fn start(authority: Option<&Authority>) -> Result<Self, FakeError> {
        let tls = |host: &str| {
            authority
                .map(|authority| authority.server_config(&[host]))
                .transpose()
        };
        let token_endpoint = TokenEndpoint::new(rules());
        let api = Arc::new(Api::new(token_endpoint.clone()));
        let (tokens, answering) = (token_endpoint.clone(), Arc::clone(&api));
        let secure_server = Server::start(tls(Self::SECURE_HOST)?, move |request| {
            let tokens = tokens.clone();
            async move { answer_secure(&tokens, Received::read(request).await?).await }
        })
        .await?;
        let api_server = Server::start(tls(Self::API_HOST)?, move |request| {
            let api = Arc::clone(&answering);
            async move { api.answer(&Received::read(request).await?).await }
        })
        .await?;
        Ok(Self {
            token_endpoint,
            api,
            secure_server,
            api_server,
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

    /// The token endpoint.
    #[must_use]
    pub fn token_endpoint(&self) -> &TokenEndpoint {
        &self.token_endpoint
    }

    /// What the API shall do wrong.
    #[must_use]
    pub fn api_faults(&self) -> &Faults {
        &self.api.faults
    }

    /// The server of the token endpoint.
    #[must_use]
    pub fn secure_server(&self) -> &Server {
        &self.secure_server
    }

    /// The server of the API.
    #[must_use]
    pub fn api_server(&self) -> &Server {
        &self.api_server
    }

    /// The newest requests to the API, oldest first, whatever became of them.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Received> {
        self.api.requests.to_vec()
    }

    /// The newest of them.
    #[must_use]
    pub fn last_api_request(&self) -> Option<Received> {
        self.api.requests.last()
    }

    /// How many mutations the API has carried out.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.api.mutations.load(Ordering::Relaxed)
    }

    /// The status of the API's answer to a token it does not accept. Stitch's documentation leaves
    /// open whether that is 401 or 200; it is 401 until a test says otherwise.
    pub fn answer_unauthenticated_with(&self, status: StatusCode) {
        *self.api.unauthenticated.lock() = status;
    }
}

fn rules() -> Rules {
    Rules {
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        client_auth: ClientAuth::ClientSecretPost,
        audience: Some(Stitch::TOKEN_ENDPOINT.to_owned()),
        scopes: SCOPES.map(str::to_owned).to_vec(),
        default_scope: None,
        lifetime: Duration::from_secs(3600),
        lifetime_parameter: None,
        token_style: TokenStyle::Reference,
        dialect: Dialect::Stitch,
    }
}

async fn answer_secure(tokens: &TokenEndpoint, request: Received) -> Result<Answer, HangUp> {
    if !request.is_for(Stitch::SECURE_HOST) {
        return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
    }
    match request.path() {
        "/connect/token" => tokens.answer(request).await,
        _ => Ok(answer::empty(StatusCode::NOT_FOUND)),
    }
}
