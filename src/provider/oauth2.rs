//! OAuth 2.0 token endpoints (RFC 6749).

use std::borrow::Cow;
use std::time::SystemTime;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use super::client_auth::{ClientAuth, Form};
use super::exchange::{self, Answer, Target};
use super::grant_type::{Asked, GrantType};
use super::reading::{Reading, as_text};
use super::rotation::Turn;
use super::secret::{self, Secret, Secrets};
use super::template::Template;
use super::{Call, Failed, FetchError, Grant, Subject};

/// `type = "oauth2"`
#[derive(Debug)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_endpoint: Target,
    /// Who asks.
    pub client_auth: ClientAuth,
    /// What for.
    pub grant: GrantType,
    /// What is asked for. Sorted, so that `a b` and `b a` are one.
    pub scope: Vec<String>,
    /// Where the token will be used (RFC 8707).
    pub resource: Vec<String>,
    /// Further parameters, filled in from the subject's inputs by their index.
    pub params: Vec<(String, Template<usize>)>,
    /// How the answer is read.
    pub reading: Reading,
    /// How secrets are read.
    pub secrets: Secrets,
}

impl OAuth2 {
    /// One token request and its answer.
    ///
    /// # Errors
    ///
    /// When there is no usable token in the answer, or no answer.
    pub(super) async fn fetch(&self, call: &Call<'_>) -> Result<Grant, Failed> {
        let mut turn = match &self.grant {
            GrantType::RefreshToken(rotation) => {
                let first = self.secrets.read(rotation.first())?;
                Some(rotation.turn(first).await)
            }
            _ => None,
        };
        let refresh_token = turn.as_ref().map(Turn::token);
        let (authorization, form) = self.request(call.subject, refresh_token, SystemTime::now())?;
        let answer =
            exchange::post_form(&self.token_endpoint, authorization, form.to_content()).await?;
        // A provider may repeat what it was sent.
        let redact = |said: &str| secret::redact(said, form.secrets(), call.subject.inputs());
        let granted = self.reading.read_judged(&answer, call.subject, |document| {
            tell(document, &redact);
            self.is_bearer(document)
        });
        if let Some(turn) = &mut turn {
            follow(turn, &answer, granted.as_ref().err());
        }
        granted.map_err(|failed| failed.map_said(redact))
    }

    fn request(
        &self,
        subject: &Subject,
        refresh_token: Option<&Secret>,
        now: SystemTime,
    ) -> Result<(Option<HeaderValue>, Form), FetchError> {
        let mut form = Form::default();
        let asked = Asked {
            subject,
            client_id: self.client_auth.id(),
            secrets: &self.secrets,
            refresh_token,
            now,
        };
        self.grant.add_to(&mut form, &asked)?;
        if !self.scope.is_empty() {
            form.add("scope", &self.scope.join(" "));
        }
        for resource in &self.resource {
            form.add("resource", resource);
        }
        for (name, template) in &self.params {
            let value = template
                .render(|index| Ok::<_, FetchError>(Cow::Borrowed(subject.input(*index))))?;
            form.add(name, &value);
        }
        let authorization =
            self.client_auth
                .authenticate(&mut form, subject, &self.secrets, now)?;
        Ok((authorization, form))
    }

    // RFC 6749 §5.1: a token of another type is used in another way.
    fn is_bearer(&self, document: Option<&Value>) -> Result<(), Failed> {
        match document.and_then(|document| document.get("token_type")) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => Ok(()),
            // RFC 8693 §2.2.1: what was exchanged need not be an access token.
            Some(Value::String(kind))
                if kind.eq_ignore_ascii_case("n_a")
                    && matches!(self.grant, GrantType::TokenExchange(_)) =>
            {
                Ok(())
            }
            Some(_) => Err(FetchError::malformed("its token_type is not Bearer").into()),
        }
    }
}

/// What else an answer says (RFC 6749 §5.1), for whoever follows the trace.
fn tell(document: Option<&Value>, redact: &impl Fn(&str) -> String) {
    let text = |name: &str| Some(redact(&as_text(document?.get(name)?)));
    tracing::trace!(
        token_type = text("token_type"),
        expires_in = text("expires_in"),
        scope = text("scope"),
        "granted"
    );
}

// RFC 6749 §6: an answer may bring the refresh token that replaces the one that was sent. The sent one may be dead then,
// so the new one is kept whatever else is wrong with the answer.
fn follow(turn: &mut Turn<'_>, answer: &Answer, failed: Option<&Failed>) {
    #[derive(Deserialize)]
    struct Rotated {
        refresh_token: String,
    }
    if answer.status.is_success() {
        let rotated = serde_json::from_slice::<Rotated>(&answer.body).ok();
        let newest = rotated.map(|it| it.refresh_token);
        if let Some(newest) = newest.filter(|it| !it.is_empty()) {
            turn.keep(Secret::new(newest));
        }
    }
    if let Some(FetchError::Refused { error }) = failed.map(|failed| &failed.error)
        && &**error == "invalid_grant"
    {
        turn.forget();
    }
}

// RFC 6749 §5.2. Only codes of the registry are repeated: whatever else stands there may hold anything.
pub(super) fn refusal(answer: &Answer) -> Option<FetchError> {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }
    // Fewer requests, or another one later: whatever the body says, the client is not at fault.
    let passes = matches!(answer.status.as_u16(), 408 | 429);
    if passes || !answer.status.is_client_error() {
        return None;
    }
    let known = serde_json::from_slice::<Failure>(&answer.body)
        .ok()
        .and_then(|failure| ERROR_CODES.iter().find(|code| **code == failure.error));
    match known {
        Some(code) => Some(FetchError::Refused {
            error: (*code).into(),
        }),
        // A firewall's page, not the provider's answer.
        None if answer.status == 403 && answer.is_page() => Some(FetchError::Unavailable {
            reason: "it answered 403 with a web page".into(),
            retry_after: answer.retry_after(),
        }),
        // A 401 or 403 without a code says as much: these credentials are not good.
        None if matches!(answer.status.as_u16(), 401 | 403) => Some(FetchError::Refused {
            error: format!("it answered {}", answer.status.as_u16()).into(),
        }),
        None => None,
    }
}

const ERROR_CODES: [&str; 10] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    // OpenID Connect Core §3.1.2.6: somebody has to go to a browser.
    "consent_required",
    "interaction_required",
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_refusal_names_the_code_and_nothing_else_of_the_answer() {
        for (status, body, said) in [
            (
                400,
                r#"{"error":"invalid_scope","error_description":"CNRY"}"#,
                "the provider refused: invalid_scope",
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                "the provider refused: invalid_client",
            ),
            (401, "CNRY", "the provider refused: it answered 401"),
            (
                403,
                r#"{"error":"CNRY"}"#,
                "the provider refused: it answered 403",
            ),
        ] {
            assert_eq!(refusal(&answer(status, body)).unwrap().to_string(), said);
        }
        assert_eq!(refusal(&answer(503, r#"{"error":"invalid_client"}"#)), None);
        assert_eq!(refusal(&answer(400, r#"{"error":"CNRY"}"#)), None);
    }

    #[test]
    fn a_provider_that_throttles_does_not_refuse_whatever_code_it_gives() {
        let throttled = answer(429, r#"{"error":"access_denied"}"#);
        assert_eq!(refusal(&throttled), None);
        assert_eq!(
            throttled.failure(),
            FetchError::Throttled { retry_after: None }
        );
    }

    #[test]
    fn the_page_of_a_firewall_is_a_failure_that_passes() {
        let mut page = answer(403, "<html>CNRY</html>");
        let kind = HeaderValue::from_static("Text/HTML; charset=utf-8");
        page.headers.insert(CONTENT_TYPE, kind);
        let error = refusal(&page).unwrap();
        assert!(!error.is_configuration_fault());
        assert_eq!(
            error.to_string(),
            "the provider failed: it answered 403 with a web page"
        );
    }
}
