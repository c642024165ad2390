//! Highnote: a GraphQL API whose mutations make tokens for clients, and which takes them back.

mod api;
mod query;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use self::api::Api;
use super::{Authority, FakeError, Fault, Faults, Received, Server, clock};

/// Highnote, with one organization and its API key.
#[derive(Debug)]
pub struct Highnote {
    api: Arc<Api>,
    server: Server,
}

/// How often a client token may be used: `usage` of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// As often as one likes, until it expires.
    UntilExpiration,
    /// Once, also if that fails.
    SingleUse,
}

impl Usage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UntilExpiration => "UNTIL_EXPIRATION",
            Self::SingleUse => "SINGLE_USE",
        }
    }
}

impl Highnote {
    /// The one host.
    pub const HOST: &str = "api.us.highnote.com";
    /// The one endpoint.
    pub const URL: &str = "https://api.us.highnote.com/graphql";
    /// Made up.
    const API_KEY: &str = "sk_test_made_up_key_of_the_demo";

    /// Starts the host, with a certificate of `authority` or without TLS.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be made or no socket can be opened.
    pub async fn start(authority: Option<&Authority>) -> Result<Self, FakeError> {
        let tls = authority
            .map(|authority| authority.server_config(&[Self::HOST]))
            .transpose()?;
        let api = Arc::new(Api::new());
        let answering = Arc::clone(&api);
        let server = Server::start(tls, move |request| {
            let api = Arc::clone(&answering);
            async move { api.answer(Received::read(request).await?).await }
        })
        .await?;
        Ok(Self { api, server })
    }

    /// The API key; as `Basic`, with a colon and nothing behind it.
    #[must_use]
    pub fn api_key(&self) -> &str {
        Self::API_KEY
    }

    /// What the mutations that make client tokens shall do wrong.
    #[must_use]
    pub fn mint_faults(&self) -> &Faults {
        &self.api.mint_faults
    }

    /// What everything else shall do wrong.
    #[must_use]
    pub fn api_faults(&self) -> &Faults {
        &self.api.faults
    }

    /// Highnote's words for too many requests. The time to wait is in the body and nowhere else.
    #[must_use]
    pub fn usage_limit_exceeded(retry_after: Duration) -> Fault {
        let message = "Usage limit exceeded. More than 200 request points used in 10 seconds.";
        Fault::json(
            StatusCode::TOO_MANY_REQUESTS,
            &json!({
                "data": {},
                "errors": [{ "message": message }],
                "extensions": {
                    "requestId": api::request_id(),
                    "rateLimit": {
                        "asOf": clock::rfc3339_in(Duration::ZERO),
                        "count": { "cost": 1, "remaining": 0, "limit": 200 },
                        "complexity": { "remaining": 0, "limit": 2500 },
                        "retryAfter": retry_after.as_secs_f64(),
                    },
                },
            }),
        )
    }

    /// How many times client tokens were asked for, whatever became of the requests.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.api.mints.lock().values().sum()
    }

    /// The same, by one mutation.
    #[must_use]
    pub fn fetches_by(&self, mutation: &str) -> usize {
        self.api
            .mints
            .lock()
            .get(mutation)
            .copied()
            .unwrap_or_default()
    }

    /// How many client tokens were made.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.api.granted.load(Ordering::Relaxed)
    }

    /// How many requests came with a client token that was good.
    #[must_use]
    pub fn uses(&self) -> usize {
        self.api.uses.load(Ordering::Relaxed)
    }

    /// The newest requests that made client tokens, oldest first, whatever became of them.
    #[must_use]
    pub fn mint_requests(&self) -> Vec<Received> {
        self.api.mint_requests.to_vec()
    }

    /// The newest other requests, oldest first, whatever became of them.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Received> {
        self.api.requests.to_vec()
    }

    /// The newest of them.
    #[must_use]
    pub fn last_api_request(&self) -> Option<Received> {
        self.api.requests.last()
    }

    /// No client token made so far is good any more.
    pub fn revoke_all(&self) {
        self.api.tokens.revoke_all();
    }

    /// Client tokens made from now on live this long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.api.tokens.set_lifetime(lifetime);
    }

    /// Whether client tokens made from now on say when they expire; otherwise it is `null`.
    pub fn state_expiration(&self, yes: bool) {
        self.api.rules.lock().hide_expiration = !yes;
    }

    /// How often client tokens made from now on may be used; with `None`, as their kind has it.
    pub fn set_usage(&self, usage: Option<Usage>) {
        self.api.rules.lock().usage = usage;
    }

    /// The card, or whatever has this id, is out of the API key's reach: `AccessDeniedError`.
    pub fn restrict(&self, id: &str) {
        self.api.rules.lock().restricted.insert(id.to_owned());
    }

    /// Nothing has this id: `UserError`.
    pub fn forget(&self, id: &str) {
        self.api.rules.lock().unknown.insert(id.to_owned());
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}
