//! The configurations in `examples/`, read by hand: the requests that they describe, sent to the
//! fakes, bring tokens, and the APIs take these where they say.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use pillion::fake::{ClientKey, Concierge, Highnote, Kind, Other};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Map, Value, json};

use crate::stage::{Client, Reply, full, request};

macro_rules! example {
    ($name:literal) => {
        toml::from_str::<Value>(include_str!(concat!(
            "../../examples/",
            $name,
            "/proxy.toml"
        )))
        .unwrap()
    };
}

/// What placeholders stand for.
struct Values<'a>(Vec<(&'a str, String)>);

impl Values<'_> {
    /// `text` with its placeholders replaced; one that nobody knows is left alone.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            let encoded = [
                (format!("{{{name}}}"), value.clone()),
                (format!("{{{name}|base64}}"), STANDARD.encode(value)),
                (
                    format!("{{{name}|basic}}"),
                    STANDARD.encode(format!("{value}:")),
                ),
                (format!("{{{name}|int(1..518400)}}"), value.clone()),
            ];
            for (placeholder, value) in encoded {
                text = text.replace(&placeholder, &value);
            }
        }
        text
    }

    /// The same in a document; a text that is one number is a number, and JSON is JSON.
    fn fill_json(&self, document: &Value) -> Value {
        match document {
            Value::String(text) if text.contains('{') => {
                let filled = self.fill(text);
                let keeps_its_type = text.contains("minutes") || text.contains("phones");
                match serde_json::from_str(&filled) {
                    Ok(typed) if keeps_its_type => typed,
                    _ => Value::String(filled),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), self.fill_json(value)))
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    fn fields(&self, table: &Value) -> Vec<(String, String)> {
        let headers = table.get("headers").and_then(Value::as_object);
        headers
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let name = name.to_ascii_lowercase();
                (name, self.fill(value.as_str().unwrap()))
            })
            .collect()
    }
}

/// A provider's request, and what it brings.
async fn mint(at: SocketAddr, provider: &Value, values: &Values<'_>) -> Reply {
    let url = provider["url"]
        .as_str()
        .unwrap_or_else(|| provider["token_endpoint"].as_str().unwrap());
    let path = values.fill(path_of(url));
    let mut fields = values.fields(provider);
    let body = match (provider.get("json"), provider.get("query")) {
        (Some(json), _) => values.fill_json(json).to_string(),
        (None, Some(query)) => {
            let variables = provider.get("variables").cloned().unwrap_or(json!({}));
            json!({ "query": query, "variables": values.fill_json(&variables) }).to_string()
        }
        (None, None) => String::new(),
    };
    if !body.is_empty() {
        fields.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    send(at, &path, &fields, &body).await
}

async fn send(at: SocketAddr, path: &str, fields: &[(String, String)], body: &str) -> Reply {
    let mut request = request(Method::POST, path);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let request = request.body(full(body.to_owned())).unwrap();
    Client::connect(at).await.send(request).await
}

fn path_of(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap();
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn host_of(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap();
    rest.split('/').next().unwrap()
}

/// The token of an answer, and that an expiry can be read where the provider says.
fn token(provider: &Value, reply: &Reply) -> String {
    assert!((200..300).contains(&reply.status), "{:?}", reply.body);
    if let Some(field) = provider["token"].get("header").and_then(Value::as_str) {
        return reply.field(&field.to_ascii_lowercase()).unwrap().to_owned();
    }
    let answer = reply.json();
    for (pointer, expected) in provider["expect"].as_object().into_iter().flatten() {
        assert_eq!(answer.pointer(pointer), Some(expected), "{answer}");
    }
    let places = provider["expiry"].as_array();
    if let Some(place) = places.and_then(|places| places[0].get("json")) {
        assert!(
            answer.pointer(place.as_str().unwrap()).is_some(),
            "{place} {answer}"
        );
    }
    let pointer = provider["token"].as_str().unwrap_or("/access_token");
    let token = answer.pointer(pointer).and_then(Value::as_str);
    token
        .unwrap_or_else(|| panic!("{pointer} {answer}"))
        .to_owned()
}

#[tokio::test]
async fn every_client_token_of_highnote_can_be_made() {
    let file = example!("all-four");
    let highnote = Highnote::start(None).await.unwrap();
    let at = highnote.server().address();
    let mut made = 0;
    for (name, provider) in file["provider"].as_object().unwrap() {
        if provider["type"] != "graphql" {
            continue;
        }
        let values = Values(vec![
            ("parent", highnote.api_key().to_owned()),
            ("input.card", "pc_1".to_owned()),
            ("input.session", "du_1".to_owned()),
            ("input.detail", "dd_1".to_owned()),
        ]);
        let reply = mint(at, provider, &values).await;
        let token = token(provider, &reply);
        assert!(token.starts_with("eyJ"), "{name}");
        made += 1;
        assert_eq!(highnote.granted(), made, "{name}");
    }
    assert_eq!(made, 7);
}

#[tokio::test]
async fn every_client_token_of_concierge_can_be_made() {
    let file = example!("all-four");
    let concierge = Concierge::start(None).await.unwrap();
    let at = concierge.server().address();
    let provider = &file["provider"]["concierge-backend"];
    let mut values = Values(vec![
        ("secret.app_id", concierge.app_id().to_owned()),
        ("secret.app_secret", concierge.app_secret().to_owned()),
        ("input.minutes", "1440".to_owned()),
        ("input.customer", "42".to_owned()),
        ("input.token_type", "self".to_owned()),
        (
            "input.phones",
            json!([{ "hash": "ab".repeat(32), "primary": true }]).to_string(),
        ),
    ]);
    let reply = mint(at, provider, &values).await;
    values.0.push(("parent", token(provider, &reply)));
    let refresh = &provider["refresh"];
    let pointer = refresh["token"].as_str().unwrap();
    let refresh_token = reply
        .json()
        .pointer(pointer)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    values.0.push(("refresh_token", refresh_token));
    let mut renewal = provider.clone();
    renewal["json"] = refresh["json"].clone();
    token(provider, &mint(at, &renewal, &values).await);
    for name in ["phones", "customer", "activation"] {
        let provider = &file["provider"][format!("concierge-{name}")];
        token(provider, &mint(at, provider, &values).await);
    }
    assert_eq!(
        (concierge.refreshes(), concierge.client_token_fetches()),
        (1, 3)
    );
}

/// The form of an `oauth2` provider.
fn form(provider: &Value, kind: Kind, key: &ClientKey, secret: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    let text = |name: &str| provider[name].as_str().unwrap_or_default();
    if let Some(assertion) = provider.get("assertion") {
        let jwt = assertion_of(provider, assertion, kind, key);
        if provider["grant_type"] == "jwt-bearer" {
            form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.append_pair("assertion", &jwt);
            return form.finish();
        }
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        form.append_pair("client_assertion_type", kind);
        form.append_pair("client_assertion", &jwt);
    } else {
        form.append_pair("client_secret", secret);
    }
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("client_id", text("client_id"));
    if let Some(scope) = provider["scope"].as_array() {
        form.append_pair("scope", scope[0].as_str().unwrap());
    }
    form.finish()
}

fn assertion_of(provider: &Value, assertion: &Value, kind: Kind, key: &ClientKey) -> String {
    let mut header = json!({ "alg": assertion["alg"], "typ": "JWT" });
    if assertion["x5t#S256"] == true {
        header["x5t#S256"] = json!(thumbprint(key));
    }
    let now = unix_now();
    let lifetime = match assertion["lifetime"]
        .as_str()
        .or(provider["lifetime"].as_str())
    {
        Some("1h") => 3600,
        Some("9m") => 540,
        Some("5m") => 300,
        Some("3m") => 180,
        other => panic!("{kind:?} {other:?}"),
    };
    let mut claims = json!({ "iat": now - 10, "exp": now + lifetime - 10, "jti": "once" });
    let endpoint = assertion.get("audience").or(provider.get("token_endpoint"));
    claims["aud"] = endpoint.cloned().unwrap_or_default();
    if let Some(client_id) = provider.get("client_id") {
        claims["iss"] = client_id.clone();
        claims["sub"] = client_id.clone();
    }
    for (name, value) in assertion["claims"].as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    sign(key, &header, &claims)
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// `x5t#S256` of RFC 7515 §4.1.8.
fn thumbprint(key: &ClientKey) -> String {
    let certificate = CertificateDer::from_pem_slice(key.certificate_pem.as_bytes()).unwrap();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate))
}

/// A JWT, signed as its header says.
fn sign(key: &ClientKey, header: &Value, claims: &Value) -> String {
    let pair = PrivatePkcs8KeyDer::from_pem_slice(key.key_pem.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(pair.secret_pkcs8_der()).unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let encoding: &'static dyn RsaEncoding = if header["alg"] == "PS256" {
        &RSA_PSS_SHA256
    } else {
        &RSA_PKCS1_SHA256
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(encoding, &random, signed.as_bytes(), &mut signature)
        .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn the_strange_ones_work_as_their_examples_say() {
    for (kind, file) in [
        (Kind::Aeropay, example!("aeropay")),
        (Kind::Auth0, example!("auth0")),
        (Kind::Docusign, example!("docusign")),
        (Kind::Entra, example!("entra-certificate")),
        (Kind::GitHub, example!("github-app")),
        (Kind::Google, example!("google-service-account")),
        (Kind::Marqeta, example!("marqeta")),
        (Kind::Salesforce, example!("salesforce")),
        (Kind::Shopify, example!("shopify")),
        (Kind::Square, example!("square")),
        (Kind::SumUp, example!("sumup")),
        (Kind::Vault, example!("vault-approle")),
        (Kind::Vipps, example!("vipps")),
        (Kind::Xoms, example!("xoms")),
    ] {
        let key = ClientKey::rsa().unwrap();
        let other = Other::start(kind, None, Some(&key.certificate_pem))
            .await
            .unwrap();
        let at = |url: &str| {
            let host = host_of(url);
            assert!(other.hosts().contains(&host), "{host}");
            other.server().address()
        };
        let route = file["route"].as_array().unwrap().last().unwrap();
        let provider = &file["provider"][route["provider"].as_str().unwrap()];
        let mut values = Values(vec![
            ("input.installation", "42".to_owned()),
            ("input.card", "card-1".to_owned()),
            ("input.merchant", "MC0001".to_owned()),
            (
                "secret.login",
                format!(
                    "{}:{}",
                    other.credential("application_token"),
                    other.credential("admin_token")
                ),
            ),
            (
                "secret.subscription_key",
                other.credential("Ocp-Apim-Subscription-Key").to_owned(),
            ),
            (
                "token.vipps-subscription",
                other.credential("Ocp-Apim-Subscription-Key").to_owned(),
            ),
        ]);
        let names: Vec<String> = other
            .credentials()
            .iter()
            .map(|(name, _)| format!("secret.{name}"))
            .collect();
        for (name, (_, value)) in names.iter().zip(other.credentials()) {
            values.0.push((name, (*value).to_owned()));
        }
        match kind {
            Kind::GitHub => {
                let app = &file["provider"]["github-app"];
                values
                    .0
                    .push(("parent", assertion_of(app, app, kind, &key)));
            }
            Kind::SumUp => values
                .0
                .push(("parent", other.credential("api_key").to_owned())),
            _ => {}
        }
        let reply = if provider["type"] == "oauth2" {
            let url = provider["token_endpoint"].as_str().unwrap();
            let body = form(provider, kind, &key, other.credential("client_secret"));
            let fields = [(
                "content-type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            )];
            send(at(url), path_of(url), &fields, &body).await
        } else {
            mint(at(provider["url"].as_str().unwrap()), provider, &values).await
        };
        values.0.push(("token", token(provider, &reply)));
        let Some(upstream) = route["upstream"].as_str() else {
            assert_eq!(route["hand_out"], true);
            continue;
        };
        let mut fields = values.fields(route);
        if !route["headers"].to_string().contains("{token}") {
            fields.push(("authorization".to_owned(), values.fill("Bearer {token}")));
        }
        let reply = send(at(upstream), "/anything", &fields, "").await;
        assert_eq!(reply.json()["made_up"], true, "{kind:?} {:?}", reply.body);
    }
}
