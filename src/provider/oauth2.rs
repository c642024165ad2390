//! OAuth 2.0 token endpoints (RFC 6749).

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::client_auth::{ClientAuth, Form};
use super::exchange::{self, Answer, Target};
use super::extract;
use super::pointer::Pointer;
use super::secret::{Secret, Secrets};
use super::template::Template;
use super::{Call, FetchError, Grant};

/// `type = "oauth2"`
#[derive(Debug)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_endpoint: Target,
    /// Who asks.
    pub client_auth: ClientAuth,
    /// What is asked for. Sorted, so that `a b` and `b a` are one.
    pub scope: Vec<String>,
    /// Further parameters, filled in from the subject's inputs by their index.
    pub params: Vec<(String, Template<usize>)>,
    /// Further members of the answer that are kept, by name.
    pub fields: Vec<(String, Pointer)>,
    /// The lifetime of a token whose answer states none.
    pub after: Duration,
    /// How secrets are read.
    pub secrets: Secrets,
}

impl OAuth2 {
    /// The client credentials grant (RFC 6749 §4.4).
    ///
    /// # Errors
    ///
    /// When there is no usable token in the answer, or no answer.
    pub(super) async fn fetch(&self, call: &Call<'_>) -> Result<Grant, FetchError> {
        let mut form = Form::default();
        form.add("grant_type", "client_credentials");
        if !self.scope.is_empty() {
            form.add("scope", &self.scope.join(" "));
        }
        for (name, template) in &self.params {
            let value = template
                .render(|index| Ok::<_, FetchError>(Cow::Borrowed(call.subject.input(*index))))?;
            form.add(name, &value);
        }
        let authorization = self.client_auth.authenticate(&mut form, &self.secrets)?;
        let answer =
            exchange::post_form(&self.token_endpoint, authorization, form.as_str()).await?;
        self.grant(&answer)
    }

    fn grant(&self, answer: &Answer) -> Result<Grant, FetchError> {
        if !answer.status.is_success() {
            return Err(refusal(answer).unwrap_or_else(|| answer.failure()));
        }
        let success: Success = serde_json::from_slice(&answer.body)
            .map_err(|_| FetchError::malformed("it is not the JSON of a token response"))?;
        let Some(Value::String(token)) = success.access_token else {
            return Err(FetchError::malformed("it has no access_token"));
        };
        let token = Secret::new(token);
        match success.token_type {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
            Some(_) => return Err(FetchError::malformed("its token_type is not Bearer")),
        }
        extract::check_token(token.reveal())?;
        let lifetime = extract::lifetime(
            success.expires_in.as_ref(),
            token.reveal(),
            self.after,
            SystemTime::now(),
        );
        let mut grant = Grant::new(token, lifetime);
        if !self.fields.is_empty()
            && let Ok(document) = serde_json::from_slice(&answer.body)
        {
            grant.fields = extract::fields(&self.fields, &document);
        }
        Ok(grant)
    }
}

/// RFC 6749 §5.1. Values that are only looked at, so that a strange one does not spoil the rest.
#[derive(Deserialize)]
struct Success {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
}

// RFC 6749 §5.2. Only the codes of the registry are repeated: whatever else stands there may hold anything.
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

const ERROR_CODES: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
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
