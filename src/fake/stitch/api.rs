//! The part of Stitch's GraphQL API that the demo and the tests use.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Stitch;
use crate::fake::answer::{self, Answer};
use crate::fake::bearer::bearer;
use crate::fake::locked::Locked;
use crate::fake::recent::Recent;
use crate::fake::{Faults, HangUp, Received, TokenEndpoint, Verdict};

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

/// The API, and what it remembers.
#[derive(Debug)]
pub(super) struct Api {
    tokens: TokenEndpoint,
    pub(super) faults: Faults,
    pub(super) unauthenticated: Locked<StatusCode>,
    pub(super) requests: Recent,
    nonces: Locked<HashSet<String>>,
    pub(super) mutations: AtomicUsize,
}

impl Api {
    pub(super) fn new(tokens: TokenEndpoint) -> Self {
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

    pub(super) async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
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
                &json!({ "data": { "client": { "id": self.tokens.rules().client_id } } }),
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
