//! `/graphql`: who asks, for what, and the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::query::{self, Invalid};
use super::schema::{self, Call, Mint, TOKENIZE_ACCOUNT_HOLDER, TOKENIZE_AUTHORIZED_USER};
use super::{Highnote, Usage};
use crate::fake::answer::{self, Answer};
use crate::fake::bearer::bearer;
use crate::fake::locked::Locked;
use crate::fake::minted::{Minted, random};
use crate::fake::recent::Recent;
use crate::fake::{Faults, HangUp, Received, clock};

/// The endpoint, and what it remembers.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) mint_faults: Faults,
    pub(super) faults: Faults,
    pub(super) mint_requests: Recent,
    pub(super) requests: Recent,
    pub(super) tokens: Minted<Grant>,
    pub(super) rules: Locked<Rules>,
    pub(super) mints: Locked<BTreeMap<&'static str, usize>>,
    pub(super) granted: AtomicUsize,
    pub(super) uses: AtomicUsize,
}

/// What a test may change.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) usage: Option<Usage>,
    pub(super) hide_expiration: bool,
    pub(super) restricted: BTreeSet<String>,
    pub(super) unknown: BTreeSet<String>,
}

/// What a client token is good for.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    token: String,
    subjects: Vec<String>,
    permissions: Vec<String>,
    single_use: bool,
}

enum Caller {
    Key,
    Client(Grant),
}

impl Caller {
    fn may(&self, permission: &str, subject: Option<&str>) -> bool {
        match self {
            Self::Key => false,
            Self::Client(grant) => {
                grant
                    .permissions
                    .iter()
                    .any(|granted| granted == permission)
                    && subject.is_none_or(|id| grant.subjects.iter().any(|granted| granted == id))
            }
        }
    }
}

impl Api {
    pub(super) fn new() -> Self {
        Self {
            mint_faults: Faults::default(),
            faults: Faults::default(),
            mint_requests: Recent::default(),
            requests: Recent::default(),
            tokens: Minted::new(Duration::from_secs(600)), // as the guides have it
            rules: Locked::default(),
            mints: Locked::default(),
            granted: AtomicUsize::new(0),
            uses: AtomicUsize::new(0),
        }
    }

    pub(super) async fn answer(&self, request: Received) -> Result<Answer, HangUp> {
        if !request.is_for(Highnote::HOST) {
            return Ok(answer::empty(StatusCode::MISDIRECTED_REQUEST));
        }
        if request.path() != "/graphql" {
            return Ok(answer::empty(StatusCode::NOT_FOUND));
        }
        let document = request.json().unwrap_or_default();
        let query = document
            .get("query")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let minted = schema::MINTS
            .iter()
            .filter(|mint| mentions(query, mint.mutation))
            .map(|mint| mint.mutation);
        let minted: Vec<&str> = minted.collect();
        let (faults, requests) = if minted.is_empty() {
            (&self.faults, &self.requests)
        } else {
            (&self.mint_faults, &self.mint_requests)
        };
        requests.push(request.clone());
        for mutation in minted {
            *self.mints.lock().entry(mutation).or_default() += 1;
        }
        if let Some(wrong) = faults.meet(unauthorized).await? {
            return Ok(wrong);
        }
        if request.method != Method::POST {
            return Ok(only_post());
        }
        let Some(caller) = self.caller(&request) else {
            return Ok(unauthorized());
        };
        let outcome = self.execute(&caller, &request, &document);
        Ok(match outcome {
            Ok(data) => answer::json(
                StatusCode::OK,
                &json!({ "data": data, "extensions": extensions() }),
            ),
            Err(Invalid(message)) => bad_request(&message),
        })
    }

    /// Who asks. A token for one use is burnt here, whatever becomes of the request.
    fn caller(&self, request: &Received) -> Option<Caller> {
        if let Some(token) = bearer(request) {
            let grant = self.tokens.check(token)?;
            self.uses.fetch_add(1, Ordering::Relaxed);
            if grant.single_use {
                self.tokens.take(&grant.token)?;
            }
            return Some(Caller::Client(grant));
        }
        let (scheme, credentials) = request.field("authorization")?.split_once(' ')?;
        let right = STANDARD.encode(format!("{}:", Highnote::API_KEY));
        (scheme.eq_ignore_ascii_case("basic") && credentials == right).then_some(Caller::Key)
    }

    fn execute(
        &self,
        caller: &Caller,
        request: &Received,
        document: &Value,
    ) -> Result<Value, Invalid> {
        if request.media_type().as_deref() != Some("application/json") {
            return Err(Invalid("The request must be application/json.".to_owned()));
        }
        let Some(text) = document.get("query").and_then(Value::as_str) else {
            return Err(Invalid("Must provide query string.".to_owned()));
        };
        let no_variables = Map::new();
        let variables = match document.get("variables") {
            None | Some(Value::Null) => &no_variables,
            Some(Value::Object(variables)) => variables,
            Some(_) => return Err(Invalid("Variables must be an object.".to_owned())),
        };
        let name = document.get("operationName").and_then(Value::as_str);
        let operation = query::parse(text, name)?;
        let mut data = Map::new();
        for Call { field, arguments } in schema::check(&operation, variables)? {
            let value = match field.name.as_str() {
                "__typename" => json!(operation.root),
                name => self.resolve(caller, name, &arguments),
            };
            data.insert(
                field.key.clone(),
                schema::project(&field.selections, &value),
            );
        }
        Ok(Value::Object(data))
    }

    fn resolve(&self, caller: &Caller, name: &str, arguments: &Map<String, Value>) -> Value {
        let nothing = Value::Null;
        let input = arguments.get("input").unwrap_or(&nothing);
        let text = |value: &Value, name: &str| -> String {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if let Some(mint) = schema::mint(name) {
            return self.mint(caller, mint, input);
        }
        match name {
            "ping" => json!("pong"),
            "node" => {
                let id = arguments
                    .get("id")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                self.node(caller, id)
            }
            "setPinForPaymentCard" => self.set_pin(
                caller,
                &text(input, "paymentCardId"),
                &text(input, "newPin"),
            ),
            "startDocumentUploadSession"
            | "createDocumentUploadLink"
            | "endDocumentUploadSession" => {
                let id = text(input, "documentUploadSessionId");
                if caller.may("MANAGE_DOCUMENT_UPLOAD_SESSION", Some(&id)) {
                    json!({ "__typename": "DocumentUploadSession", "id": id })
                } else {
                    access_denied()
                }
            }
            "tokenizeUSPersonAuthorizedUser" => tokenize(caller, TOKENIZE_AUTHORIZED_USER),
            _ => tokenize(caller, TOKENIZE_ACCOUNT_HOLDER),
        }
    }

    fn mint(&self, caller: &Caller, mint: &Mint, input: &Value) -> Value {
        if matches!(caller, Caller::Client(_)) {
            return access_denied(); // only the API key makes client tokens
        }
        let mut subjects = Vec::new();
        for member in mint.subjects {
            let id = input
                .get(member)
                .and_then(Value::as_str)
                .unwrap_or_default();
            if self.is_restricted(id) {
                return access_denied();
            }
            if !self.exists(id, member) {
                return not_found(member);
            }
            subjects.push(id.to_owned());
        }
        let permissions = mint.permissions(input);
        if permissions.is_empty() {
            return user_error(
                "INVALID_INPUT",
                "At least one permission is required",
                "permissions",
            );
        }
        let lifetime = self.tokens.lifetime();
        let usage = self.rules.lock().usage.unwrap_or(if mint.single_use {
            Usage::SingleUse
        } else {
            Usage::UntilExpiration
        });
        let grant = Grant {
            token: token(),
            subjects,
            permissions,
            single_use: usage == Usage::SingleUse,
        };
        let value = grant.token.clone();
        self.tokens.insert(&value, grant);
        self.granted.fetch_add(1, Ordering::Relaxed);
        let expiration = if self.rules.lock().hide_expiration {
            Value::Null
        } else {
            json!(clock::rfc3339_in(lifetime))
        };
        json!({
            "__typename": "ClientToken",
            "value": value,
            "expirationDate": expiration,
            "usage": usage.name(),
        })
    }

    /// Every id exists that looks like one, unless a test said otherwise: two or more letters, an
    /// underscore, and something. Of the prefixes only `pc` is known, that of payment cards.
    fn exists(&self, id: &str, member: &str) -> bool {
        let looks_right = id.split_once('_').is_some_and(|(prefix, rest)| {
            let is_card = prefix == "pc";
            prefix.len() >= 2
                && prefix.bytes().all(|byte| byte.is_ascii_lowercase())
                && !rest.is_empty()
                && is_card == (member == "paymentCardId")
        });
        looks_right && !self.rules.lock().unknown.contains(id)
    }

    fn is_restricted(&self, id: &str) -> bool {
        self.rules.lock().restricted.contains(id)
    }

    /// The names of the types are Highnote's; which numbers they hold is made up, and so is the
    /// name of the external account's members.
    fn node(&self, caller: &Caller, id: &str) -> Value {
        let is_card = self.exists(id, "paymentCardId");
        if !is_card && !self.exists(id, "directDepositDetailId") {
            return Value::Null;
        }
        let type_name = match id.split_once('_') {
            _ if is_card => "PaymentCard",
            Some(("eb" | "xb" | "ebad", _)) => "ExternalBankAccountDetail",
            _ => "DirectDepositDetail",
        };
        let details = if caller.may("READ_RESTRICTED_DETAILS", Some(id)) {
            restricted_details(type_name)
        } else {
            access_denied()
        };
        json!({
            "__typename": type_name,
            "id": id,
            "last4": "0009",
            "status": "ACTIVE",
            "restrictedDetails": details,
        })
    }

    fn set_pin(&self, caller: &Caller, card: &str, pin: &str) -> Value {
        if !caller.may("SET_PAYMENT_CARD_PIN", Some(card)) || self.is_restricted(card) {
            return access_denied();
        }
        if !self.exists(card, "paymentCardId") {
            return not_found("paymentCardId");
        }
        if pin.len() != 4 || !pin.bytes().all(|byte| byte.is_ascii_digit()) {
            return user_error("INVALID_INPUT", "The PIN must have four digits", "newPin");
        }
        json!({ "__typename": "PaymentCard", "id": card, "last4": "0009", "status": "ACTIVE" })
    }
}

fn restricted_details(type_name: &str) -> Value {
    match type_name {
        "PaymentCard" => json!({
            "__typename": "PaymentCardRestrictedDetails",
            "number": "4242000000000009",
            "cvv": "123",
        }),
        "DirectDepositDetail" => json!({
            "__typename": "DirectDepositDetailRestrictedDetails",
            "number": "000123456789",
            "routingNumber": "011000000",
            "bank": { "__typename": "Bank", "name": "Made-up Bank" },
        }),
        _ => json!({
            "__typename": "ExternalBankAccountDetailRestrictedDetails",
            "accountNumber": "000987654321",
            "routingNumber": "011000000",
        }),
    }
}

fn tokenize(caller: &Caller, permission: &str) -> Value {
    if !caller.may(permission, None) {
        return access_denied();
    }
    json!({ "__typename": "TokenizedDetails", "token": format!("tk_{}", random(32)) })
}

fn not_found(member: &str) -> Value {
    let what = match member {
        "paymentCardId" => "Card not found".to_owned(),
        other => format!("{} not found", other.trim_end_matches("Id")),
    };
    user_error("INVALID_ID", &what, member)
}

fn user_error(code: &str, description: &str, member: &str) -> Value {
    let path = json!(["input", member]);
    json!({
        "__typename": "UserError",
        "errors": [{
            "__typename": "FieldUserError",
            "code": code,
            "description": description,
            "errorPath": path,
            "path": path,
        }],
    })
}

fn access_denied() -> Value {
    json!({ "__typename": "AccessDeniedError", "message": "Forbidden" })
}

/// A JWT to look at: the header and the claims are those of the documentation's example, which does
/// not show an expiry; the signature is none.
fn token() -> String {
    let claims = json!({
        "aud": "prod.test.api.bay1.com",
        "org": "og_made_up",
        "reg": "USA",
        "appid": "ap_bay1:clientsdk:made-up",
        "iss": "prod.test",
        "jti": random(22),
    });
    format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"kid":"1","typ":"JWT","alg":"RS256"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string()),
        random(342),
    )
}

/// Whether `query` has `name` as a whole word.
fn mentions(query: &str, name: &str) -> bool {
    query.match_indices(name).any(|(at, _)| {
        let is_end = |char: Option<char>| {
            !char.is_some_and(|char| char.is_ascii_alphanumeric() || char == '_')
        };
        is_end(
            query
                .get(..at)
                .and_then(|before| before.chars().next_back()),
        ) && is_end(
            query
                .get(at + name.len()..)
                .and_then(|after| after.chars().next()),
        )
    })
}

pub(super) fn extensions() -> Value {
    json!({
        "requestId": request_id(),
        "rateLimit": {
            "asOf": clock::rfc3339_in(Duration::ZERO),
            "count": { "cost": 1, "remaining": 199, "limit": 200 },
            "complexity": { "cost": 10, "remaining": 4990, "limit": 5000 },
        },
    })
}

pub(super) fn request_id() -> String {
    let number = format!("{:032x}", fastrand::u128(..));
    let part = |from, to| number.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

/// The status is documented, the body is our guess.
fn unauthorized() -> Answer {
    answer::json(
        StatusCode::UNAUTHORIZED,
        &json!({
            "errors": [{
                "message": "Unauthorized",
                "extensions": { "code": "UNAUTHENTICATED" },
            }],
            "extensions": { "requestId": request_id() },
        }),
    )
}

fn bad_request(message: &str) -> Answer {
    answer::json(
        StatusCode::BAD_REQUEST,
        &json!({
            "errors": [{
                "message": message,
                "locations": [{ "line": 1, "column": 1 }],
                "extensions": { "code": "GRAPHQL_VALIDATION_FAILED" },
            }],
            "extensions": { "requestId": request_id() },
        }),
    )
}

fn only_post() -> Answer {
    let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}
