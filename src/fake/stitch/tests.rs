//! Stitch's shapes: client tokens, and an API that fails with a 200.

use serde_json::{Value, json};

use super::*;
use crate::fake::client::{Client, Reply};

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
