//! More systems, each strange in its own way: where the credentials go, what the answer looks like,
//! how its token is used. Every one is a [`Habits`] in a file of its own.

mod aeropay;
mod auth0;
mod docusign;
mod entra;
mod github;
mod google;
mod jwt;
mod marqeta;
mod salesforce;
mod shopify;
mod square;
mod sumup;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod vault;
mod vipps;
mod xoms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

pub use self::jwt::ClientKey;
use self::jwt::{Assertion, Verifier};
use super::answer::{self, Answer};
use super::locked::Locked;
use super::minted::Minted;
use super::recent::Recent;
use super::token_endpoint::parse_form;
use super::{Authority, FakeError, Faults, HangUp, Received, Server};

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Aeropay: a failure is a 200 as well.
    Aeropay,
    /// Auth0: client credentials in JSON, with an audience.
    Auth0,
    /// Docusign: an assertion on behalf of a user.
    Docusign,
    /// Microsoft Entra with a certificate.
    Entra,
    /// A GitHub App: a JWT of one's own is the parent of a token per installation.
    GitHub,
    /// A Google service account.
    Google,
    /// Marqeta: a token for one use, sent as the password of `Basic`.
    Marqeta,
    /// Salesforce: no lifetime, and the answer says where to go.
    Salesforce,
    /// Shopify's client credentials: a token in a field of its own.
    Shopify,
    /// Square: a refresh token from outside, the expiry as a date.
    Square,
    /// SumUp: a merchant's token for a client, by a parent.
    SumUp,
    /// HashiCorp Vault's `AppRole`.
    Vault,
    /// Vipps MobilePay: credentials in fields, numbers in strings.
    Vipps,
    /// XOMS of Primary: the token is in a field of the answer.
    Xoms,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Aeropay,
        Self::Auth0,
        Self::Docusign,
        Self::Entra,
        Self::GitHub,
        Self::Google,
        Self::Marqeta,
        Self::Salesforce,
        Self::Shopify,
        Self::Square,
        Self::SumUp,
        Self::Vault,
        Self::Vipps,
        Self::Xoms,
    ];

    fn habits(self) -> &'static Habits {
        match self {
            Self::Aeropay => &aeropay::HABITS,
            Self::Auth0 => &auth0::HABITS,
            Self::Docusign => &docusign::HABITS,
            Self::Entra => &entra::HABITS,
            Self::GitHub => &github::HABITS,
            Self::Google => &google::HABITS,
            Self::Marqeta => &marqeta::HABITS,
            Self::Salesforce => &salesforce::HABITS,
            Self::Shopify => &shopify::HABITS,
            Self::Square => &square::HABITS,
            Self::SumUp => &sumup::HABITS,
            Self::Vault => &vault::HABITS,
            Self::Vipps => &vipps::HABITS,
            Self::Xoms => &xoms::HABITS,
        }
    }
}

/// What is peculiar to one system.
#[derive(Debug)]
struct Habits {
    /// The host of the token endpoint, then that of the API if it is another.
    hosts: &'static [&'static str],
    /// What the client knows, by the system's own names; all made up.
    credentials: &'static [(&'static str, &'static str)],
    lifetime: Duration,
    /// Whether a token is good for one request.
    single_use: bool,
    /// Whether this is a request for a token.
    is_fetch: fn(&Received) -> bool,
    /// The answer to a request for a token.
    fetch: fn(&Desk, &Received) -> Result<Answer, Refusal>,
    /// Where the API finds its token.
    token: fn(&Received) -> Option<String>,
    /// The API's words for a token that it does not accept.
    unauthorized: fn() -> Refusal,
    /// What the API answers.
    page: fn(&Received) -> Value,
}

/// No token, or no answer: the status and the document.
#[derive(Debug)]
struct Refusal(u16, Value);

impl Refusal {
    fn answer(self) -> Answer {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        answer::json(status, &self.1)
    }
}

/// What the token endpoint of one system remembers.
#[derive(Debug)]
struct Desk {
    habits: &'static Habits,
    tokens: Minted<()>,
    /// Identifiers of assertions, so that none is accepted twice.
    seen: Minted<()>,
    verifier: Option<Verifier>,
    granted: AtomicUsize,
    /// When the client is asked to come back, if not at half of the token's life.
    refresh_in: Locked<Option<Duration>>,
}

impl Desk {
    fn credential(&self, name: &str) -> &'static str {
        let credentials = self.habits.credentials.iter();
        credentials
            .copied()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    /// `token` is good from now on.
    fn issue(&self, token: &str) {
        self.granted.fetch_add(1, Ordering::Relaxed);
        self.tokens.insert(token, ());
    }

    fn refresh_in(&self) -> Duration {
        let half = || self.tokens.lifetime() / 2;
        self.refresh_in.lock().unwrap_or_else(half)
    }

    fn seconds(&self) -> u64 {
        self.tokens.lifetime().as_secs()
    }

    /// The assertion, if the client's key signed it by this algorithm.
    fn assertion(&self, algorithm: &str, text: &str) -> Option<Assertion> {
        self.verifier.as_ref()?.verify(algorithm, text)
    }

    fn accept(&self, token: &str) -> bool {
        if self.habits.single_use {
            self.tokens.take(token).is_some()
        } else {
            self.tokens.check(token).is_some()
        }
    }
}

/// One of the systems, with one client.
#[derive(Debug)]
pub struct Other {
    site: Arc<Site>,
    server: Server,
}

#[derive(Debug)]
struct Site {
    habits: &'static Habits,
    desk: Desk,
    faults: Faults,
    requests: Recent,
    fetches: AtomicUsize,
    api_faults: Faults,
    api_requests: Recent,
}

impl Other {
    /// Starts one, with a certificate of `authority` or without TLS. `client` is the client's
    /// certificate or its public key, in PEM, for the systems that ask for assertions; without it
    /// they accept none.
    ///
    /// # Errors
    ///
    /// If the key cannot be read, the certificate cannot be made or no socket can be opened.
    pub async fn start(
        kind: Kind,
        authority: Option<&Authority>,
        client: Option<&str>,
    ) -> Result<Self, FakeError> {
        let habits = kind.habits();
        let tls = authority
            .map(|authority| authority.server_config(habits.hosts))
            .transpose()?;
        let site = Arc::new(Site {
            habits,
            desk: Desk {
                habits,
                tokens: Minted::new(habits.lifetime),
                seen: Minted::new(Duration::from_secs(3600)),
                verifier: client.map(Verifier::read).transpose()?,
                granted: AtomicUsize::new(0),
                refresh_in: Locked::default(),
            },
            faults: Faults::default(),
            requests: Recent::default(),
            fetches: AtomicUsize::new(0),
            api_faults: Faults::default(),
            api_requests: Recent::default(),
        });
        let answering = Arc::clone(&site);
        let server = Server::start(tls, move |request| {
            let site = Arc::clone(&answering);
            async move { site.answer(&Received::read(request).await?).await }
        })
        .await?;
        Ok(Self { site, server })
    }

    /// What the client knows, by the system's own names: `client_id`, `client_secret` and others.
    #[must_use]
    pub fn credentials(&self) -> &'static [(&'static str, &'static str)] {
        self.site.habits.credentials
    }

    /// One of the [`Self::credentials`]; nothing is an empty text.
    #[must_use]
    pub fn credential(&self, name: &str) -> &'static str {
        self.site.desk.credential(name)
    }

    /// The system's hosts: that of the token endpoint, then that of the API if it is another.
    #[must_use]
    pub fn hosts(&self) -> &'static [&'static str] {
        self.site.habits.hosts
    }

    /// Where each `host:port` of the real system is found.
    #[must_use]
    pub fn resolve(&self) -> Vec<(String, SocketAddr)> {
        let address = self.server.address();
        let hosts = self.hosts().iter();
        hosts.map(|host| (format!("{host}:443"), address)).collect()
    }

    /// What the token endpoint shall do wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.site.faults
    }

    /// What the API shall do wrong.
    #[must_use]
    pub fn api_faults(&self) -> &Faults {
        &self.site.api_faults
    }

    /// How many times a token was asked for, whatever became of it.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.site.fetches.load(Ordering::Relaxed)
    }

    /// How many tokens were made.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.site.desk.granted.load(Ordering::Relaxed)
    }

    /// Tokens made from now on live this long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.site.desk.tokens.set_lifetime(lifetime);
    }

    /// Entra's answers ask for the next token after this time from now on.
    pub fn set_refresh_in(&self, refresh_in: Duration) {
        *self.site.desk.refresh_in.lock() = Some(refresh_in);
    }

    /// No token made so far is good any more.
    pub fn revoke_all(&self) {
        self.site.desk.tokens.revoke_all();
    }

    /// The newest requests for a token, oldest first, whatever became of them.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.site.requests.to_vec()
    }

    /// The newest requests to the API, oldest first, whatever became of them.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Received> {
        self.site.api_requests.to_vec()
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Site {
    async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        if !self.habits.hosts.iter().any(|host| request.is_for(host)) {
            return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
        }
        let unauthorized = || (self.habits.unauthorized)().answer();
        if (self.habits.is_fetch)(request) {
            self.requests.push(request.clone());
            self.fetches.fetch_add(1, Ordering::Relaxed);
            if let Some(wrong) = self.faults.meet(unauthorized).await? {
                return Ok(wrong);
            }
            if request.method != Method::POST {
                return Ok(answer::empty(StatusCode::METHOD_NOT_ALLOWED));
            }
            let outcome = (self.habits.fetch)(&self.desk, request);
            return Ok(outcome.unwrap_or_else(Refusal::answer));
        }
        self.api_requests.push(request.clone());
        if let Some(wrong) = self.api_faults.meet(unauthorized).await? {
            return Ok(wrong);
        }
        let token = (self.habits.token)(request);
        if !token.is_some_and(|token| self.desk.accept(&token)) {
            return Ok(unauthorized());
        }
        Ok(answer::json(StatusCode::OK, &(self.habits.page)(request)))
    }
}

/// The page of a system of which nobody reads the pages.
fn any_page(request: &Received) -> Value {
    json!({ "made_up": true, "path": request.path() })
}

/// The one bearer token.
fn bearer(request: &Received) -> Option<String> {
    super::bearer::bearer(request).map(str::to_owned)
}

fn ok(document: &Value) -> Answer {
    answer::json(StatusCode::OK, document)
}

/// The body, if it is a JSON object and says so.
fn object(request: &Received) -> Option<Value> {
    let is_json = request.media_type().as_deref() == Some("application/json");
    request.json().filter(|body| is_json && body.is_object())
}

fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The parameters of a form, strictly read; `None` if it is none, or if a parameter comes twice.
fn parameters(request: &Received) -> Option<Value> {
    if request.media_type().as_deref() != Some("application/x-www-form-urlencoded") {
        return None;
    }
    let mut parameters = serde_json::Map::new();
    for (name, value) in parse_form(&request.body)? {
        if parameters.insert(name, Value::String(value)).is_some() {
            return None;
        }
    }
    Some(Value::Object(parameters))
}

/// RFC 6749 §5.2.
fn oauth_error(status: u16, error: &str, description: &str) -> Refusal {
    Refusal(
        status,
        json!({ "error": error, "error_description": description }),
    )
}
