//! From a refusal to Forage's wording: the one table.

use http::StatusCode;
use serde_json::json;

use crate::fake::Received;
use crate::fake::answer::{self, Answer};

/// Why Forage does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, or one that was never good, or an authentication token that is not good any more.
    Token,
    /// A session token whose fifteen minutes are over.
    ExpiredSession,
    /// A session token that nobody made, or whose authentication token was revoked.
    BadSignature,
    /// A session token whose authentication token has expired.
    ExpiredSignature,
    /// No `Merchant-Account`, or several.
    Merchant,
    /// A good token, but not for this.
    Forbidden,
    /// The same `Idempotency-Key` with another body.
    CannotChange,
    /// Not JSON.
    Body,
    /// No such path.
    NotFound,
    /// The path takes another method.
    Method,
}

impl Refusal {
    pub(super) fn answer(self, request: &Received) -> Answer {
        let (status, code, message, resource) = match self {
            Self::NotFound => {
                return answer::json(StatusCode::NOT_FOUND, &json!({ "detail": "Not found." }));
            }
            Self::Method => {
                let detail = format!("Method \"{}\" not allowed.", request.method);
                return answer::json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "detail": detail }));
            }
            Self::Token => (
                401,
                "invalid_token",
                "Incorrect authentication credentials.",
                "OAuth_Access_Tokens",
            ),
            Self::ExpiredSession => (
                401,
                "expired_session_token",
                "This token has expired",
                "Session_Token",
            ),
            Self::BadSignature => (401, "bad_signature", "Bad Token Signature", "Session_Token"),
            // Of these, the codes are documented; statuses, messages and resources are our guess.
            Self::ExpiredSignature => (
                401,
                "expired_token_signature",
                "Expired Token Signature",
                "Session_Token",
            ),
            Self::Forbidden => (
                403,
                "forbidden",
                "You do not have permission to perform this action.",
                "OAuth_Access_Tokens",
            ),
            Self::CannotChange => (
                409,
                "cannot_change_request",
                "This key was used with another request.",
                "Idempotency_Key",
            ),
            Self::Body => (
                400,
                "cannot_parse_request_body",
                "The request body could not be parsed.",
                "Request",
            ),
            Self::Merchant => (
                400,
                "missing_merchant_account",
                "No merchant account FNS number was provided.",
                "Merchant_Account_Header",
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let source = json!({ "resource": resource, "ref": "" });
        let error = json!({ "code": code, "message": message, "source": source });
        answer::json(
            status,
            &json!({ "path": request.path(), "errors": [error] }),
        )
    }
}
