//! GraphQL over HTTP: an exchange in which a 200 may be a failure.

use serde_json::Value;

use super::http::Http;
use super::pointer::Pointer;
use super::reading::{Reading, as_text};
use super::{Call, Failed, FetchError, Grant};

/// `type = "graphql"`
#[derive(Debug)]
pub struct GraphQl(pub Http);

impl GraphQl {
    /// One operation.
    ///
    /// # Errors
    ///
    /// When there is no usable token in the answer, or no answer.
    pub(super) async fn fetch(&self, call: &Call<'_>) -> Result<Grant, Failed> {
        let reading = &self.0.reading;
        self.0
            .exchange(call, |document| judge(document, reading))
            .await
    }
}

/// What a 200 means: `errors` in it (GraphQL §7.1.2), or a member of a union that is an error.
fn judge(document: Option<&Value>, reading: &Reading) -> Result<(), Failed> {
    let Some(document) = document else {
        return Err(FetchError::malformed("it is not JSON").into());
    };
    let at = |pointer| all(document, pointer);
    let errors = at("/errors/*");
    if !errors.is_empty() {
        let codes = at("/errors/*/extensions/code");
        let codes = codes.into_iter().chain(at("/extensions/code"));
        let unauthorized = codes.into_iter().any(|code| code == "UNAUTHENTICATED");
        let error = match reading.throttled(Some(document)) {
            Some(throttled) => throttled,
            None if unauthorized => FetchError::Refused {
                error: "it answered UNAUTHENTICATED".into(),
            },
            None => FetchError::unavailable("it answered 200 with errors"),
        };
        return Err(Failed {
            error,
            unauthorized,
            said: Some(join(&at("/errors/*/message"))),
        });
    }
    for result in at("/data/*") {
        let kind = result.get("__typename").and_then(Value::as_str);
        let Some(kind) = ERROR_TYPES.iter().find(|known| Some(**known) == kind) else {
            continue;
        };
        let said: Vec<_> = ["/message", "/errors/*/code", "/errors/*/description"]
            .into_iter()
            .flat_map(|pointer| all(result, pointer))
            .collect();
        let failed = Failed::from(FetchError::Refused {
            error: (*kind).into(),
        });
        return Err(failed.with_said(Some(join(&said))));
    }
    Ok(())
}

/// Members of a result's union that say that there is none: the request is at fault, and will be.
const ERROR_TYPES: [&str; 2] = ["UserError", "AccessDeniedError"];

fn all<'a>(document: &'a Value, pointer: &str) -> Vec<&'a Value> {
    Pointer::parse(pointer).map_or_else(|_| Vec::new(), |pointer| pointer.find(document))
}

fn join(texts: &[&Value]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| as_text(text)).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::provider::reading::TokenPlace;

    fn failed(document: &Value) -> Failed {
        let reading = Reading {
            retry_after: Pointer::parse("/extensions/rateLimit/retryAfter").ok(),
            ..Reading::new(TokenPlace::Body)
        };
        judge(Some(document), &reading).unwrap_err()
    }

    #[test]
    fn a_user_error_is_a_configuration_fault_and_its_text_is_for_the_log() {
        let failed = failed(&json!({"data": {"generatePaymentCardClientToken": {
            "__typename": "UserError",
            "errors": [{"code": "INVALID_ID", "description": "Card not found"}],
        }}}));
        assert!(failed.error.is_configuration_fault());
        assert_eq!(failed.error.to_string(), "the provider refused: UserError");
        assert_eq!(failed.said.as_deref(), Some("INVALID_ID; Card not found"));
    }

    #[test]
    fn an_access_denied_error_is_one_too() {
        let failed = failed(
            &json!({"data": {"x": {"__typename": "AccessDeniedError", "message": "Forbidden"}}}),
        );
        assert!(failed.error.is_configuration_fault());
        assert_eq!(failed.said.as_deref(), Some("Forbidden"));
    }

    #[test]
    fn errors_in_a_200_are_a_failure() {
        let failed = failed(&json!({"data": {"x": {}}, "errors": [{"message": "CNRY"}]}));
        assert_eq!(
            failed.error.to_string(),
            "the provider failed: it answered 200 with errors"
        );
        assert_eq!(failed.said.as_deref(), Some("CNRY"));
        assert!(!failed.unauthorized);
    }

    #[test]
    fn errors_with_a_time_to_stay_away_are_throttling() {
        let failed = failed(&json!({
            "data": {}, "errors": [{"message": "Usage limit exceeded."}],
            "extensions": {"rateLimit": {"retryAfter": 7}},
        }));
        assert_eq!(failed.error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn unauthenticated_in_a_200_is_a_401() {
        for document in [
            json!({"errors": [{"message": "x"}], "extensions": {"code": "UNAUTHENTICATED"}}),
            json!({"errors": [{"message": "x", "extensions": {"code": "UNAUTHENTICATED"}}]}),
        ] {
            assert!(failed(&document).unauthorized);
        }
    }
}
