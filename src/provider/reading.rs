//! From a provider's answer to a token: what to expect of it, and where everything in it is.

use std::time::{Duration, SystemTime};

use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::exchange::Answer;
use super::expiry::{self, Expiry, Stated};
use super::extract;
use super::oauth2;
use super::pointer::Pointer;
use super::secret::Secret;
use super::{Failed, FetchError, Grant, Lifetime, RefreshGrant, Subject};

/// What makes an answer a good one, and where its parts are.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reading {
    /// What is true of an answer that will be the same until somebody changes a secret or the configuration.
    pub refused: Vec<(Pointer, Expected)>,
    /// What has to be true of a good one, besides its status.
    pub expect: Vec<(Pointer, Expected)>,
    /// Where the token is.
    pub token: TokenPlace,
    /// Where its lifetime is, in the order in which the places are tried.
    pub expiry: Vec<Expiry>,
    /// When the next one is to be fetched, if the answer says.
    pub soft_expiry: Vec<Expiry>,
    /// Further members, by the names that they get.
    pub fields: Vec<(String, Pointer)>,
    /// When the token is good for one use only.
    pub single_use: SingleUse,
    /// Where the answer says for how many seconds to stay away.
    pub retry_after: Option<Pointer>,
    /// Where a failure is described, for the log.
    pub error: Option<Pointer>,
    /// Where the refresh token is, if there are any.
    pub refresh: Option<RefreshPlace>,
}

/// What a value is expected to be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Expected {
    /// One of these.
    OneOf(Vec<Value>),
    /// Anything but null.
    Present,
    /// Null, or not there.
    Absent,
}

/// Where a token is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum TokenPlace {
    /// In the answer's JSON.
    Json(Pointer),
    /// In a field.
    Header(HeaderName),
    /// It is the whole content.
    Body,
}

/// When a token is good for one use only.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum SingleUse {
    /// Never.
    No,
    /// Always.
    Yes,
    /// When the answer has one of these values here.
    When(Pointer, Vec<Value>),
}

/// Where the refresh token is in an answer, and its own lifetime.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RefreshPlace {
    /// Where the token is.
    pub token: Pointer,
    /// Where its lifetime is.
    pub expiry: Vec<Expiry>,
}

impl Reading {
    /// Any 2xx is good, the token is here, and nothing else is known.
    #[must_use]
    pub const fn new(token: TokenPlace) -> Self {
        Self {
            refused: Vec::new(),
            expect: Vec::new(),
            token,
            expiry: Vec::new(),
            soft_expiry: Vec::new(),
            fields: Vec::new(),
            single_use: SingleUse::No,
            retry_after: None,
            error: None,
            refresh: None,
        }
    }

    /// The token of a good answer.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer. What it says is in the part for the log only.
    pub fn read(&self, answer: &Answer, subject: &Subject) -> Result<Grant, Failed> {
        self.read_judged(answer, subject, |_| Ok(()))
    }

    /// The same, with an opinion about the content of answers with a status of 2xx.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(super) fn read_judged(
        &self,
        answer: &Answer,
        subject: &Subject,
        judge: impl FnOnce(Option<&Value>) -> Result<(), Failed>,
    ) -> Result<Grant, Failed> {
        let document: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let document = document.as_ref();
        let read = || {
            self.not_refused(answer, document)?;
            self.succeeded(answer, document)?;
            judge(document)?;
            let throttled = |error| self.throttled(document).unwrap_or(error);
            self.as_expected(document).map_err(throttled)?;
            let grant = self.grant(answer, document, subject);
            grant.map_err(|error| throttled(error).into())
        };
        read().map_err(|failed: Failed| failed.with_said(self.said(document)))
    }

    // Fewer requests, or a provider that is down: that passes, whatever the content says.
    fn not_refused(&self, answer: &Answer, document: Option<&Value>) -> Result<(), Failed> {
        let passes = answer.status.is_server_error() || matches!(answer.status.as_u16(), 408 | 429);
        let Some(document) = document.filter(|_| !passes) else {
            return Ok(());
        };
        let mut refused = self.refused.iter();
        match refused.find(|(pointer, expected)| expected.is_met(pointer, document)) {
            None => Ok(()),
            Some((pointer, _)) => Err(Failed {
                error: FetchError::Refused {
                    error: format!("its `{pointer}` says so").into(),
                },
                unauthorized: answer.status == StatusCode::UNAUTHORIZED,
                said: None,
            }),
        }
    }

    fn succeeded(&self, answer: &Answer, document: Option<&Value>) -> Result<(), Failed> {
        if answer.status.is_success() {
            return Ok(());
        }
        let asked = |by_header| self.retry_after(document).or(by_header);
        let error = match oauth2::refusal(answer).unwrap_or_else(|| answer.failure()) {
            FetchError::Throttled { retry_after } => FetchError::Throttled {
                retry_after: asked(retry_after),
            },
            FetchError::Unavailable {
                reason,
                retry_after,
            } => FetchError::Unavailable {
                reason,
                retry_after: asked(retry_after),
            },
            other => other,
        };
        Err(Failed {
            error,
            unauthorized: answer.status == StatusCode::UNAUTHORIZED,
            said: None,
        })
    }

    fn as_expected(&self, document: Option<&Value>) -> Result<(), FetchError> {
        if self.expect.is_empty() {
            return Ok(());
        }
        let document = document.ok_or_else(|| FetchError::malformed("it is not JSON"))?;
        let mut expect = self.expect.iter();
        match expect.find(|(pointer, expected)| !expected.is_met(pointer, document)) {
            None => Ok(()),
            Some((pointer, _)) => Err(FetchError::malformed(format!(
                "`{pointer}` is not as expected"
            ))),
        }
    }

    /// A 200 that says how long to stay away is a 429 in disguise.
    pub(super) fn throttled(&self, document: Option<&Value>) -> Option<FetchError> {
        let retry_after = Some(self.retry_after(document)?);
        Some(FetchError::Throttled { retry_after })
    }

    fn retry_after(&self, document: Option<&Value>) -> Option<Duration> {
        let value = self.retry_after.as_ref()?.first(document?)?;
        let seconds = extract::number(value).filter(|seconds| *seconds >= 0.0)?;
        // More than fits is as good as for ever.
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// What the answer says about its failure: for the log.
    fn said(&self, document: Option<&Value>) -> Option<String> {
        let found = self.error.as_ref()?.find(document?);
        let texts: Vec<String> = found.into_iter().map(as_text).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn grant(
        &self,
        answer: &Answer,
        document: Option<&Value>,
        subject: &Subject,
    ) -> Result<Grant, FetchError> {
        let token = Secret::new(self.token(answer, document)?);
        extract::check_token(token.reveal())?;
        let from = Stated {
            answer,
            document,
            token: token.reveal(),
            subject,
            now: SystemTime::now(),
        };
        let lifetime = expiry::lifetime(&self.expiry, &from);
        let renew_after = expiry::stated(&self.soft_expiry, &from).and_then(length);
        let refresh = self.refresh.as_ref().and_then(|place| {
            let refresh = place.token.first(document?)?.as_str()?;
            let from = Stated {
                token: refresh,
                ..from
            };
            let lifetime = expiry::stated(&place.expiry, &from).and_then(length);
            let token = Secret::new(refresh.to_owned());
            (!refresh.is_empty()).then_some(RefreshGrant { token, lifetime })
        });
        let fields = document.map(|document| extract::fields(&self.fields, document));
        let single_use = match &self.single_use {
            SingleUse::No => false,
            SingleUse::Yes => true,
            SingleUse::When(pointer, values) => document
                .and_then(|document| pointer.first(document))
                .is_some_and(|value| values.contains(value)),
        };
        Ok(Grant {
            fields: fields.unwrap_or_default(),
            single_use,
            renew_after,
            refresh,
            ..Grant::new(token, lifetime)
        })
    }

    fn token(&self, answer: &Answer, document: Option<&Value>) -> Result<String, FetchError> {
        match &self.token {
            TokenPlace::Json(pointer) => {
                let document = document.ok_or_else(|| FetchError::malformed("it is not JSON"))?;
                match pointer.first(document) {
                    Some(Value::String(token)) => Ok(token.clone()),
                    Some(_) => Err(FetchError::malformed(format!("`{pointer}` is not a text"))),
                    None => Err(FetchError::malformed(format!("it has no `{pointer}`"))),
                }
            }
            TokenPlace::Header(name) => {
                let value = answer.headers.get(name);
                let missing = || FetchError::malformed(format!("it has no header `{name}`"));
                let value = value.ok_or_else(missing)?.to_str();
                let value = value
                    .map_err(|_| FetchError::malformed(format!("the header `{name}` is no text")));
                Ok(value?.trim().to_owned())
            }
            TokenPlace::Body => {
                let text = std::str::from_utf8(&answer.body)
                    .map_err(|_| FetchError::malformed("it is not text"))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

impl Expected {
    fn is_met(&self, pointer: &Pointer, document: &Value) -> bool {
        let mut found = pointer.find(document).into_iter();
        match self {
            Self::OneOf(values) => found.any(|value| values.contains(value)),
            Self::Present => found.any(|value| !value.is_null()),
            Self::Absent => found.all(Value::is_null),
        }
    }
}

impl SingleUse {
    /// Whether a token can be of one use.
    #[must_use]
    pub const fn is_possible(&self) -> bool {
        match self {
            Self::No => false,
            Self::Yes | Self::When(..) => true,
        }
    }
}

fn length(lifetime: Lifetime) -> Option<Duration> {
    match lifetime {
        Lifetime::For(length) | Lifetime::Clamped(length) => Some(length),
        Lifetime::Unlimited { .. } => None,
    }
}

/// A value as a line of a log has it.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::provider::expiry::Unit;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    fn reading() -> Reading {
        Reading {
            retry_after: Some(pointer("/retryAfter")),
            error: Some(pointer("/error")),
            ..Reading::new(TokenPlace::Json(pointer("/token")))
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn read(reading: &Reading, status: u16, body: &Value) -> Result<Grant, Failed> {
        reading.read(&answer(status, &body.to_string()), &Subject::default())
    }

    fn error(reading: &Reading, status: u16, body: &Value) -> String {
        read(reading, status, body).unwrap_err().error.to_string()
    }

    #[test]
    fn any_2xx_with_a_token_is_good() {
        for status in [200, 201] {
            let grant = read(&reading(), status, &json!({"token": "T"})).unwrap();
            assert_eq!(grant.token.reveal(), "T");
            assert_eq!(grant.lifetime, Lifetime::For(Duration::from_mins(5)));
        }
    }

    #[test]
    fn what_is_wrong_names_the_pointer_and_nothing_of_the_answer() {
        for body in [
            json!({"CNRY": 1}),
            json!({"token": ["CNRY"]}),
            json!({"token": "CN RY"}),
        ] {
            let error = error(&reading(), 200, &body);
            assert!(error.contains("token") && !error.contains("RY"), "{error}");
        }
        let page = reading().read(&answer(200, "<html>CNRY"), &Subject::default());
        let error = page.unwrap_err().error.to_string();
        assert_eq!(error, "the provider's answer is not usable: it is not JSON");
    }

    #[test]
    fn expectations_are_held_against_a_2xx() {
        for (expected, good, bad) in [
            (
                Expected::OneOf(vec![json!("OK"), json!(0)]),
                json!({"s": 0}),
                json!({"s": "ERROR"}),
            ),
            (Expected::Present, json!({"s": "x"}), json!({"s": null})),
            (Expected::Absent, json!({}), json!({"s": "AP002"})),
        ] {
            let reading = Reading {
                expect: vec![(pointer("/s"), expected)],
                ..reading()
            };
            let with_token = |mut body: Value| {
                body["token"] = json!("T");
                body
            };
            assert!(read(&reading, 200, &with_token(good)).is_ok());
            let error = error(&reading, 200, &with_token(bad));
            assert!(error.ends_with("`/s` is not as expected"), "{error}");
        }
    }

    #[test]
    fn a_token_may_be_in_a_header_or_be_the_whole_body() {
        let mut answer = answer(200, "BODY\n");
        let name = HeaderName::from_static("x-auth-token");
        answer
            .headers
            .insert(&name, HeaderValue::from_static("HEAD"));
        for (token, found) in [
            (TokenPlace::Header(name), "HEAD"),
            (TokenPlace::Body, "BODY"),
        ] {
            let reading = Reading { token, ..reading() };
            let grant = reading.read(&answer, &Subject::default()).unwrap();
            assert_eq!(grant.token.reveal(), found);
        }
    }

    #[test]
    fn the_body_may_say_how_long_to_stay_away() {
        let said = |value: Value, status, reading: &Reading| {
            let failed = read(reading, status, &json!({ "retryAfter": value })).unwrap_err();
            (failed.error.retry_after(), failed.error.outcome().as_str())
        };
        let until = |status, reading: &Reading| said("7".into(), status, reading);
        let seven = Some(Duration::from_secs(7));
        assert_eq!(until(429, &reading()), (seven, "throttled"));
        assert_eq!(until(503, &reading()), (seven, "unavailable"));
        let absurd = said(1e300.into(), 429, &reading());
        assert_eq!(
            absurd.0,
            Some(Duration::from_hours(1)),
            "as long as that is obeyed"
        );
        for nonsense in [json!(-5), json!("soon"), json!(null), json!([7])] {
            assert_eq!(said(nonsense, 429, &reading()), (None, "throttled"));
        }
        let expecting = Reading {
            expect: vec![(pointer("/token"), Expected::Present)],
            ..reading()
        };
        assert_eq!(until(200, &expecting), (seven, "throttled"));
    }

    #[test]
    fn what_the_provider_says_is_for_the_log_only() {
        let failed = read(&reading(), 400, &json!({"error": "no such merchant"})).unwrap_err();
        assert_eq!(failed.said.as_deref(), Some("no such merchant"));
        assert!(!failed.error.to_string().contains("merchant"));
        assert!(!failed.unauthorized);
        assert!(read(&reading(), 401, &json!({})).unwrap_err().unauthorized);
    }

    #[test]
    fn everything_else_that_an_answer_may_tell() {
        let seconds = |at: &str| vec![Expiry::Json(pointer(at), Unit::Seconds)];
        let reading = Reading {
            expiry: seconds("/expires_in"),
            soft_expiry: seconds("/refresh_in"),
            fields: vec![("merchant".to_owned(), pointer("/merchant_id"))],
            single_use: SingleUse::When(pointer("/usage"), vec![json!("SINGLE_USE")]),
            refresh: Some(RefreshPlace {
                token: pointer("/refresh"),
                expiry: seconds("/refresh_expires_in"),
            }),
            ..reading()
        };
        let body = json!({
            "token": "T", "expires_in": 3600, "refresh_in": 1800, "merchant_id": 7,
            "usage": "SINGLE_USE", "refresh": "R", "refresh_expires_in": 86400,
        });
        let grant = read(&reading, 200, &body).unwrap();
        assert_eq!(grant.lifetime, Lifetime::For(Duration::from_hours(1)));
        assert_eq!(grant.renew_after, Some(Duration::from_mins(30)));
        assert_eq!(grant.fields, [("merchant".to_owned(), json!(7))]);
        assert!(grant.single_use);
        let refresh = grant.refresh.unwrap();
        assert_eq!(refresh.token.reveal(), "R");
        assert_eq!(refresh.lifetime, Some(Duration::from_hours(24)));
    }
}
