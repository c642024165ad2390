//! From a refusal to its wording: the one table.

use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use serde_json::json;

use super::rules::Dialect;
use crate::fake::answer::{self, Answer};

/// Why a request gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not a POST.
    Method,
    /// Not a request that the endpoint understands; the reason is for people.
    Malformed(&'static str),
    /// This parameter is missing.
    Missing(&'static str),
    /// Not the client it says it is. Challenged if it used, or had to use, `Authorization`.
    Client { challenge: bool },
    /// Another grant type than client credentials.
    GrantType,
    /// Scopes that the client may not have, or that are not scopes.
    Scope,
    /// Not the audience that tokens are for.
    Audience,
}

impl Refusal {
    pub(super) fn answer(self, dialect: Dialect) -> Answer {
        if self == Self::Method {
            let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let error = self.error(dialect);
        let mut answer = match dialect {
            Dialect::Stitch => answer::json(StatusCode::BAD_REQUEST, &json!({ "error": error })),
            Dialect::Rfc6749 => answer::json(
                self.status(),
                &json!({ "error": error, "error_description": self.description() }),
            ),
        };
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if dialect == Dialect::Rfc6749 && self == (Self::Client { challenge: true }) {
            answer.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"token endpoint\", charset=\"UTF-8\""),
            );
        }
        answer
    }

    fn error(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Method | Self::Malformed(_), _) | (Self::Missing(_), Dialect::Rfc6749) => {
                "invalid_request"
            }
            // Stitch's page on errors names it for a client's request that lacks a parameter. That
            // a wrong audience counts as none is our guess.
            (Self::Missing(_) | Self::Audience, Dialect::Stitch) => "invalid_grant",
            (Self::Audience, Dialect::Rfc6749) => "invalid_target", // RFC 8707 §2
            (Self::Client { .. }, _) => "invalid_client",
            (Self::GrantType, _) => "unsupported_grant_type",
            (Self::Scope, _) => "invalid_scope",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Client { .. } => StatusCode::UNAUTHORIZED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_)
            | Self::Missing(_)
            | Self::GrantType
            | Self::Scope
            | Self::Audience => StatusCode::BAD_REQUEST,
        }
    }

    fn description(self) -> String {
        match self {
            Self::Method => "the token endpoint takes POST".to_owned(),
            Self::Malformed(reason) => reason.to_owned(),
            Self::Missing(parameter) => format!("the parameter {parameter} is missing"),
            Self::Client { .. } => "client authentication failed".to_owned(),
            Self::GrantType => "the grant type is not supported".to_owned(),
            Self::Scope => "the requested scope is invalid, unknown or malformed".to_owned(),
            Self::Audience => "the audience is not one of this server".to_owned(),
        }
    }
}
