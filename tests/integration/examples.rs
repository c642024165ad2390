//! `proxy.toml`, read by hand: the requests that it describes, sent to the fakes, bring tokens.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pillion::fake::{Concierge, Highnote};
use serde_json::{Map, Value, json};

use crate::stage::{Client, Reply, full, request};

fn proxy_toml() -> Value {
    toml::from_str(include_str!("../../proxy.toml")).unwrap()
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
    let path = path_of(provider["url"].as_str().unwrap());
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
    send(at, path, &fields, &body).await
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

/// The token of an answer, and that an expiry can be read where the provider says.
fn token(provider: &Value, reply: &Reply) -> String {
    assert!((200..300).contains(&reply.status), "{:?}", reply.body);
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
    let file = proxy_toml();
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
    let file = proxy_toml();
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
