//! One request to a provider and its answer. No redirect is followed, no more is read than a token can need.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, mem};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, LOCATION, RETRY_AFTER,
    USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use zeroize::Zeroize as _;

use super::FetchError;
use crate::net::connect::{ConnectError, Endpoint};

/// An address to ask for tokens.
#[derive(Debug)]
pub struct Target {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// The `Host` field's value.
    pub host: HeaderValue,
    /// The origin-form target, query included.
    pub path: String,
}

/// What a provider answered. Its content, in which a token may be, is zeroed when it is dropped.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its content, at most [`MAX_ANSWER_BYTES`].
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // They are pieces of the same memory, which has to be ours alone.
        self.headers.clear();
        if let Ok(mut body) = mem::take(&mut self.body).try_into_mut() {
            body.as_mut().zeroize();
        }
    }
}

/// A request to a provider, besides where it goes.
pub struct Ask {
    /// Its method.
    pub method: Method,
    /// Its fields; what is missing and every request needs is added.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Bytes,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Sends a form and reads the answer.
///
/// # Errors
///
/// As [`send`].
pub async fn post_form(
    target: &Target,
    authorization: Option<HeaderValue>,
    form: Bytes,
) -> Result<Answer, FetchError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, FORM);
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value);
    }
    let ask = Ask {
        method: Method::POST,
        headers,
        body: form,
    };
    send(&target.endpoint, &target.host, &target.path, ask).await
}

/// Asks for `path` and reads the answer, on a connection of its own: it carries a secret, and it is seldom.
///
/// # Errors
///
/// When there is no answer: [`FetchError::Unreachable`] if the provider has not seen the request.
pub async fn send(
    endpoint: &Endpoint,
    host: &HeaderValue,
    path: &str,
    ask: Ask,
) -> Result<Answer, FetchError> {
    let mut request = Request::new(Full::new(ask.body));
    *request.method_mut() = ask.method;
    *request.uri_mut() = path
        .parse()
        .map_err(|_| FetchError::malformed("the token endpoint is no request target"))?;
    let mut headers = ask.headers;
    headers.insert(HOST, host.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.entry(ACCEPT).or_insert(JSON);
    headers.entry(USER_AGENT).or_insert(OURSELVES);
    *request.headers_mut() = headers;
    exchange(endpoint, request).await
}

/// `application/x-www-form-urlencoded`
pub const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// `application/json`
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("pillion/", env!("CARGO_PKG_VERSION")));

async fn exchange(
    endpoint: &Endpoint,
    request: Request<Full<Bytes>>,
) -> Result<Answer, FetchError> {
    let transport = endpoint.connect().await.map_err(|error| match error {
        ConnectError::Timeout(after) => FetchError::Timeout { after },
        error @ (ConnectError::Unreachable(_)
        | ConnectError::Tunnel(_)
        | ConnectError::Tls(_)
        | ConnectError::Plaintext) => FetchError::Unreachable {
            reason: error.to_string().into(),
            detail: error.report().into(),
        },
    })?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_ANSWER_BYTES)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|error| broken(&error))?;
    tracing::trace!(method = %request.method(), "asked");
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    FetchError::malformed("the answer is longer than 64 KiB")
                } else {
                    broken(error.as_ref())
                }
            })?;
        tracing::trace!(status = head.status.as_u16(), "answered");
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    // The connection does the work while the answer is waited for. It may end first: then what it has read is still on
    // its way, and if that is no answer, waiting for one says why.
    let (answer, connection) = (pin!(answer), pin!(connection));
    match select(answer, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

// A connection that breaks before there is an answer costs the provider nothing: it counts as not reached.
fn broken(error: &(dyn Error + 'static)) -> FetchError {
    if let Some(error) = error.downcast_ref::<hyper::Error>()
        && (error.is_parse() || error.is_parse_too_large())
    {
        return FetchError::malformed("the answer is not HTTP");
    }
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    FetchError::Unreachable {
        reason: "the connection broke off before there was an answer".into(),
        detail: detail.into(),
    }
}

impl Answer {
    /// What an answer that is not 2xx means, whatever the kind of provider.
    #[must_use]
    pub fn failure(&self) -> FetchError {
        let reason = || -> Arc<str> { format!("it answered {}", self.status.as_u16()).into() };
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => FetchError::Throttled {
                retry_after: self.retry_after(),
            },
            StatusCode::REQUEST_TIMEOUT => FetchError::Unavailable {
                reason: reason(),
                retry_after: self.retry_after(),
            },
            status if status.is_server_error() => FetchError::Unavailable {
                reason: reason(),
                retry_after: self.retry_after(),
            },
            status if status.is_redirection() => {
                // Followed, it would carry the secret to wherever it points.
                let place = if self.headers.contains_key(LOCATION) {
                    "elsewhere"
                } else {
                    "nowhere"
                };
                FetchError::malformed(format!(
                    "it redirects {place}, and redirects are not followed"
                ))
            }
            _ => FetchError::malformed(reason()),
        }
    }

    /// Whether its content is HTML: for people, so not from a token endpoint.
    pub(super) fn is_page(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE);
        kind.and_then(|kind| kind.as_bytes().get(..PAGE.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(PAGE))
    }

    /// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More than fits is as good as for ever.
            return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(value).ok()?;
        let now = self.date().unwrap_or_else(SystemTime::now);
        Some(date.duration_since(now).unwrap_or_default())
    }

    /// When it was made, by the clock of whoever made it (`Date`, RFC 9110 §6.6.1).
    #[must_use]
    pub fn date(&self) -> Option<SystemTime> {
        let date = self.headers.get(DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    }
}

const PAGE: &[u8] = b"text/html";
/// The most that is read of an answer.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
