//! Tokens for a bank's customers: asked for with an array, answered with an array.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::fake::answer::{self, Answer};
use crate::fake::minted::{Minted, random};
use crate::fake::recent::Recent;
use crate::fake::{Faults, Received};

/// 360 days.
const MOST_MINUTES: u64 = 518_400;

/// Whose token it is. The paths, and the names of the members, are our guess: the documentation
/// describes them and shows neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Phone,
    ClientId,
    Activation,
}

impl Kind {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/sdk/auth/getClientTokenByPhone" => Some(Self::Phone),
            "/sdk/auth/getClientTokenByClientId" => Some(Self::ClientId),
            "/sdk/auth/getClientTokenForActivation" => Some(Self::Activation),
            _ => None,
        }
    }

    fn members(self) -> &'static [&'static str] {
        match self {
            Self::Phone => &["expires_minutes", "phones"],
            Self::ClientId => &["expires_minutes", "client_id"],
            Self::Activation => &["expires_minutes", "client_id", "token_type"],
        }
    }
}

/// The three endpoints, and their memory.
#[derive(Debug)]
pub(super) struct ClientTokens {
    pub(super) faults: Faults,
    pub(super) requests: Recent,
    pub(super) fetches: AtomicUsize,
    pub(super) hide_expiry: AtomicBool,
    pub(super) tokens: Minted<Value>,
}

impl ClientTokens {
    pub(super) fn new() -> Self {
        Self {
            faults: Faults::default(),
            requests: Recent::default(),
            fetches: AtomicUsize::new(0),
            hide_expiry: AtomicBool::new(false),
            tokens: Minted::new(Duration::from_secs(60)), // of no importance: the request says it
        }
    }

    /// The answer to a request of whom it is known that it may ask.
    pub(super) fn answer(&self, kind: Kind, request: &Received) -> Result<Answer, String> {
        if request.media_type().as_deref() != Some("application/json") {
            return Err("The body must be application/json".to_owned());
        }
        let document = request.json().unwrap_or_default();
        let wanted = document
            .as_array()
            .filter(|wanted| !wanted.is_empty())
            .ok_or("The body must be an array of at least one object")?;
        let lifetimes: Result<Vec<_>, _> = wanted.iter().map(|one| check(kind, one)).collect();
        let made = wanted.iter().zip(lifetimes?);
        let made: Vec<Value> = made.map(|(one, life)| self.mint(one, life)).collect();
        Ok(answer::json(StatusCode::OK, &Value::Array(made)))
    }

    fn mint(&self, wanted: &Value, lifetime: Duration) -> Value {
        let token = random(64);
        let mut made = Map::new();
        made.insert("client_access_token".to_owned(), json!(token));
        if !self.hide_expiry.load(Ordering::Relaxed) {
            made.insert("expires_in".to_owned(), json!(lifetime.as_secs()));
        }
        let mut owner = Map::new();
        if let Some(phones) = wanted.get("phones").and_then(Value::as_array) {
            let hashes = phones
                .iter()
                .map(|phone| json!({ "hash": phone.get("hash") }));
            owner.insert("phones".to_owned(), hashes.collect());
        }
        if let Some(client_id) = wanted.get("client_id") {
            owner.insert("client_id".to_owned(), client_id.clone());
        }
        made.extend(owner.clone());
        self.tokens
            .insert_for(&token, Value::Object(owner), lifetime);
        Value::Object(made)
    }
}

/// How long the token shall live, if everything else about the request is right as well.
fn check(kind: Kind, wanted: &Value) -> Result<Duration, String> {
    let wanted = wanted
        .as_object()
        .ok_or("Every element must be an object")?;
    only(wanted, kind.members())?;
    for member in kind.members() {
        let value = wanted
            .get(*member)
            .ok_or_else(|| format!("{member} is missing"))?;
        match *member {
            "phones" => check_phones(value)?,
            "expires_minutes" => {}
            _ if value.as_str().is_some_and(|text| !text.is_empty()) => {}
            _ => return Err(format!("{member} must be a string, and not empty")),
        }
    }
    wanted
        .get("expires_minutes")
        .and_then(Value::as_u64) // not a string, not a fraction
        .filter(|minutes| (1..=MOST_MINUTES).contains(minutes))
        .map(|minutes| Duration::from_secs(minutes * 60))
        .ok_or_else(|| format!("expires_minutes must be an integer of 1 to {MOST_MINUTES}"))
}

fn check_phones(phones: &Value) -> Result<(), String> {
    let phones = phones
        .as_array()
        .filter(|phones| !phones.is_empty())
        .ok_or("phones must be an array of at least one object")?;
    let mut primaries = 0;
    for phone in phones {
        let phone = phone.as_object().ok_or("A phone must be an object")?;
        only(phone, &["hash", "primary"])?;
        let is_hash = phone
            .get("hash")
            .and_then(Value::as_str)
            .is_some_and(is_sha256_hex);
        if !is_hash {
            return Err("hash must be a SHA-256 in hexadecimal".to_owned());
        }
        let primary = phone.get("primary").and_then(Value::as_bool);
        primaries += usize::from(primary.ok_or("primary must be a Boolean")?);
    }
    if primaries > 1 {
        return Err("At most one phone may be the primary".to_owned());
    }
    Ok(())
}

/// Either case: the documentation does not say which.
fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn only(object: &Map<String, Value>, members: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !members.contains(&key.as_str())) {
        Some(unknown) => Err(format!("Unknown member {unknown}")),
        None => Ok(()),
    }
}
