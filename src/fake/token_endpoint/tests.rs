//! What a token endpoint refuses, and how.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::fake::client::{Client, Reply};
use crate::fake::{Fault, IdentityProvider};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &str = "grant_type=client_credentials";

async fn by_the_book() -> (IdentityProvider, Client) {
    start(Rules::by_the_book("an id", "50% of a/secret")).await
}

async fn start(rules: Rules) -> (IdentityProvider, Client) {
    let provider = IdentityProvider::start(None, rules).await.unwrap();
    let client = Client::plain(provider.server().address());
    (provider, client)
}

fn post_rules() -> Rules {
    Rules {
        client_auth: ClientAuth::ClientSecretPost,
        audience: Some("https://api.example/".to_owned()),
        default_scope: None,
        dialect: Dialect::Stitch,
        ..Rules::by_the_book("id", "secret")
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn right() -> String {
    basic("an+id:50%25+of+a%2Fsecret")
}

fn error(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"].clone())
}

#[tokio::test]
async fn the_right_client_gets_a_token() {
    let (provider, client) = by_the_book().await;
    let reply = client
        .send(
            "POST",
            "/token",
            &[FORM, ("authorization", &right())],
            GRANT,
        )
        .await
        .unwrap();
    assert_eq!(
        (reply.status, reply.field("cache-control")),
        (200, Some("no-store"))
    );
    let answer = reply.json();
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(token.len(), 43);
    assert_eq!(
        (
            &answer["expires_in"],
            &answer["token_type"],
            &answer["scope"]
        ),
        (&json!(3600), &json!("Bearer"), &json!("read"))
    );
    assert!(provider.is_good(token).allows("read") && !provider.is_good(token).allows("write"));
    assert_eq!(
        (
            provider.fetches(),
            provider.granted(),
            provider.fetch_times().len()
        ),
        (1, 1, 1)
    );
    assert_eq!(
        provider.last_request().unwrap().form(),
        [("grant_type".to_owned(), "client_credentials".to_owned())]
    );
}

#[tokio::test]
async fn a_client_that_presents_itself_wrongly_is_challenged() {
    let (provider, client) = by_the_book().await;
    let unpadded = format!(
        "Basic {}",
        STANDARD_NO_PAD.encode("an+id:50%25+of+a%2Fsecret")
    );
    let table = [
        ("not form-encoded", basic("an id:50% of a/secret")),
        ("half form-encoded", basic("an+id:50%25+of+a/secret")),
        (
            "blanks as in a URL, slash raw",
            basic("an%20id:50%25%20of%20a/secret"),
        ),
        ("wrong secret", basic("an+id:secret")),
        ("no colon", basic("an+id")),
        ("no padding", unpadded),
        ("not base64", "Basic an+id:secret".to_owned()),
        ("two blanks", right().replace(' ', "  ")),
        ("bearer", right().replace("Basic", "Bearer")),
    ];
    for (case, authorization) in &table {
        let reply = client
            .send(
                "POST",
                "/token",
                &[FORM, ("authorization", authorization)],
                GRANT,
            )
            .await
            .unwrap();
        assert_eq!(error(&reply), (401, json!("invalid_client")), "{case}");
        assert!(
            reply
                .field("www-authenticate")
                .unwrap()
                .starts_with("Basic "),
            "{case}"
        );
    }
    let twice = [
        FORM,
        ("authorization", &right()),
        ("authorization", &right()),
    ];
    let reply = client.send("POST", "/token", &twice, GRANT).await.unwrap();
    assert_eq!(error(&reply), (401, json!("invalid_client")));
    assert_eq!(provider.granted(), 0);
}

#[tokio::test]
async fn a_blank_may_be_a_plus_or_an_escape() {
    let (_provider, client) = by_the_book().await;
    let authorization = basic("an%20id:50%25%20of%20a%2fsecret");
    let reply = client
        .send(
            "POST",
            "/token",
            &[FORM, ("authorization", &authorization)],
            GRANT,
        )
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn requests_that_are_not_by_the_book_are_refused() {
    let (_provider, client) = by_the_book().await;
    let table = [
        (
            "grant_type=client_credentials&grant_type=client_credentials",
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&scope=read&scope=write",
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&client_id=an+id&client_secret=50%25+of+a%2Fsecret",
            "invalid_request",
        ),
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=client credentials", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=client_credentials&scope=admin", "invalid_scope"),
        (
            "grant_type=client_credentials&scope=read++write",
            "invalid_scope",
        ),
        (
            "grant_type=client_credentials&scope=read,write",
            "invalid_scope",
        ),
        ("grant_type=client_credentials&scope=+read", "invalid_scope"),
    ];
    for (body, expected) in table {
        let reply = client
            .send("POST", "/token", &[FORM, ("authorization", &right())], body)
            .await
            .unwrap();
        assert_eq!(error(&reply), (400, json!(expected)), "{body:?}");
    }
}

#[tokio::test]
async fn only_a_form_in_a_post_is_a_request() {
    let (_provider, client) = by_the_book().await;
    let authorization = ("authorization", right());
    let authorization = (authorization.0, authorization.1.as_str());
    let reply = client
        .send("GET", "/token", &[authorization], "")
        .await
        .unwrap();
    assert_eq!((reply.status, reply.field("allow")), (405, Some("POST")));
    let json = ("content-type", "application/json");
    let reply = client
        .send(
            "POST",
            "/token",
            &[json, authorization],
            r#"{"grant_type":"client_credentials"}"#,
        )
        .await
        .unwrap();
    assert_eq!(error(&reply), (400, json!("invalid_request")));
    let reply = client
        .send("POST", "/token", &[authorization], GRANT)
        .await
        .unwrap();
    assert_eq!(error(&reply), (400, json!("invalid_request")));
    let reply = client
        .send(
            "POST",
            "/token?grant_type=client_credentials",
            &[FORM, authorization],
            "",
        )
        .await
        .unwrap();
    assert_eq!(error(&reply), (400, json!("invalid_request")));
    let charset = (
        "content-type",
        "application/x-www-form-urlencoded; charset=utf-8",
    );
    let reply = client
        .send("POST", "/token", &[charset, authorization], GRANT)
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_client_that_belongs_in_the_body_is_looked_for_there() {
    let (provider, client) = start(post_rules()).await;
    let audience = "audience=https%3A%2F%2Fapi.example%2F";
    let table = [
        (
            "client_id=id&client_secret=secret&scope=read",
            "invalid_grant",
        ), // no audience
        (
            "client_id=id&client_secret=secret&scope=read&audience=https%3A%2F%2Fapi.example",
            "invalid_grant",
        ),
        (
            "client_id=id&client_secret=wrong&scope=read&",
            "invalid_client",
        ),
        ("client_id=id&scope=read&", "invalid_client"),
        ("client_secret=secret&scope=read&", "invalid_grant"),
        ("client_id=id&client_secret=secret&", "invalid_scope"), // no scope
    ];
    for (body, expected) in table {
        let audience = if body.ends_with('&') { audience } else { "" };
        let reply = client
            .send(
                "POST",
                "/token",
                &[FORM],
                &format!("{GRANT}&{body}{audience}"),
            )
            .await
            .unwrap();
        assert_eq!(
            (reply.status, reply.json()),
            (400, json!({ "error": expected })),
            "{body}"
        );
    }
    let body = format!("{GRANT}&client_id=id&client_secret=secret&scope=write+read&{audience}");
    let header = ("authorization", basic("id:secret"));
    let reply = client
        .send("POST", "/token", &[FORM, (header.0, &header.1)], &body)
        .await
        .unwrap();
    assert_eq!(error(&reply), (400, json!("invalid_request")));
    let reply = client.send("POST", "/token", &[FORM], &body).await.unwrap();
    assert_eq!(
        (reply.status, &reply.json()["scope"]),
        (200, &json!("write read"))
    );
    assert_eq!(provider.granted(), 1);
}

#[tokio::test]
async fn tokens_expire_and_can_be_revoked() {
    let (provider, client) = by_the_book().await;
    let fetch = async || {
        let reply = client
            .send(
                "POST",
                "/token",
                &[FORM, ("authorization", &right())],
                GRANT,
            )
            .await
            .unwrap();
        reply.json()["access_token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (fetch().await, fetch().await);
    assert_ne!(first, second);
    provider.revoke(&first);
    assert_eq!(provider.is_good(&first), Verdict::Revoked);
    assert!(provider.is_good(&second).is_good());
    provider.revoke_all();
    assert_eq!(provider.is_good(&second), Verdict::Revoked);
    provider.set_lifetime(Duration::ZERO);
    assert_eq!(provider.is_good(&fetch().await), Verdict::Expired);
    assert_eq!(provider.is_good("made up"), Verdict::Unknown);
}

#[tokio::test]
async fn answers_can_be_amended() {
    let (provider, client) = by_the_book().await;
    provider.amend_answers(|answer| {
        answer.insert("expires_in".to_owned(), "3600".into());
        answer.remove("token_type");
    });
    let reply = client
        .send(
            "POST",
            "/token",
            &[FORM, ("authorization", &right())],
            GRANT,
        )
        .await
        .unwrap();
    assert_eq!(reply.json()["expires_in"], "3600");
    assert_eq!(reply.json().get("token_type"), None);
}

#[tokio::test]
async fn a_faulty_endpoint_still_counts() {
    let (provider, client) = by_the_book().await;
    provider.faults().once(Fault::Unauthorized);
    let reply = client
        .send(
            "POST",
            "/token",
            &[FORM, ("authorization", &right())],
            GRANT,
        )
        .await
        .unwrap();
    assert_eq!(error(&reply), (401, json!("invalid_client")));
    assert_eq!((provider.fetches(), provider.granted()), (1, 0));
}

#[tokio::test]
async fn an_assertion_is_taken_once_and_only_from_the_client_for_this_endpoint_and_in_time() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let (provider, client) = start(Rules {
        client_auth: ClientAuth::ClientSecretJwt,
        ..Rules::by_the_book("id", "secret")
    })
    .await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let endpoint = "https://login.example/token";
    let good = json!({ "iss": "id", "sub": "id", "aud": endpoint, "exp": now + 60, "nbf": now, "jti": "1" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let attempts = [
        (with("iss", json!("other")), 401),
        (with("sub", json!(null)), 401),
        (with("aud", json!("https://other.example/token")), 401),
        (with("exp", json!(now)), 401),
        (with("exp", json!(null)), 401),
        (with("nbf", json!(now + 60)), 401),
        (with("jti", json!(null)), 401),
        (good.clone(), 200),
        (good.clone(), 401),
        (with("jti", json!("2")), 200),
    ];
    for (claims, status) in attempts {
        let key = EncodingKey::from_secret(b"secret");
        let assertion = encode(&Header::new(Algorithm::HS384), &claims, &key).unwrap();
        let form = format!(
            "{GRANT}&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion={assertion}"
        );
        let fields = [FORM, ("host", "login.example")];
        let reply = client.send("POST", "/token", &fields, &form).await.unwrap();
        assert_eq!(reply.status, status, "{claims}");
    }
    assert_eq!(provider.granted(), 2);
}
