//! How a client proves who it is, and what it asks a token for: the forms that arrive, and the JWTs in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use pillion::fake::{Authority, ClientAuth, Fault, IdentityProvider, Rules};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::stage::{SECRET, Setting, Stage};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A stage whose identity provider gives a token for anything: what was asked for is looked at afterwards.
async fn lenient(setting: Setting) -> Stage {
    let stage = setting.open().start().await;
    let token = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 3600 });
    let always = Fault::json(StatusCode::OK, &token);
    stage.identity_provider.faults().always(always);
    stage
}

/// The form of the newest token request, for parameters that come once.
fn form(stage: &Stage) -> BTreeMap<String, String> {
    let request = stage.identity_provider.last_request().unwrap();
    let pairs = request.form();
    let form: BTreeMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(form.len(), pairs.len(), "a parameter is repeated");
    form
}

async fn renew(stage: &Stage) {
    let renewed = stage.admin(Method::POST, "/tokens/idp/renew").await;
    renewed.expect_ok();
}

/// What another implementation makes of a JWT for this audience.
fn verify(token: &str, key: &DecodingKey, algorithm: Algorithm, aud: &str) -> TokenData<Value> {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[aud]);
    validation.set_required_spec_claims(&["exp", "iss", "nbf", "aud"]);
    validation.validate_nbf = true;
    jsonwebtoken::decode(token, key, &validation).unwrap()
}

/// A private key in a file of the stage, with a certificate beside it.
fn key_file(setting: &Setting) -> (String, DecodingKey) {
    let pair = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&pair).unwrap();
    let pem = format!("{}{}", certificate.pem(), pair.serialize_pem());
    let path = setting.directory().write("client.pem", &pem);
    let public = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).unwrap();
    (path.to_str().unwrap().to_owned(), public)
}

#[tokio::test]
async fn every_attempt_is_signed_anew_and_verifies() {
    let setting = Stage::set();
    let (key, public) = key_file(&setting);
    let setting = setting.provider(&format!(
        "client_auth = \"private_key_jwt\"\n\
         assertion = {{ key = {{ file = \"{key}\" }}, alg = \"ES256\", kid = \"auto\", claims = {{ tenant = 7 }} }}"
    ));
    let stage = lenient(setting).await;
    let endpoint = format!(
        "http://{}/token",
        stage.identity_provider.server().address()
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        renew(&stage).await;
        let form = form(&stage);
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form["client_id"], "app");
        assert_eq!(form["client_assertion_type"], JWT_BEARER);
        assert!(!form.contains_key("client_secret"));
        let assertion = &form["client_assertion"];
        let jwt = verify(assertion, &public, Algorithm::ES256, &endpoint);
        assert_eq!(jwt.claims["iss"], "app");
        assert_eq!(jwt.claims["sub"], "app");
        assert_eq!(jwt.claims["tenant"], 7);
        assert_eq!(jwt.header.kid.unwrap().len(), 40);
        seen.push(jwt.claims["jti"].clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
    let request = stage.identity_provider.last_request().unwrap();
    assert_eq!(request.field("authorization"), None);
}

#[tokio::test]
async fn a_provider_that_takes_no_assertion_twice_takes_one_for_every_attempt() {
    let setting = Stage::set();
    let path = setting.directory().write("client.pem", "");
    let pair = KeyPair::generate().unwrap();
    std::fs::write(&path, pair.serialize_pem()).unwrap();
    let stage = setting
        .rules(|rules| {
            rules.client_auth = ClientAuth::PrivateKeyJwt;
            rules.client_secret = pair.public_key_pem();
        })
        .provider(&format!(
            "client_auth = \"private_key_jwt\"\n\
             assertion = {{ key = {{ file = \"{}\" }}, alg = \"ES256\" }}",
            path.display()
        ))
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    renew(&stage).await;
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.granted(), 2);

    // The same one again.
    let kept = stage.identity_provider.last_request().unwrap().form();
    let kept: std::collections::HashMap<_, _> = kept.into_iter().collect();
    let path = stage.directory.write("kept", &kept["client_assertion"]);
    let rules = stage.identity_provider.rules().clone();
    let lines = format!(
        "client_auth = \"private_key_jwt\"\nassertion = {{ file = \"{}\" }}",
        path.display()
    );
    let url = format!(
        "http://{}/token",
        stage.identity_provider.server().address()
    );
    let again = Stage::set().rules(|it| *it = rules).provider_at(url);
    let again = again.provider(&lines).start().await;
    again
        .get("/api/")
        .await
        .expect_problem(502, "token-refused");
    assert_eq!(stage.identity_provider.granted(), 2);
}

#[tokio::test]
async fn a_rotated_key_signs_the_next_attempt() {
    let setting = Stage::set();
    let (key, _) = key_file(&setting);
    let setting = setting.provider(&format!(
        "client_auth = \"private_key_jwt\"\n\
         assertion = {{ key = {{ file = \"{key}\" }}, alg = \"ES256\", audience = \"https://login.example\" }}"
    ));
    let stage = lenient(setting).await;
    stage.get("/api/").await.expect_ok();
    let next = KeyPair::generate().unwrap();
    stage.directory.write("client.pem", &next.serialize_pem());
    renew(&stage).await;
    let public = DecodingKey::from_ec_pem(next.public_key_pem().as_bytes()).unwrap();
    let assertion = &form(&stage)["client_assertion"];
    verify(
        assertion,
        &public,
        Algorithm::ES256,
        "https://login.example",
    );
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_a_refusal_that_names_its_file() {
    let setting = Stage::set();
    let (key, _) = key_file(&setting);
    let lines = format!(
        "client_auth = \"private_key_jwt\"\nassertion = {{ key = {{ file = \"{key}\" }}, alg = \"RS256\" }}"
    );
    let stage = setting.provider(&lines).start().await;
    let reply = stage.get("/api/").await;
    let problem = reply.expect_problem(502, "token-refused").json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("client.pem holds no key for RS256"),
        "{detail}"
    );
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_client_secret_signs_in_place_of_being_sent() {
    for (name, algorithm) in [
        ("HS256", Algorithm::HS256),
        ("HS384", Algorithm::HS384),
        ("HS512", Algorithm::HS512),
    ] {
        let setting = Stage::set().provider(&format!(
            "client_auth = \"client_secret_jwt\"\n\
             assertion = {{ alg = \"{name}\", audience = \"https://login.example\" }}"
        ));
        let stage = lenient(setting).await;
        stage.get("/api/").await.expect_ok();
        let form = form(&stage);
        let secret = DecodingKey::from_secret(SECRET.as_bytes());
        let assertion = &form["client_assertion"];
        verify(assertion, &secret, algorithm, "https://login.example");
        assert!(form.values().all(|value| !value.contains(SECRET)));
    }
}

#[tokio::test]
async fn an_assertion_that_somebody_else_has_signed_is_read_for_every_attempt() {
    let setting = Stage::set();
    let path = setting.directory().write("token", "first.of.all\n");
    let setting = setting.provider(&format!(
        "client_auth = \"private_key_jwt\"\nassertion = {{ file = \"{}\" }}",
        path.display()
    ));
    let stage = lenient(setting).await;
    stage.get("/api/").await.expect_ok();
    assert_eq!(form(&stage)["client_assertion"], "first.of.all");
    stage.directory.write("token", "second.of.all\n");
    renew(&stage).await;
    assert_eq!(form(&stage)["client_assertion"], "second.of.all");
    assert_eq!(form(&stage)["client_assertion_type"], JWT_BEARER);
}

/// A stage whose client shows this certificate to an identity provider that asks for one.
async fn showing(
    method: &str,
    authority: &Authority,
    tls: Arc<ServerConfig>,
    (certificate, key): (&str, &str),
) -> (IdentityProvider, Stage) {
    let mut rules = Rules::by_the_book("app", "");
    rules.client_auth = ClientAuth::None;
    let strict = IdentityProvider::start(Some(tls), rules).await.unwrap();
    let setting = Stage::set().open();
    let write = |name: &str, text: &str| setting.directory().write(name, text);
    let ca = write("ca.pem", authority.certificate_pem());
    let cert = write("client.crt", certificate);
    let key = write("client.key", key);
    let lines = format!(
        "client_auth = \"{method}\"\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
        ca.display(),
        cert.display(),
        key.display()
    );
    let url = format!("https://{}/token", strict.server().address());
    let stage = setting.provider_at(url).provider(&lines).start().await;
    (strict, stage)
}

#[tokio::test]
async fn a_certificate_proves_who_the_client_is() {
    let authority = Authority::new().unwrap();
    let client = authority.client_certificate("app").unwrap();
    let tls = authority.mutual_server_config(&["127.0.0.1"]).unwrap();
    let pair = (client.certificate_pem.as_str(), client.key_pem.as_str());
    let (strict, stage) = showing("tls_client_auth", &authority, tls, pair).await;
    stage.get("/api/").await.expect_ok();
    let form = strict.last_request().unwrap().form();
    let id = ("client_id".to_owned(), "app".to_owned());
    assert!(form.contains(&id), "{form:?}");
    assert_eq!(strict.granted(), 1);
}

#[tokio::test]
async fn a_certificate_that_its_own_key_has_signed_proves_it_where_the_provider_knows_it() {
    let authority = Authority::new().unwrap();
    let [(certificate, key), (stranger, its_key)] = [(); 2].map(|()| {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["app".to_owned()]).unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        (certificate.pem(), pair.serialize_pem())
    });
    let known = || {
        let names = ["127.0.0.1"];
        authority
            .pinning_server_config(&names, &certificate)
            .unwrap()
    };
    let method = "self_signed_tls_client_auth";
    let (strict, stage) = showing(method, &authority, known(), (&certificate, &key)).await;
    stage.get("/api/").await.expect_ok();
    let form = strict.last_request().unwrap().form();
    let id = ("client_id".to_owned(), "app".to_owned());
    assert!(form.contains(&id), "{form:?}");
    assert_eq!(strict.granted(), 1);

    let (strict, stage) = showing(method, &authority, known(), (&stranger, &its_key)).await;
    let reply = stage.get("/api/").await;
    reply.expect_problem(503, "token-unavailable");
    assert_eq!(strict.fetches(), 0);
}

#[tokio::test]
async fn a_password_goes_with_its_username() {
    let stage =
        lenient(Stage::set().provider(
            "grant_type = \"password\"\nusername = \"robot\"\npassword = { env = \"KEY\" }",
        ))
        .await;
    stage.get("/api/").await.expect_ok();
    let form = form(&stage);
    assert_eq!(form["grant_type"], "password");
    assert_eq!(form["username"], "robot");
    assert_eq!(form["password"], "CNRY-long-lived-key");
}

#[tokio::test]
async fn a_refresh_token_that_comes_with_an_answer_is_sent_next_and_the_first_one_after_a_refusal()
{
    let setting =
        Stage::set().provider("grant_type = \"refresh_token\"\nrefresh_token = { env = \"KEY\" }");
    let stage = setting.open().start().await;
    let faults = stage.identity_provider.faults();
    let answer = |next: &str| json!({ "access_token": "t", "refresh_token": next });
    let sent = || form(&stage)["refresh_token"].clone();

    faults.once(Fault::json(StatusCode::OK, &answer("second")));
    stage.get("/api/").await.expect_ok();
    assert_eq!(sent(), "CNRY-long-lived-key");
    assert_eq!(form(&stage)["grant_type"], "refresh_token");

    // An answer without one leaves the one that was sent in use.
    for (answer, expected) in [
        (answer("third"), "second"),
        (json!({ "access_token": "t" }), "third"),
        (answer(""), "third"),
    ] {
        faults.once(Fault::json(StatusCode::OK, &answer));
        renew(&stage).await;
        assert_eq!(sent(), expected);
    }

    let refusal = json!({ "error": "invalid_grant" });
    faults.once(Fault::json(StatusCode::BAD_REQUEST, &refusal));
    stage.admin(Method::POST, "/tokens/idp/renew").await;
    assert_eq!(sent(), "third");
    faults.once(Fault::json(StatusCode::OK, &answer("second")));
    renew(&stage).await;
    assert_eq!(sent(), "CNRY-long-lived-key");
}

#[tokio::test]
async fn a_grant_is_an_assertion_and_the_client_can_have_one_of_its_own() {
    let setting = Stage::set();
    let (key, public) = key_file(&setting);
    let signed = format!("key = {{ file = \"{key}\" }}, alg = \"ES256\"");
    let setting = setting.provider(&format!(
        "grant_type = \"urn:ietf:params:oauth:grant-type:jwt-bearer\"\n\
         assertion = {{ {signed}, audience = \"https://login.example\", claims = {{ sub = \"{{input.user}}\", scope = \"mail\" }} }}\n\
         client_auth = \"private_key_jwt\"\n\
         client_assertion = {{ {signed} }}\n\
         inputs = [\"user\"]"
    ));
    let route = "path = \"/api/{user}\"\ninputs = { user = \"{path.user}\" }";
    let stage = lenient(setting.route(route)).await;
    stage.get("/api/ada").await.expect_ok();
    let form = form(&stage);
    assert_eq!(
        form["grant_type"],
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let assertion = &form["assertion"];
    let grant = verify(
        assertion,
        &public,
        Algorithm::ES256,
        "https://login.example",
    );
    assert_eq!(grant.claims["iss"], "app");
    assert_eq!(grant.claims["sub"], "ada");
    assert_eq!(grant.claims["scope"], "mail");
    let endpoint = format!(
        "http://{}/token",
        stage.identity_provider.server().address()
    );
    let client = verify(
        &form["client_assertion"],
        &public,
        Algorithm::ES256,
        &endpoint,
    );
    assert_eq!(client.claims["sub"], "app");
    assert_ne!(client.claims["jti"], grant.claims["jti"]);
}

#[tokio::test]
async fn a_token_is_exchanged_for_another_one() {
    let setting = Stage::set();
    let path = setting.directory().write("subject", "subject.token\n");
    let setting = setting.provider(&format!(
        "grant_type = \"token-exchange\"\n\
         client_auth = \"none\"\n\
         subject_token = {{ file = \"{}\" }}\n\
         subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\"\n\
         actor_token = {{ env = \"KEY\" }}\n\
         actor_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\n\
         requested_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\n\
         audience = [\"one\", \"two\"]\n\
         resource = [\"https://api.example/a\", \"https://api.example/b\"]\n\
         params = {{ options = \"x\" }}",
        path.display()
    ));
    let stage = setting.open().start().await;
    let answer = json!({
        "access_token": "t",
        "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_type": "N_A",
    });
    let faults = stage.identity_provider.faults();
    faults.always(Fault::json(StatusCode::OK, &answer));
    stage.get("/api/").await.expect_ok();
    let form = stage.identity_provider.last_request().unwrap().form();
    let form: Vec<_> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        form,
        [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange"
            ),
            ("subject_token", "subject.token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("actor_token", "CNRY-long-lived-key"),
            (
                "actor_token_type",
                "urn:ietf:params:oauth:token-type:access_token"
            ),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token"
            ),
            ("audience", "one"),
            ("audience", "two"),
            ("resource", "https://api.example/a"),
            ("resource", "https://api.example/b"),
            ("options", "x"),
            ("client_id", "app"),
        ]
    );
}

#[tokio::test]
async fn a_jwt_that_is_signed_here_is_the_token() {
    let setting = Stage::set().open();
    let (key, public) = key_file(&setting);
    let stage = setting
        .more(&format!(
            "[provider.signed]\ntype = \"jwt\"\nkey = {{ file = \"{key}\" }}\nalg = \"ES256\"\nkid = \"K1\"\n\
             inputs = [\"user\"]\nlifetime = \"20m\"\n\
             claims = {{ iss = \"team\", aud = \"api\", grants = {{ identity = \"{{input.user}}\", video = [1, true] }} }}\n\
             [[route]]\npath = \"/signed/{{user}}\"\nupstream = \"UPSTREAM\"\nprovider = \"signed\"\n\
             inputs = {{ user = \"{{path.user}}\" }}"
        ))
        .start()
        .await;
    let token = async |user: &str| {
        stage.get(&format!("/signed/{user}/")).await.expect_ok();
        let request = stage.upstream.last_request().unwrap();
        let field = request.field("authorization").unwrap();
        field.strip_prefix("Bearer ").unwrap().to_owned()
    };
    let adas = token("ada").await;
    let jwt = verify(&adas, &public, Algorithm::ES256, "api");
    assert_eq!(
        jwt.claims["grants"],
        json!({ "identity": "ada", "video": [1, true] })
    );
    assert_eq!(jwt.header.kid.as_deref(), Some("K1"));
    assert_eq!(token("ada").await, adas, "it is kept");
    assert_ne!(token("bob").await, adas);
    assert_eq!(stage.identity_provider.fetches(), 0);
}
