//! Whether an answer says that the token is no good, and what follows from it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body;
use serde_json::Value;

use super::grpc;
use super::peek::Peekable;
use crate::provider::pointer::Pointer;

/// What an answer says about the token that it was asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The upstream took it.
    Accepted,
    /// The answer to a call of gRPC has begun: its trailers will tell ([`Rules::judge_trailers`]).
    InTrailers,
    /// The upstream refused it, and another one may do better.
    Refused(Refusal),
    /// A refusal, but not one that a new token would change. With the scopes that the token lacks, as far as they are told.
    NotTheToken(Option<MissingScopes>),
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Which token is renewed.
    pub renew: Renew,
    /// Part of the request was carried out: it is not sent again.
    pub has_data: bool,
}

/// Which token is renewed after a refusal.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Renew {
    /// The one that was refused.
    #[default]
    Own,
    /// The one from which it was made.
    Parent,
}

/// Scopes that a token would need, as an upstream names them: separated by spaces, and fit for a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MissingScopes(Box<str>);

/// The scopes that were last missed, as a hash: they are told once, not at every request.
#[derive(Debug, Default)]
pub struct MissedScopes(AtomicU64);

/// The `unauthorized` of a route: the first rule that matches an answer says what follows.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Whether any of them needs a body. Most routes have none that does.
    look_inside: bool,
}

/// One rule: everything that it names must be so.
#[derive(Debug)]
pub struct Rule {
    /// The answer's status.
    pub status: StatusCode,
    /// What else.
    pub condition: Condition,
    /// What is renewed.
    pub renew: Renew,
}

/// What a rule wants besides the status.
#[derive(Debug)]
pub enum Condition {
    /// Nothing.
    None,
    /// A field with one of these values.
    Header(HeaderName, Vec<HeaderValue>),
    /// A JSON body in which one of these values is at this place.
    Json(Pointer, Vec<Value>),
    /// A call of gRPC that ended with this status.
    GrpcStatus(HeaderValue),
}

impl Default for Rules {
    /// `[ { status = 401 }, { grpc_status = 16 } ]`
    fn default() -> Self {
        let rule = |status, condition| Rule {
            status,
            condition,
            renew: Renew::Own,
        };
        let unauthenticated = Condition::GrpcStatus(HeaderValue::from_static("16"));
        Self::new(vec![
            rule(StatusCode::UNAUTHORIZED, Condition::None),
            rule(StatusCode::OK, unauthenticated),
        ])
    }
}

impl Rules {
    /// These rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let look_inside = rules.iter().any(Rule::looks_inside);
        Self { rules, look_inside }
    }

    /// The rules, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Judges the answer to a call of gRPC as far as it has come: by its head, or by trailers right behind it.
    pub async fn judge_call<B>(&self, answer: &mut Response<Peekable<B>>) -> Verdict
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (status, headers) = (answer.status(), answer.headers());
        if status != StatusCode::OK || grpc::status_of(headers).is_some() {
            return self.decide(&Seen::of_call(status, headers));
        }
        match answer.body_mut().trailers_at_once().await {
            Some(trailers) => self.judge_trailers(trailers),
            None => Verdict::InTrailers,
        }
    }

    /// Judges the trailers that end a call of gRPC.
    #[must_use]
    pub fn judge_trailers(&self, trailers: &HeaderMap) -> Verdict {
        self.decide(&Seen::of_call(StatusCode::OK, trailers))
    }

    /// Judges an answer: by its head, and where a rule asks for it by the beginning of its body, which stays there.
    pub async fn judge<B>(&self, answer: &mut Response<Peekable<B>>, patience: Duration) -> Verdict
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (status, headers) = (answer.status(), answer.headers());
        if !(self.look_inside && self.wants_body(status) && is_plain_json(headers)) {
            return self.decide(&Seen::of(status, headers, None));
        }
        let patience = patience.min(PEEK_TIME);
        let content = answer.body_mut().peek(PEEKED_BYTES, patience).await;
        let document = content.and_then(|content| serde_json::from_slice(&content).ok());
        self.decide(&Seen::of(status, answer.headers(), document.as_ref()))
    }

    fn wants_body(&self, status: StatusCode) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.status == status && rule.looks_inside())
    }

    fn decide(&self, seen: &Seen<'_>) -> Verdict {
        let document = seen.document;
        let challenges = Challenges::of(seen.status, seen.headers);
        if challenges.insufficient_scope {
            return Verdict::NotTheToken(challenges.scopes);
        }
        if let Some(scopes) = document.and_then(missing_scopes) {
            return Verdict::NotTheToken(Some(scopes));
        }
        let mut rules = self.rules.iter();
        match rules.find(|rule| rule.matches(seen)) {
            None => Verdict::Accepted,
            Some(_) if challenges.use_dpop_nonce => Verdict::NotTheToken(None),
            Some(rule) => Verdict::Refused(Refusal {
                renew: rule.renew,
                has_data: document.is_some_and(has_data),
            }),
        }
    }
}

/// What there is to judge by.
struct Seen<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    document: Option<&'a Value>,
    /// How a call of gRPC ended. Not looked for in other answers.
    call_ended: Option<&'a HeaderValue>,
}

impl<'a> Seen<'a> {
    const fn of(status: StatusCode, headers: &'a HeaderMap, document: Option<&'a Value>) -> Self {
        Self {
            status,
            headers,
            document,
            call_ended: None,
        }
    }

    fn of_call(status: StatusCode, headers: &'a HeaderMap) -> Self {
        Self {
            call_ended: grpc::status_of(headers),
            ..Self::of(status, headers, None)
        }
    }
}

impl Rule {
    const fn looks_inside(&self) -> bool {
        matches!(self.condition, Condition::Json(..))
    }

    /// Whether it is about calls of gRPC only.
    #[must_use]
    pub const fn is_of_calls(&self) -> bool {
        matches!(self.condition, Condition::GrpcStatus(_))
    }

    fn matches(&self, seen: &Seen<'_>) -> bool {
        seen.status == self.status
            && match &self.condition {
                Condition::None => true,
                Condition::Header(name, wanted) => {
                    let mut values = seen.headers.get_all(name).iter();
                    values.any(|value| wanted.contains(value))
                }
                Condition::GrpcStatus(wanted) => seen.call_ended == Some(wanted),
                Condition::Json(pointer, wanted) => seen.document.is_some_and(|document| {
                    let found = pointer.find(document);
                    found.into_iter().any(|value| wanted.contains(value))
                }),
            }
    }
}

/// What the `WWW-Authenticate` of a refusal says that no new token of the same kind would change (RFC 6750 §3.1, RFC 9449 §8).
#[derive(Default)]
struct Challenges {
    insufficient_scope: bool,
    scopes: Option<MissingScopes>,
    use_dpop_nonce: bool,
}

impl Challenges {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        if !status.is_client_error() {
            return all;
        }
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        for value in values.filter_map(|value| value.to_str().ok()) {
            all.use_dpop_nonce |= value.contains("use_dpop_nonce");
            if value.contains("insufficient_scope") {
                all.insufficient_scope = true;
                let quoted = value.split_once("scope=\"").map(|(_, rest)| rest);
                let scopes = quoted.and_then(|rest| rest.split('"').next());
                all.scopes = scopes.and_then(|scopes| MissingScopes::of(scopes.split(' ')));
            }
        }
        all
    }
}

impl MissingScopes {
    // What an upstream writes goes to a log: only what RFC 6749 §3.3 allows in a scope, and not without end.
    fn of<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let is_scope = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let mut text = String::new();
        for scope in scopes {
            let good = !scope.is_empty() && scope.bytes().all(is_scope);
            if good && text.len() + scope.len() < MAX_SCOPES_BYTES {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(scope);
            }
        }
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The scopes, separated by spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MissedScopes {
    /// Whether these are not the ones that were last missed. From now on they are.
    pub fn is_news(&self, scopes: &MissingScopes) -> bool {
        let mut hasher = DefaultHasher::new();
        scopes.as_str().hash(&mut hasher);
        let digest = hasher.finish();
        self.0.swap(digest, Ordering::Relaxed) != digest
    }
}

/// Stitch's `errors[].extensions.missingScopes`: a step that the token may not take, in an answer that may be 200.
fn missing_scopes(document: &Value) -> Option<MissingScopes> {
    let errors = document.get("errors")?.as_array()?;
    let missing = errors
        .iter()
        .filter_map(|error| error.get("extensions")?.get("missingScopes")?.as_array())
        .flatten()
        .filter_map(Value::as_str);
    MissingScopes::of(missing)
}

/// A GraphQL answer with data: something was carried out, perhaps a payment.
fn has_data(document: &Value) -> bool {
    document.get("data").is_some_and(|data| !data.is_null())
}

/// Whether a body is JSON, and readable as it is.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(CONTENT_ENCODING).iter();
    let mut encodings = encodings.map(|value| value.as_bytes());
    encodings.all(|value| value.eq_ignore_ascii_case(b"identity"))
        && headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_json_type)
}

/// `application/json` and everything that is written like it (RFC 6839 §3.1), GraphQL's own type among it.
pub(super) fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// What is looked at of a body. A longer one is not judged by what is in it.
const PEEKED_BYTES: usize = 64 * 1024;
/// How long an answer is held back for its body: one that takes longer is a stream.
const PEEK_TIME: Duration = Duration::from_secs(10);
const MAX_SCOPES_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REFUSED: Verdict = Verdict::Refused(Refusal {
        renew: Renew::Own,
        has_data: false,
    });

    fn judged(status: u16, challenge: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Rules::default().decide(&Seen::of(status, &headers, None))
    }

    fn lacks(scopes: &str) -> Verdict {
        Verdict::NotTheToken(Some(MissingScopes(scopes.into())))
    }

    #[test]
    fn only_a_401_that_a_new_token_may_cure_is_a_refusal() {
        assert_eq!(judged(401, None), REFUSED);
        assert_eq!(
            judged(401, Some(r#"Bearer error="invalid_token""#)),
            REFUSED
        );
        assert_eq!(
            judged(401, Some(r#"Bearer error="insufficient_scope""#)),
            Verdict::NotTheToken(None)
        );
        assert_eq!(
            judged(401, Some(r#"DPoP error="use_dpop_nonce""#)),
            Verdict::NotTheToken(None)
        );
        for status in [200, 307, 400, 403, 407, 429, 500, 503] {
            assert_eq!(judged(status, None), Verdict::Accepted);
        }
    }

    #[test]
    fn only_a_call_is_judged_by_its_status_of_grpc() {
        let rules = Rules::default();
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", HeaderValue::from(16));
        assert_eq!(rules.judge_trailers(&fields), REFUSED);
        let other = Seen::of(StatusCode::OK, &fields, None);
        assert_eq!(rules.decide(&other), Verdict::Accepted);
        fields.insert("grpc-status", HeaderValue::from(7));
        assert_eq!(rules.judge_trailers(&fields), Verdict::Accepted);
    }

    #[test]
    fn a_scope_that_is_missing_is_told_and_changes_nothing() {
        let challenge = r#"Bearer error="insufficient_scope", scope="read write""#;
        assert_eq!(judged(403, Some(challenge)), lacks("read write"));
        let stitch = json!({
            "errors": [{"extensions": {"code": "FORBIDDEN", "missingScopes": ["balances", "a\nb"]}}],
            "data": {"node": null},
        });
        let rules = Rules::new(vec![json_rule(
            200,
            "/errors/*/extensions/code",
            "FORBIDDEN",
        )]);
        let verdict = rules.decide(&Seen::of(StatusCode::OK, &HeaderMap::new(), Some(&stitch)));
        assert_eq!(verdict, lacks("balances"));
    }

    fn json_rule(status: u16, pointer: &str, value: &str) -> Rule {
        Rule {
            status: StatusCode::from_u16(status).unwrap(),
            condition: Condition::Json(Pointer::parse(pointer).unwrap(), vec![json!(value)]),
            renew: Renew::Own,
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let mut first = json_rule(401, "/errors/*/code", "bad_signature");
        first.renew = Renew::Parent;
        let rules = Rules::new(vec![
            first,
            Rule {
                status: StatusCode::UNAUTHORIZED,
                condition: Condition::None,
                renew: Renew::Own,
            },
        ]);
        let decide = |code: &str| {
            let document = json!({"errors": [{"code": code}]});
            let headers = HeaderMap::new();
            let seen = Seen::of(StatusCode::UNAUTHORIZED, &headers, Some(&document));
            rules.decide(&seen)
        };
        assert_eq!(decide("expired_session_token"), REFUSED);
        assert_eq!(
            decide("bad_signature"),
            Verdict::Refused(Refusal {
                renew: Renew::Parent,
                has_data: false
            })
        );
    }

    #[test]
    fn an_answer_with_data_is_marked() {
        let rules = Rules::new(vec![json_rule(200, "/extensions/code", "UNAUTHENTICATED")]);
        let decide = |data: Value| {
            let document = json!({"extensions": {"code": "UNAUTHENTICATED"}, "data": data});
            match rules.decide(&Seen::of(
                StatusCode::OK,
                &HeaderMap::new(),
                Some(&document),
            )) {
                Verdict::Refused(refusal) => refusal.has_data,
                verdict => panic!("{verdict:?}"),
            }
        };
        assert!(!decide(Value::Null));
        assert!(decide(json!({"payment": {}})));
    }

    #[test]
    fn the_same_missing_scopes_are_news_once() {
        let missed = MissedScopes::default();
        let [read, write] = ["read", "write"].map(|scope| MissingScopes(scope.into()));
        let news = [&read, &read, &write, &write, &read].map(|scopes| missed.is_news(scopes));
        assert_eq!(news, [true, false, true, false, true]);
    }

    #[test]
    fn only_json_is_looked_into() {
        for (content_type, is_json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/graphql-response+json", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("application/jsonl", false),
            ("text/event-stream", false),
        ] {
            assert_eq!(is_json_type(content_type), is_json, "{content_type}");
        }
    }
}
