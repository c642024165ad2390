//! Forage's shapes: two kinds of tokens, and what is wrong with each.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::fake::client::{Client, Reply};

const METHODS: &str = "/api/payment_methods/";
const MINT: &str = "/api/session_token/";
const MERCHANT: (&str, &str) = ("merchant-account", "1234567");
const JSON: (&str, &str) = ("content-type", "application/json");

struct Stage {
    forage: Forage,
    client: Client,
}

async fn stage() -> Stage {
    let authority = Authority::new().unwrap();
    let forage = Forage::start(Some(&authority)).await.unwrap();
    let client = Client::trusting(&authority, Forage::HOST, forage.server().address());
    Stage { forage, client }
}

impl Stage {
    async fn fetch(&self, body: &str) -> Reply {
        let encoded =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let credentials = format!(
            "{}:{}",
            encoded(self.forage.client_id()),
            encoded(self.forage.client_secret())
        );
        let authorization = format!("Basic {}", STANDARD.encode(credentials));
        let fields = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", &authorization),
        ];
        self.client
            .send("POST", "/o/token/", &fields, body)
            .await
            .unwrap()
    }

    async fn authentication_token(&self, scope: &str) -> String {
        let reply = self
            .fetch(&format!("grant_type=client_credentials&scope={scope}"))
            .await;
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn session_token(&self, parent: &str) -> String {
        let reply = self.send("POST", MINT, parent, &[MERCHANT], "").await;
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    async fn send(
        &self,
        method: &str,
        target: &str,
        token: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let authorization = format!("Bearer {token}");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend(fields);
        self.client.send(method, target, &all, body).await.unwrap()
    }

    async fn list(&self, token: &str) -> Reply {
        self.send("GET", METHODS, token, &[MERCHANT], "").await
    }
}

fn code(reply: &Reply) -> (u16, Value) {
    (
        reply.status,
        reply
            .json()
            .pointer("/errors/0/code")
            .cloned()
            .unwrap_or_default(),
    )
}

#[tokio::test]
async fn an_authentication_token_is_a_sandbox_token_of_a_week() {
    let stage = stage().await;
    let answer = stage
        .fetch("grant_type=client_credentials&scope=pinpad_only")
        .await
        .json();
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!((&token[..8], token.len()), ("sandbox_", 38));
    assert_eq!(
        (&answer["expires_in"], &answer["scope"]),
        (&json!(604_800), &json!("pinpad_only"))
    );
    let answer = stage
        .fetch("grant_type=client_credentials&expiration=60")
        .await
        .json();
    assert_eq!(
        (&answer["expires_in"], &answer["scope"]),
        (&json!(60), &json!("hosted_checkout"))
    );
    assert_eq!(
        stage
            .fetch("grant_type=client_credentials&expiration=a+day")
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_session_token_is_a_signed_jwt_behind_the_environment() {
    let stage = stage().await;
    let parent = stage.authentication_token("pinpad_only").await;
    let session = stage.session_token(&parent).await;
    let jwt = session.strip_prefix("sandbox_").unwrap();
    let parts: Vec<&str> = jwt.split('.').collect();
    let part = |part: &str| {
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!((parts.len(), &part(parts[0])["alg"]), (3, &json!("HS256")));
    let claims = part(parts[1]);
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        900
    );
    assert_eq!(stage.list(&session).await.status, 200);
    assert_eq!(stage.list(&parent).await.status, 200);
}

#[tokio::test]
async fn a_mint_without_a_good_parent_is_refused_word_for_word() {
    let stage = stage().await;
    let reply = stage.send("POST", MINT, "made-up", &[MERCHANT], "").await;
    let expected = json!({
        "path": "/api/session_token/",
        "errors": [{
            "code": "invalid_token",
            "message": "Incorrect authentication credentials.",
            "source": { "resource": "OAuth_Access_Tokens", "ref": "" },
        }],
    });
    assert_eq!((reply.status, reply.json()), (401, expected));
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let stage = stage().await;
    let parent = stage.authentication_token("pinpad_only").await;
    let narrow = stage.authentication_token("reporting").await;
    let session = stage.session_token(&parent).await;
    let bearer = format!("Bearer {parent}");
    let bearer = ("authorization", bearer.as_str());
    let none = stage
        .client
        .send("GET", METHODS, &[MERCHANT], "")
        .await
        .unwrap();
    assert_eq!(code(&none), (401, json!("invalid_token")));
    let twice = stage
        .client
        .send("GET", METHODS, &[MERCHANT, bearer, bearer], "")
        .await
        .unwrap();
    assert_eq!(code(&twice), (401, json!("invalid_token")));
    let in_query = stage
        .client
        .send(
            "GET",
            &format!("{METHODS}?access_token={parent}"),
            &[MERCHANT],
            "",
        )
        .await
        .unwrap();
    assert_eq!(code(&in_query), (401, json!("invalid_token")));
    assert_eq!(
        code(&stage.send("GET", METHODS, &parent, &[], "").await),
        (400, json!("missing_merchant_account"))
    );
    assert_eq!(
        code(
            &stage
                .send("GET", METHODS, &parent, &[MERCHANT, MERCHANT], "")
                .await
        ),
        (400, json!("missing_merchant_account"))
    );
    assert_eq!(
        code(&stage.send("POST", MINT, &parent, &[], "").await),
        (400, json!("missing_merchant_account"))
    );
    assert_eq!(code(&stage.list(&narrow).await), (403, json!("forbidden")));
    assert_eq!(
        code(&stage.list("sandbox_eyJmade.up.here").await),
        (401, json!("bad_signature"))
    );
    let other = [("merchant-account", "mid/7654321")];
    assert_eq!(
        code(&stage.send("GET", METHODS, &session, &other, "").await),
        (403, json!("forbidden"))
    );
    assert_eq!(
        code(
            &stage
                .send("POST", METHODS, &session, &[MERCHANT, JSON], "{")
                .await
        ),
        (400, json!("cannot_parse_request_body"))
    );
}

#[tokio::test]
async fn sessions_end_by_themselves_and_with_their_parent() {
    let stage = stage().await;
    let parent = stage.authentication_token("pinpad_only").await;
    let session = stage.session_token(&parent).await;
    stage.forage.expire_sessions();
    let reply = stage.list(&session).await;
    assert_eq!(code(&reply), (401, json!("expired_session_token")));
    assert_eq!(reply.json()["path"], METHODS);
    let session = stage.session_token(&parent).await;
    assert_eq!(stage.list(&session).await.status, 200);
    stage.forage.token_endpoint().revoke_all();
    assert_eq!(
        code(&stage.list(&session).await),
        (401, json!("bad_signature"))
    );
    assert_eq!(
        code(&stage.list(&parent).await),
        (401, json!("invalid_token"))
    );
    assert_eq!(stage.forage.session_fetches(), 2);
}

#[tokio::test]
async fn there_is_no_redirect_to_the_path_with_the_slash() {
    let stage = stage().await;
    let parent = stage.authentication_token("pinpad_only").await;
    assert_eq!(
        stage
            .send("POST", "/api/session_token", &parent, &[MERCHANT], "")
            .await
            .status,
        404
    );
    assert_eq!(
        stage.fetch("grant_type=client_credentials").await.status,
        200
    );
    let elsewhere = stage
        .client
        .send("POST", MINT, &[("host", "vault.joinforage.app")], "")
        .await
        .unwrap();
    assert_eq!(elsewhere.status, 421);
}

#[tokio::test]
async fn the_same_key_is_the_same_payment() {
    let stage = stage().await;
    let parent = stage.authentication_token("pinpad_only").await;
    let fields = [MERCHANT, JSON, ("idempotency-key", "k-1")];
    let pay = async |body: &str| {
        stage
            .send("POST", "/api/payments/", &parent, &fields, body)
            .await
    };
    let (first, again) = (
        pay(r#"{"amount":"1.00"}"#).await,
        pay(r#"{"amount":"1.00"}"#).await,
    );
    assert_eq!((first.status, first.json()), (201, again.json()));
    assert_eq!(
        code(&pay(r#"{"amount":"2.00"}"#).await).1,
        json!("cannot_change_request")
    );
    assert_eq!(stage.forage.payments(), 1);
}
