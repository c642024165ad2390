//! Infocus's shapes: a login that is refreshed, and arrays.

use serde_json::{Value, json};

use super::*;
use crate::fake::client::{Client, Reply};
use crate::fake::digest::sha256_hex;

const TOKEN: &str = "/sdk/auth/getToken";
const BY_PHONE: &str = "/sdk/auth/getClientTokenByPhone";
const BY_CLIENT_ID: &str = "/sdk/auth/getClientTokenByClientId";
const ACTIVATION: &str = "/sdk/auth/getClientTokenForActivation";
const LIST: &str = "/api/user/list";

struct Stage {
    concierge: Concierge,
    client: Client,
}

async fn stage() -> Stage {
    let authority = Authority::new().unwrap();
    let concierge = Concierge::start(Some(&authority)).await.unwrap();
    let client = Client::trusting(&authority, Concierge::HOST, concierge.server().address());
    Stage { concierge, client }
}

impl Stage {
    async fn post(&self, path: &str, token: Option<&str>, document: &Value) -> Reply {
        let authorization = format!("Bearer {}", token.unwrap_or_default());
        let mut fields = vec![("content-type", "application/json")];
        if token.is_some() {
            fields.push(("authorization", &authorization));
        }
        self.client
            .send("POST", path, &fields, &document.to_string())
            .await
            .unwrap()
    }

    async fn log_in(&self) -> Tokens {
        let document = json!({
            "grant_type": "password",
            "username": self.concierge.app_id(),
            "password": self.concierge.app_secret(),
        });
        Tokens::of(&self.post(TOKEN, None, &document).await)
    }

    async fn refresh(&self, token: &str) -> Reply {
        let document = json!({ "grant_type": "refresh_token", "refresh_token": token });
        self.post(TOKEN, None, &document).await
    }

    async fn list(&self, token: &str) -> u16 {
        self.post(LIST, Some(token), &json!({})).await.status
    }
}

struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", reply.json());
        let text = |name: &str| reply.json()[name].as_str().unwrap_or_default().to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
        }
    }
}

fn phone(number: &str, primary: bool) -> Value {
    json!({ "hash": sha256_hex(number.as_bytes()), "primary": primary })
}

#[tokio::test]
async fn a_login_is_half_an_hour_and_a_day() {
    let stage = stage().await;
    let document = json!({
        "grant_type": "password",
        "username": stage.concierge.app_id(),
        "password": stage.concierge.app_secret(),
    });
    let answer = stage.post(TOKEN, None, &document).await.json();
    let token = answer["access_token"].as_str().unwrap();
    assert!(token.starts_with("eyJqdGkiOi"), "{token}");
    assert_eq!(token.split('.').count(), 2);
    assert_eq!(
        (
            &answer["expires_in"],
            &answer["refresh_expires_in"],
            &answer["token_type"]
        ),
        (&json!(1800), &json!(86_400), &json!("bearer"))
    );
    assert_eq!(stage.list(token).await, 200);
}

#[tokio::test]
async fn a_bad_login_is_refused() {
    let stage = stage().await;
    let (id, secret) = (stage.concierge.app_id(), stage.concierge.app_secret());
    for (document, status, error) in [
        (
            json!({ "grant_type": "password", "username": id, "password": "x" }),
            401,
            "invalid_grant",
        ),
        (
            json!({ "grant_type": "password", "username": id }),
            400,
            "invalid_request",
        ),
        (
            json!({ "username": id, "password": secret }),
            400,
            "invalid_request",
        ),
        (
            json!({ "grant_type": "client_credentials" }),
            400,
            "unsupported_grant_type",
        ),
        (
            json!([{ "grant_type": "password" }]),
            400,
            "invalid_request",
        ),
        (
            json!({ "grant_type": "refresh_token", "refresh_token": "x" }),
            400,
            "invalid_grant",
        ),
    ] {
        let reply = stage.post(TOKEN, None, &document).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]),
            (status, &json!(error)),
            "{document}"
        );
    }
    let form = format!("grant_type=password&username={id}&password={secret}");
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let reply = stage
        .client
        .send("POST", TOKEN, &fields, &form)
        .await
        .unwrap();
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_whole_login() {
    let stage = stage().await;
    let (first, other) = (stage.log_in().await, stage.log_in().await);
    let second = Tokens::of(&stage.refresh(&first.refresh).await);
    assert_ne!(first.refresh, second.refresh);
    assert_eq!(stage.list(&first.access).await, 200);
    assert_eq!(stage.refresh(&first.refresh).await.status, 400);
    for dead in [&first.access, &second.access] {
        assert_eq!(stage.list(dead).await, 401);
    }
    assert_eq!(stage.refresh(&second.refresh).await.status, 400);
    assert_eq!(stage.list(&other.access).await, 200);
    assert_eq!(
        (stage.concierge.logins(), stage.concierge.refreshes()),
        (2, 3)
    );
}

#[tokio::test]
async fn a_refresh_token_may_stay_the_same_or_stay_away() {
    let stage = stage().await;
    let first = stage.log_in().await;
    stage.concierge.rotate_refresh_tokens(false);
    let second = Tokens::of(&stage.refresh(&first.refresh).await);
    assert_eq!(first.refresh, second.refresh);
    stage.concierge.omit_refresh_token(true);
    let answer = stage.refresh(&first.refresh).await.json();
    assert!(answer["access_token"].is_string());
    assert!(answer.get("refresh_token").is_none());
    assert!(answer.get("refresh_expires_in").is_none());
    assert_eq!(stage.refresh(&first.refresh).await.status, 200);
}

#[tokio::test]
async fn what_is_over_is_over() {
    let stage = stage().await;
    let revoked = stage.log_in().await;
    stage.concierge.revoke_all();
    assert_eq!(stage.list(&revoked.access).await, 401);
    assert_eq!(stage.refresh(&revoked.refresh).await.status, 200);
    stage.concierge.set_lifetime(Duration::ZERO);
    stage.concierge.set_refresh_lifetime(Duration::ZERO);
    let expired = stage.log_in().await;
    assert_eq!(stage.list(&expired.access).await, 401);
    assert_eq!(stage.refresh(&expired.refresh).await.status, 400);
}

#[tokio::test]
async fn an_array_of_customers_is_an_array_of_tokens() {
    let stage = stage().await;
    let access = stage.log_in().await.access;
    let wanted = json!([
        { "expires_minutes": 1440, "phones": [phone("1", true), phone("2", false)] },
        { "expires_minutes": 518_400, "phones": [phone("3", false)] },
    ]);
    let answer = stage.post(BY_PHONE, Some(&access), &wanted).await.json();
    assert_eq!(
        (&answer[0]["expires_in"], &answer[1]["expires_in"]),
        (&json!(86_400), &json!(31_104_000))
    );
    assert_eq!(answer[0]["phones"][1], json!({ "hash": sha256_hex(b"2") }));
    let token = answer[1]["client_access_token"].as_str().unwrap();
    let profile = stage
        .post("/sdk/client/profile", Some(token), &json!({}))
        .await;
    assert_eq!(
        profile.json(),
        json!({ "phones": [{ "hash": sha256_hex(b"3") }] })
    );
    stage.concierge.revoke_client_tokens();
    let profile = stage
        .post("/sdk/client/profile", Some(token), &json!({}))
        .await;
    assert_eq!(profile.status, 401);
    stage.concierge.state_client_token_expiry(false);
    for (path, wanted) in [
        (
            BY_CLIENT_ID,
            json!([{ "expires_minutes": 1, "client_id": "42" }]),
        ),
        (
            ACTIVATION,
            json!([{ "expires_minutes": 1, "client_id": "42", "token_type": "self" }]),
        ),
    ] {
        let answer = stage.post(path, Some(&access), &wanted).await.json();
        assert_eq!(answer[0]["client_id"], "42");
        assert!(answer[0].get("expires_in").is_none());
    }
    assert_eq!(stage.concierge.client_token_fetches(), 3);
}

#[tokio::test]
async fn a_client_token_needs_a_backend_token_and_a_correct_request() {
    let stage = stage().await;
    let access = stage.log_in().await.access;
    let right = json!([{ "expires_minutes": 1, "phones": [phone("1", true)] }]);
    assert_eq!(stage.post(BY_PHONE, None, &right).await.status, 401);
    assert_eq!(stage.post(BY_PHONE, Some("x"), &right).await.status, 401);
    let with = |name: &str, value: Value| {
        let mut wanted = right.clone();
        wanted[0][name] = value;
        wanted
    };
    for wrong in [
        right[0].clone(),
        json!([]),
        json!([[]]),
        with("expires_minutes", json!(0)),
        with("expires_minutes", json!(518_401)),
        with("expires_minutes", json!("1440")),
        with("expires_minutes", json!(1.5)),
        with("phones", json!([])),
        with("phones", json!([phone("1", true), phone("2", true)])),
        with("phones", json!([{ "hash": "1", "primary": true }])),
        with("phones", json!([{ "hash": sha256_hex(b"1") }])),
        with(
            "phones",
            json!([{ "hash": sha256_hex(b"1"), "primary": "true" }]),
        ),
        with("client_id", json!("42")),
    ] {
        let reply = stage.post(BY_PHONE, Some(&access), &wrong).await;
        assert_eq!(reply.status, 400, "{wrong}");
        assert!(reply.json()["message"].is_string());
    }
    let wrong = json!([{ "expires_minutes": 1, "client_id": "" }]);
    assert_eq!(
        stage.post(BY_CLIENT_ID, Some(&access), &wrong).await.status,
        400
    );
}

#[tokio::test]
async fn users_come_and_go() {
    let stage = stage().await;
    let access = stage.log_in().await.access;
    let ada = json!({ "clid": "42", "name": "Ada" });
    for (action, status) in [
        ("add", 200),
        ("update", 200),
        ("close", 200),
        ("close", 404),
    ] {
        let path = format!("/api/user/{action}");
        assert_eq!(
            stage.post(&path, Some(&access), &ada).await.status,
            status,
            "{action}"
        );
    }
    assert_eq!(
        stage
            .post("/api/user/add", Some(&access), &json!({}))
            .await
            .status,
        400
    );
    assert_eq!(stage.post("/api/user/add", None, &ada).await.status, 401);
}
