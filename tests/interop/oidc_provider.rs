//! oidc-provider, and a protected resource that asks it (or its keys) about every token.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::certificates::{Authority, Certificate};
use crate::node::Server;
use crate::stage::{Directory, Reply, SECRET, Setting, Stage};

async fn oidc_provider(settings: &Value) -> Server {
    Server::start("oidc-provider.mjs", settings).await
}

/// One with this client, in the words of RFC 7591; its id is `app`.
async fn with_client(metadata: Value) -> Server {
    oidc_provider(&json!({ "client": client(metadata) })).await
}

/// One with a client that signs like this, with a key that is made there.
async fn with_signing_client(algorithm: &str, kind_of_key: &str) -> Server {
    let client = client(json!({
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": algorithm,
    }));
    oidc_provider(&json!({ "client": client, "key": kind_of_key })).await
}

/// One that has given a client its first refresh token.
async fn with_refresh_token(mut metadata: Value) -> Server {
    metadata["grant_types"] = json!(["authorization_code", "refresh_token"]);
    metadata["response_types"] = json!(["code"]);
    metadata["redirect_uris"] = json!(["https://app.example/callback"]);
    with_client(metadata).await
}

fn client(mut metadata: Value) -> Value {
    if metadata["client_id"].is_null() {
        metadata["client_id"] = json!("app");
    }
    metadata
}

/// The proxy between the app and the protected resource.
fn before(server: &Server) -> Setting {
    Stage::set()
        .open()
        .provider_at(server.said("token_endpoint"))
        .upstream_at(server.said("api"))
}

/// The same, with tokens for that resource.
fn for_the_resource(server: &Server) -> Setting {
    let resource = server.said("resource");
    before(server).provider(&format!(
        "resource = [\"{resource}\"]\nscope = [\"orders:read\"]"
    ))
}

/// The same, for the holder of the first refresh token.
fn refreshing(server: &Server) -> Setting {
    let setting = for_the_resource(server);
    let first = kept(setting.directory(), "first", server.said("refresh_token"));
    setting.provider(&format!(
        "grant_type = \"refresh_token\"\nrefresh_token = {first}"
    ))
}

/// Writes a secret, and says how a configuration refers to it.
fn kept(directory: &Directory, name: &str, secret: &str) -> String {
    let path = directory.write(name, secret);
    format!("{{ file = \"{}\" }}", path.display())
}

async fn renew(stage: &Stage) -> Reply {
    stage.admin(Method::POST, "/tokens/idp/renew").await
}

#[track_caller]
fn expect_accepted(reply: Reply, server: &Server, client_id: &str) {
    let claims = reply.expect_ok().json();
    assert_eq!(claims["client_id"], client_id);
    assert_eq!(claims["aud"], server.said("resource"));
    assert_eq!(claims["scope"], "orders:read");
}

/// Renews until the server has granted so many tokens, of which each is accepted.
async fn expect_grants(count: u32, stage: &Stage, server: &Server) {
    expect_accepted(stage.get("/api/").await, server, "app");
    for _ in 1..count {
        renew(stage).await.expect_ok();
        expect_accepted(stage.get("/api/").await, server, "app");
    }
    let seen = server.seen().await;
    assert_eq!(
        seen["happened"],
        json!({ "grant.success": count }),
        "{seen}"
    );
    assert_eq!(seen["tokens"], count);
    assert_eq!(seen["refused"], 0);
}

#[track_caller]
fn expect_refusal(reply: Reply, code: &str) {
    let problem = reply.expect_problem(502, "token-refused").json();
    let detail = problem["detail"].as_str().unwrap();
    // What it said, and then what to do.
    let said = format!("the provider refused: {code}; ");
    assert!(detail.starts_with(&said), "{detail}");
}

#[tokio::test]
async fn an_awkward_id_and_secret_arrive_as_they_are() {
    // Every character of RFC 6749 appendix A that somebody could take for something else.
    let (id, secret) = ("ap:p +1%2F&=?", "s:e +c%72/e=t&\"'~^\\<>");
    for method in ["client_secret_basic", "client_secret_post"] {
        let server = with_client(json!({
            "client_id": id,
            "client_secret": secret,
            "token_endpoint_auth_method": method,
        }))
        .await;
        let setting = for_the_resource(&server);
        let id_place = kept(setting.directory(), "id", id);
        let secret_place = kept(setting.directory(), "secret", secret);
        let stage = setting
            .provider(&format!(
                "client_auth = \"{method}\"\nclient_id = {id_place}\nclient_secret = {secret_place}"
            ))
            .start()
            .await;
        expect_accepted(stage.get("/api/").await, &server, id);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_told_as_invalid_client_and_no_request_goes_out() {
    for method in [
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
    ] {
        let server = with_client(json!({
            "client_secret": "it is quite another one, and long enough",
            "token_endpoint_auth_method": method,
        }))
        .await;
        let lines = format!("client_auth = \"{method}\"");
        let stage = for_the_resource(&server).provider(&lines).start().await;
        expect_refusal(stage.get("/api/").await, "invalid_client");
        let seen = server.seen().await;
        assert_eq!(seen["happened"], json!({ "grant.error": 1 }), "{method}");
        assert_eq!(seen["requests"], 0);
    }
}

#[tokio::test]
async fn a_secret_signs_with_every_algorithm_and_another_id_each_time() {
    for algorithm in ["HS256", "HS384", "HS512"] {
        let server = with_client(json!({
            "client_secret": SECRET,
            "token_endpoint_auth_method": "client_secret_jwt",
            "token_endpoint_auth_signing_alg": algorithm,
        }))
        .await;
        let lines =
            format!("client_auth = \"client_secret_jwt\"\nassertion = {{ alg = \"{algorithm}\" }}");
        let stage = for_the_resource(&server).provider(&lines).start().await;
        expect_grants(2, &stage, &server).await;
    }
}

/// The proxy with the key of a client that signs, and this besides in its assertion.
fn signing(server: &Server, assertion: &str) -> Setting {
    let setting = for_the_resource(server);
    let key = kept(setting.directory(), "key.pem", server.said("key"));
    setting.provider(&format!(
        "client_auth = \"private_key_jwt\"\nassertion = {{ key = {key}, {assertion} }}"
    ))
}

#[tokio::test]
async fn a_private_key_signs_with_every_algorithm_and_another_id_each_time() {
    for (algorithm, kind_of_key) in [
        ("RS256", "rsa"),
        ("PS256", "rsa"),
        ("ES256", "ec"),
        ("EdDSA", "ed25519"),
    ] {
        let server = with_signing_client(algorithm, kind_of_key).await;
        let assertion = format!("alg = \"{algorithm}\"");
        let stage = signing(&server, &assertion).start().await;
        expect_grants(2, &stage, &server).await;
    }
}

#[tokio::test]
async fn an_assertion_may_be_for_the_issuer_or_the_token_endpoint_and_for_nobody_else() {
    let server = with_signing_client("ES256", "ec").await;
    let get = async |audience: &str| {
        let assertion = format!("alg = \"ES256\", audience = \"{audience}\"");
        let stage = signing(&server, &assertion).start().await;
        stage.get("/api/").await
    };
    for audience in [server.said("issuer"), server.said("token_endpoint")] {
        expect_accepted(get(audience).await, &server, "app");
    }
    let reply = get("https://elsewhere.example").await;
    expect_refusal(reply, "invalid_client");
}

#[tokio::test]
async fn an_assertion_of_somebody_else_is_good_once_and_the_next_one_again() {
    let server = with_signing_client("RS256", "rsa").await;
    let key = EncodingKey::from_rsa_pem(server.said("key").as_bytes()).unwrap();
    let assertion = |id: &str| {
        let claims = json!({
            "iss": "app",
            "sub": "app",
            "aud": server.said("issuer"),
            "jti": id,
            "exp": jsonwebtoken::get_current_timestamp() + 60,
        });
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
    };
    let setting = for_the_resource(&server);
    let place = kept(setting.directory(), "assertion", &assertion("first"));
    let lines = format!("client_auth = \"private_key_jwt\"\nassertion = {place}");
    let stage = setting.provider(&lines).start().await;
    expect_accepted(stage.get("/api/").await, &server, "app");
    renew(&stage).await;
    let happened = server.seen().await["happened"].clone();
    assert_eq!(happened, json!({ "grant.success": 1, "grant.error": 1 }));
    // The token is as good as before.
    expect_accepted(stage.get("/api/").await, &server, "app");
    stage.directory.write("assertion", &assertion("second"));
    renew(&stage).await.expect_ok();
    expect_accepted(stage.get("/api/").await, &server, "app");
    assert_eq!(server.seen().await["tokens"], 2);
}

/// What the protected resource says to a client that shows this certificate.
async fn show(certificate: &Certificate, method: &str, ca: &str, server: &Server) -> Reply {
    let setting = for_the_resource(server);
    let write = |name: &str, pem: &str| setting.directory().write(name, pem);
    let ca = write("ca.pem", ca);
    let cert = write("client.crt", &certificate.pem);
    let key = write("client.key", &certificate.key);
    let lines = format!(
        "client_auth = \"{method}\"\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
        ca.display(),
        cert.display(),
        key.display()
    );
    let stage = setting.provider(&lines).start().await;
    stage.get("/api/").await
}

#[tokio::test]
async fn a_certificate_proves_who_the_client_is() {
    let authority = Authority::new();
    let directory = Directory::new();
    let ca = directory.write("ca.pem", &authority.pem);
    let host = authority.issue("127.0.0.1");
    let issued = authority.issue("app.example");
    let own = Certificate::self_signed("app.example");
    let of_another = authority.issue("other.example");
    let self_made = Certificate::self_signed("app.example");
    for (method, name, good, bad) in [
        (
            "tls_client_auth",
            json!("app.example"),
            &issued,
            [&of_another, &self_made],
        ),
        (
            "self_signed_tls_client_auth",
            Value::Null,
            &own,
            [&issued, &self_made],
        ),
    ] {
        let mut client = client(json!({ "token_endpoint_auth_method": method }));
        if !name.is_null() {
            client["tls_client_auth_san_dns"] = name;
        }
        let settings = json!({
            "client": client,
            "certificate": own.pem,
            "tls": { "cert": host.pem, "key": host.key, "ca": authority.pem },
        });
        let server = Server::trusting(Some(&ca), "oidc-provider.mjs", &settings).await;
        let reply = show(good, method, &authority.pem, &server).await;
        expect_accepted(reply, &server, "app");
        for certificate in bad {
            let reply = show(certificate, method, &authority.pem, &server).await;
            expect_refusal(reply, "invalid_client");
        }
    }
}

#[tokio::test]
async fn what_may_not_be_asked_for_is_told_by_its_code() {
    let server = with_client(json!({ "client_secret": SECRET, "scope": "orders:read" })).await;
    let resource = server.said("resource");
    for (lines, code) in [
        (
            format!("resource = [\"{resource}\"]\nscope = [\"orders:write\"]"),
            "invalid_scope",
        ),
        (
            format!("resource = [\"{resource}\", \"https://other.example/\"]"),
            "invalid_target",
        ),
        (
            "grant_type = \"password\"\nusername = \"ada\"\npassword = { env = \"KEY\" }".into(),
            "unsupported_grant_type",
        ),
    ] {
        let stage = before(&server).provider(&lines).start().await;
        expect_refusal(stage.get("/api/").await, code);
    }
    assert_eq!(server.seen().await["requests"], 0);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_everybody_and_the_app_does_not_notice() {
    let server = oidc_provider(&json!({
        "client": client(json!({
            "client_secret": SECRET,
            "token_endpoint_auth_method": "client_secret_post",
        })),
        "format": "opaque",
    }))
    .await;
    let lines = "client_auth = \"client_secret_post\"";
    let stage = for_the_resource(&server).provider(lines).start().await;
    expect_accepted(stage.get("/api/").await, &server, "app");
    server.revoke().await;
    for reply in join_all((0..20).map(|_| stage.post("/api/", "an order"))).await {
        expect_accepted(reply, &server, "app");
    }
    let seen = server.seen().await;
    assert_eq!(seen["tokens"], 2);
    assert_eq!(seen["happened"], json!({ "grant.success": 2 }));
    let refused = seen["refused"].as_u64().unwrap();
    assert!((1..=20).contains(&refused), "{seen}");
    assert_eq!(seen["requests"], 21 + refused);
}

/// Uses tokens of three seconds, of which the server's clock may cut one, until there were five.
async fn expect_no_expired_token(format: &str) {
    let client = client(json!({ "client_secret": SECRET }));
    let settings = json!({ "client": client, "format": format, "ttl": 3 });
    let server = oidc_provider(&settings).await;
    let stage = for_the_resource(&server).start().await;
    let mut app = stage.client().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        expect_accepted(app.get("/api/").await, &server, "app");
        let seen = server.seen().await;
        assert_eq!(seen["refused"], 0, "{seen}");
        if seen["tokens"] == 5 {
            break;
        }
        assert!(Instant::now() < deadline, "{seen}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn no_resource_ever_sees_an_expired_jwt_however_short_its_life() {
    expect_no_expired_token("jwt").await;
}

#[tokio::test]
async fn no_resource_ever_sees_an_expired_opaque_token_however_short_its_life() {
    expect_no_expired_token("opaque").await;
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_with_every_use_is_never_used_twice() {
    for (metadata, client_auth) in [
        (json!({ "client_secret": SECRET }), "client_secret_basic"),
        (json!({ "token_endpoint_auth_method": "none" }), "none"),
    ] {
        let server = with_refresh_token(metadata).await;
        let lines = format!("client_auth = \"{client_auth}\"");
        let stage = refreshing(&server).provider(&lines).start().await;
        for reply in join_all((0..20).map(|_| stage.get("/api/"))).await {
            assert_eq!(reply.expect_ok().json()["sub"], "ada");
        }
        expect_grants(4, &stage, &server).await;
    }
}

#[tokio::test]
async fn a_first_refresh_token_that_was_used_before_is_told_as_invalid_grant() {
    let server = with_refresh_token(json!({ "client_secret": SECRET })).await;
    let stage = refreshing(&server).start().await;
    expect_accepted(stage.get("/api/").await, &server, "app");
    let restarted = refreshing(&server).start().await;
    expect_refusal(restarted.get("/api/").await, "invalid_grant");
}
