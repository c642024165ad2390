//! Stitch: client tokens from one host, a GraphQL API on another.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::bearer::bearer;
use super::locked::Locked;
use super::recent::Recent;
use super::{
    Authority, ClientAuth, Dialect, FakeError, Faults, HangUp, Received, Rules, Server,
    TokenEndpoint, TokenStyle, Verdict,
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

/// Mutations of the API, and the scope that each needs.
const MUTATIONS: [(&str, &str); 3] = [
    (
        "clientPaymentInitiationRequestCreate",
        "client_paymentrequest",
    ),
    ("clientRefundInitiate", "client_refund"),
    ("clientDisbursementCreate", "client_disbursement"),
];

/// From this many remembered nonces on, all are forgotten.
const MANY_NONCES: usize = 10_000;

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

#[derive(Debug)]
struct Api {
    tokens: TokenEndpoint,
    faults: Faults,
    unauthenticated: Locked<StatusCode>,
    requests: Recent,
    nonces: Locked<HashSet<String>>,
    mutations: AtomicUsize,
}

impl Api {
    fn new(tokens: TokenEndpoint) -> Self {
        let unauthenticated = Locked::new(StatusCode::UNAUTHORIZED);
        Self {
            tokens,
            faults: Faults::default(),
            unauthenticated,
            requests: Recent::default(),
            nonces: Locked::default(),
            mutations: AtomicUsize::new(0),
        }
    }

    async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        self.requests.push(request.clone());
        if let Some(wrong) = self.faults.meet(|| self.unauthenticated()).await? {
            return Ok(wrong);
        }
        if !request.is_for(Stitch::API_HOST) {
            return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
        }
        if request.path() != "/graphql" {
            return Ok(answer::empty(StatusCode::NOT_FOUND));
        }
        if request.method != Method::POST {
            return Ok(only_post());
        }
        let verdict = bearer(request).map_or(Verdict::Unknown, |token| self.tokens.is_good(token));
        if !verdict.is_good() {
            return Ok(self.unauthenticated());
        }
        let is_json = request.media_type().as_deref() == Some("application/json");
        let document = request.json().filter(|_| is_json).unwrap_or_default();
        let Some(query) = document.get("query").and_then(Value::as_str) else {
            return Ok(not_graphql());
        };
        Ok(self.execute(query, &document, &verdict))
    }

    fn execute(&self, query: &str, document: &Value, verdict: &Verdict) -> Answer {
        let Some((mutation, scope)) = MUTATIONS
            .into_iter()
            .find(|(mutation, _)| query.contains(mutation))
        else {
            return answer::json(
                StatusCode::OK,
                &json!({ "data": { "client": { "__typename": "Client", "id": CLIENT_ID } } }),
            );
        };
        if !verdict.allows(scope) {
            return answer::json(StatusCode::OK, &forbidden(mutation, scope));
        }
        if let Some(nonce) = document
            .pointer("/variables/input/nonce")
            .and_then(Value::as_str)
            && !self.is_new(nonce)
        {
            return answer::json(StatusCode::OK, &duplicate(mutation));
        }
        let number = self.mutations.fetch_add(1, Ordering::Relaxed) + 1;
        answer::json(
            StatusCode::OK,
            &json!({ "data": { (mutation): result(mutation, number, document) } }),
        )
    }

    fn is_new(&self, nonce: &str) -> bool {
        let mut nonces = self.nonces.lock();
        if nonces.len() >= MANY_NONCES {
            nonces.clear();
        }
        nonces.insert(nonce.to_owned())
    }

    /// Word for word from Stitch's documentation: `extensions` at the top, and no `data`.
    fn unauthenticated(&self) -> Answer {
        let status = *self.unauthenticated.lock();
        let message = "UNAUTHENTICATED: Token is expired or malformed";
        answer::json(
            status,
            &json!({
                "errors": [{ "message": message }],
                "extensions": { "code": "UNAUTHENTICATED" },
            }),
        )
    }
}

fn result(mutation: &str, number: usize, document: &Value) -> Value {
    let id = format!("made-up-{number}");
    match mutation {
        "clientPaymentInitiationRequestCreate" => {
            let url = format!(
                "https://{}/connect/payment-request/{id}",
                Stitch::SECURE_HOST
            );
            let amount = document
                .pointer("/variables/input/amount")
                .cloned()
                .unwrap_or_else(|| json!({ "quantity": "1.00", "currency": "ZAR" }));
            json!({ "paymentInitiationRequest": { "id": id, "url": url, "amount": amount } })
        }
        "clientRefundInitiate" => {
            let status = json!({ "__typename": "RefundPending" });
            json!({ "refund": { "id": id, "status": status } })
        }
        _ => {
            let status = json!({ "__typename": "DisbursementPending" });
            json!({ "disbursement": { "id": id, "status": status } })
        }
    }
}

/// A missing scope is a 200 with what data there is.
fn forbidden(mutation: &str, scope: &str) -> Value {
    json!({
        "errors": [{
            "message": format!("Token is missing the following scope: {scope}"),
            "locations": [{ "line": 1, "column": 1 }],
            "path": [mutation],
            "extensions": { "code": "FORBIDDEN", "missingScopes": [scope] },
        }],
        "data": { (mutation): null },
    })
}

/// The code is Stitch's; the message is our guess.
fn duplicate(mutation: &str) -> Value {
    json!({
        "errors": [{
            "message": "The nonce was used before",
            "path": [mutation],
            "extensions": { "code": "NONCE_DUPLICATE" },
        }],
        "data": { (mutation): null },
    })
}

/// Our guess: Stitch documents no answer to a request that is not GraphQL.
fn not_graphql() -> Answer {
    let message = "The request must be a JSON document with a query";
    answer::json(
        StatusCode::BAD_REQUEST,
        &json!({ "errors": [{ "message": message, "extensions": { "code": "BAD_REQUEST" } }] }),
    )
}

fn only_post() -> Answer {
    let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

#[cfg(test)]
mod tests {
    use super::super::client::{Client, Reply};
    use super::*;

    const CREATE: &str = r#"{
        "query": "mutation($input: Input!) { clientPaymentInitiationRequestCreate(input: $input) }",
        "variables": { "input": { "nonce": "n-1" } }
    }"#;
    const JSON: (&str, &str) = ("content-type", "application/json");

    /// What it shows, the target, and the fields.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    struct Stage {
        stitch: Stitch,
        secure: Client,
        api: Client,
    }

    async fn stage() -> Stage {
        let authority = Authority::new().unwrap();
        let stitch = Stitch::start(Some(&authority)).await.unwrap();
        let secure = Client::trusting(
            &authority,
            Stitch::SECURE_HOST,
            stitch.secure_server().address(),
        );
        let api = Client::trusting(&authority, Stitch::API_HOST, stitch.api_server().address());
        Stage {
            stitch,
            secure,
            api,
        }
    }

    impl Stage {
        async fn fetch(&self, scope: &str) -> Reply {
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "client_credentials")
                .append_pair("client_id", self.stitch.client_id())
                .append_pair("client_secret", self.stitch.client_secret())
                .append_pair("scope", scope)
                .append_pair("audience", Stitch::TOKEN_ENDPOINT)
                .finish();
            let content_type = ("content-type", "application/x-www-form-urlencoded");
            self.secure
                .send("POST", "/connect/token", &[content_type], &form)
                .await
                .unwrap()
        }

        async fn authorization(&self, scope: &str) -> String {
            format!(
                "Bearer {}",
                self.fetch(scope).await.json()["access_token"]
                    .as_str()
                    .unwrap()
            )
        }

        async fn call(&self, authorization: &str) -> Reply {
            self.api
                .send(
                    "POST",
                    "/graphql",
                    &[JSON, ("authorization", authorization)],
                    CREATE,
                )
                .await
                .unwrap()
        }
    }

    fn unauthenticated() -> Value {
        json!({
            "errors": [{ "message": "UNAUTHENTICATED: Token is expired or malformed" }],
            "extensions": { "code": "UNAUTHENTICATED" },
        })
    }

    #[tokio::test]
    async fn a_client_token_makes_a_payment_request() {
        let stage = stage().await;
        let reply = stage.fetch("client_paymentrequest").await;
        assert_eq!(
            (
                reply.status,
                &reply.json()["expires_in"],
                &reply.json()["token_type"]
            ),
            (200, &json!(3600), &json!("Bearer"))
        );
        let authorization = stage
            .authorization("client_paymentrequest client_refund")
            .await;
        let reply = stage.call(&authorization).await;
        assert_eq!(reply.status, 200);
        assert!(
            reply
                .json()
                .pointer("/data/clientPaymentInitiationRequestCreate/paymentInitiationRequest/url")
                .is_some()
        );
        assert_eq!(
            stage
                .call(&authorization)
                .await
                .json()
                .pointer("/errors/0/extensions/code"),
            Some(&json!("NONCE_DUPLICATE"))
        );
        assert_eq!(stage.stitch.mutations(), 1);
    }

    #[tokio::test]
    async fn a_scope_it_does_not_know_is_refused_in_its_words() {
        let reply = stage().await.fetch("client_everything").await;
        assert_eq!(
            (reply.status, reply.json()),
            (400, json!({ "error": "invalid_scope" }))
        );
    }

    #[tokio::test]
    async fn what_is_not_one_good_token_is_unauthenticated() {
        let stage = stage().await;
        let good = stage.authorization("client_paymentrequest").await;
        let stale = stage.authorization("client_paymentrequest").await;
        stage
            .stitch
            .token_endpoint()
            .revoke(stale.strip_prefix("Bearer ").unwrap());
        let token = good.strip_prefix("Bearer ").unwrap();
        let in_query = format!("/graphql?access_token={token}");
        let table: [Case<'_>; 6] = [
            ("none", "/graphql", &[]),
            (
                "unknown",
                "/graphql",
                &[("authorization", "Bearer made-up")],
            ),
            ("revoked", "/graphql", &[("authorization", &stale)]),
            (
                "two",
                "/graphql",
                &[("authorization", &good), ("authorization", &good)],
            ),
            ("in the query", &in_query, &[]),
            ("without a scheme", "/graphql", &[("authorization", token)]),
        ];
        for (case, target, fields) in table {
            let fields: Vec<_> = [JSON].iter().chain(fields).copied().collect();
            let reply = stage
                .api
                .send("POST", target, &fields, CREATE)
                .await
                .unwrap();
            assert_eq!(
                (reply.status, reply.json()),
                (401, unauthenticated()),
                "{case}"
            );
        }
        stage.stitch.answer_unauthenticated_with(StatusCode::OK);
        let reply = stage.call("Bearer made-up").await;
        assert_eq!((reply.status, reply.json()), (200, unauthenticated()));
        assert_eq!(stage.stitch.mutations(), 0);
    }

    #[tokio::test]
    async fn a_missing_scope_is_a_200_that_names_it() {
        let stage = stage().await;
        let authorization = stage.authorization("client_refund").await;
        let reply = stage.call(&authorization).await;
        let document = reply.json();
        assert_eq!(reply.status, 200);
        assert_eq!(
            document.pointer("/errors/0/extensions"),
            Some(&json!({ "code": "FORBIDDEN", "missingScopes": ["client_paymentrequest"] }))
        );
        assert_eq!(
            document["data"],
            json!({ "clientPaymentInitiationRequestCreate": null })
        );
    }

    #[tokio::test]
    async fn each_host_answers_for_itself() {
        let stage = stage().await;
        let reply = stage
            .api
            .send(
                "POST",
                "/graphql",
                &[("host", "secure.stitch.money")],
                CREATE,
            )
            .await
            .unwrap();
        assert_eq!(reply.status, 421);
        assert_eq!(
            stage
                .secure
                .send("POST", "/graphql", &[], CREATE)
                .await
                .unwrap()
                .status,
            404
        );
        assert_eq!(
            stage
                .api
                .send("GET", "/graphql", &[], "")
                .await
                .unwrap()
                .status,
            405
        );
    }

    #[tokio::test]
    async fn what_is_not_graphql_is_a_bad_request() {
        let stage = stage().await;
        let authorization = stage.authorization("client_refund").await;
        let authorization = ("authorization", authorization.as_str());
        for (content_type, body) in [
            ("text/plain", CREATE),
            ("application/json", "{}"),
            ("application/json", "{"),
        ] {
            let fields = [("content-type", content_type), authorization];
            let reply = stage
                .api
                .send("POST", "/graphql", &fields, body)
                .await
                .unwrap();
            assert_eq!(reply.status, 400, "{content_type} {body}");
        }
    }
}
