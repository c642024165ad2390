//! What a fake answers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::HangUp;

/// A whole answer; its body may end in a [`HangUp`].
pub type Answer = Response<AnswerBody>;

/// The body of an [`Answer`].
pub type AnswerBody = UnsyncBoxBody<Bytes, HangUp>;

/// `status`, and nothing else.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// `status` with a body of this type.
pub(super) fn with_body(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(full(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// `status` with a JSON document.
pub(super) fn json(status: StatusCode, document: &Value) -> Answer {
    with_body(
        status,
        HeaderValue::from_static("application/json"),
        document.to_string(),
    )
}

/// A body that is already there.
pub(super) fn full(bytes: Bytes) -> AnswerBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
