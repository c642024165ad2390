//! gRPC over HTTP/2: how long a caller waits, and how a failure of pillion's own is told so that its library understands.
//!
//! Everything else about gRPC is HTTP/2 and trailers, which pass as they are.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::sleep;

use super::answer::AnswerBody;
use super::problem::ProxyError;
use super::request_id::RequestId;

/// A call of gRPC, as its request tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// How long its caller waits (`grpc-timeout`), if it says so.
    pub patience: Option<Duration>,
}

impl Call {
    /// The call that a request makes, if it is one: in HTTP/2, with the content type of gRPC.
    #[must_use]
    pub fn of(head: &Parts) -> Option<Self> {
        let is_call = head.version == Version::HTTP_2 && has_content_type(&head.headers);
        is_call.then(|| Self {
            patience: patience(&head.headers),
        })
    }

    /// Waits for `future` as long as the caller does.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Deadline`] when it is not ready by then.
    pub async fn bound<T>(
        call: Option<Self>,
        mut future: Pin<&mut impl Future<Output = Result<T, ProxyError>>>,
    ) -> Result<T, ProxyError> {
        let Some(patience) = call.and_then(|call| call.patience) else {
            return future.await;
        };
        let mut timer = Box::pin(sleep(patience));
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(ProxyError::Deadline(patience)))
        })
        .await
    }
}

/// Whether these are the fields of a call.
#[must_use]
pub fn has_content_type(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|suffix| matches!(suffix.first(), None | Some(b'+' | b';')))
}

/// What `fields` say of how a call ended: those of an answer without messages, or trailers.
#[must_use]
pub fn status_of(fields: &HeaderMap) -> Option<&HeaderValue> {
    fields.get(GRPC_STATUS)
}

/// A failure as an answer without messages ("Trailers-Only"), which every library of gRPC reads. Beside it stands what
/// other answers of pillion tell a machine.
#[must_use]
pub fn refusal(error: &ProxyError, id: &RequestId) -> Response<AnswerBody> {
    let told = error.to_response(id);
    let mut answer = Response::new(AnswerBody::full(""));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code(error.status())));
    let message = utf8_percent_encode(&error.to_string(), MESSAGE).to_string();
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(status) = told.headers().get(PROXY_STATUS) {
        headers.insert(PROXY_STATUS, status.clone());
    }
    answer
}

/// The status code of gRPC for what would be this status of HTTP. Never 16: an app that sees it knows the upstream said it.
const fn code(status: StatusCode) -> u16 {
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match status.as_u16() {
        504 => 4,
        403 => 7,
        429 | 431 => 8,
        404 | 405 => 12,
        502 | 503 => UNAVAILABLE,
        _ => INTERNAL,
    }
}

/// `grpc-timeout`: at most eight digits and a unit. What is written otherwise says nothing.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// What a `grpc-message` does not hold as it is, besides all that is not ASCII.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn call(version: Version, fields: &[(&str, &str)]) -> Option<Call> {
        let mut request = Request::builder().version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Call::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_call_is_known_by_its_content_type_and_its_protocol() {
        for (content_type, is_call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let fields = [("content-type", content_type)];
            assert_eq!(call(Version::HTTP_2, &fields).is_some(), is_call);
            assert_eq!(call(Version::HTTP_11, &fields), None);
        }
    }

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        for (text, patience) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("S", None),
            ("", None),
            ("5", None),
            ("+5S", None),
            ("5s", None),
            ("123456789m", None),
        ] {
            let fields = [("content-type", "application/grpc"), ("grpc-timeout", text)];
            let call = call(Version::HTTP_2, &fields).unwrap();
            assert_eq!(call.patience, patience, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer_without_messages_and_never_unauthenticated() {
        let refused = refusal(&ProxyError::NoRoute, &RequestId::default());
        assert_eq!(refused.status(), StatusCode::OK);
        assert_eq!(status_of(refused.headers()).unwrap(), "12");
        assert_eq!(
            refused.headers()["grpc-message"],
            "no route takes this request"
        );
        for status in (100..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            assert!(![0, 16].contains(&code(status)), "{status}");
        }
    }

    #[test]
    fn a_message_is_percent_encoded() {
        let error = ProxyError::BadInput {
            input: "größe".to_owned(),
            reason: "is 100%\n".to_owned(),
        };
        assert_eq!(
            refusal(&error, &RequestId::default()).headers()["grpc-message"],
            "the input `gr%C3%B6%C3%9Fe` is 100%25%0A"
        );
    }
}
