//! What the app sees when pillion, not the upstream, has to answer: RFC 9457 and RFC 9209. Never a 401.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::answer::AnswerBody;
use super::framing::{MOST_FIELDS, MOST_LIST_BYTES};
use super::request_id::RequestId;
use crate::net::connect::ConnectError;
use crate::net::pool::{Broken, SendError};
use crate::net::stream::StreamError;
use crate::net::tunnel::TunnelError;
use crate::provider::inputs::InputFault;
use crate::provider::{FetchError, advice};
use crate::token::TokenError;

/// Why a request got no answer from its upstream.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No route takes the request.
    #[error("no route takes this request")]
    NoRoute,
    /// The request's framing can be read in two ways, or not at all.
    #[error("{0}")]
    BadFraming(&'static str),
    /// The head is larger than HTTP/2 may have it here.
    #[error("the head has more than {MOST_FIELDS} fields, or more than {} KiB", MOST_LIST_BYTES >> 10)]
    HeadTooLarge,
    /// The request target is not one that can be forwarded.
    #[error("{0}")]
    BadTarget(&'static str),
    /// TRACE (RFC 9110 §9.3.8).
    #[error("this method is not forwarded")]
    BadMethod,
    /// CONNECT: the app takes pillion for a proxy that lets TLS through.
    #[error(
        "pillion opens no tunnels, because it could add no token in one: call the `http://` URL through it, and it speaks TLS with the upstream itself"
    )]
    TunnelWanted,
    /// A hand-out route was asked in another way than GET or POST.
    #[error("a token is handed out to GET and POST")]
    HandOutMethod,
    /// The body cannot be read for inputs.
    #[error("{0}")]
    BadBody(&'static str),
    /// An input is missing or cannot be used.
    #[error("the input `{input}` {reason}")]
    BadInput {
        /// As in the configuration.
        input: String,
        /// What is wrong with it; never the value.
        reason: String,
    },
    /// The app sent a field that the route sets and does not want to be sent.
    #[error("the request brings `{0}`, which this route sets itself")]
    HeaderConflict(HeaderName),
    /// The caller is not the app.
    #[error("{0}")]
    ForbiddenCaller(&'static str),
    /// The caller's body broke off, or is too long.
    #[error("{0}")]
    RequestBody(&'static str),
    /// The caller's body stood still.
    #[error("the request body stood still")]
    RequestIdle,
    /// There is no token to send.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no connection to the upstream.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The upstream broke off before it answered.
    #[error("the upstream broke off before it answered")]
    Send(#[source] SendError),
    /// The upstream ended the stream before it answered.
    #[error("the upstream broke off before it answered")]
    Stream(#[source] StreamError),
    /// The upstream did not answer in time.
    #[error("the upstream did not answer within {0:?}")]
    UpstreamTimeout(Duration),
    /// A call of gRPC was not answered for as long as its caller waits.
    #[error("there was no answer within the {0:?} that the caller waits")]
    Deadline(Duration),
}

/// An input that the provider cannot use: the app's mistake, told before anything is fetched.
impl From<InputFault> for ProxyError {
    fn from(fault: InputFault) -> Self {
        Self::BadInput {
            input: fault.input,
            reason: fault.reason,
        }
    }
}

/// One row of the contract with the app.
struct Problem {
    status: StatusCode,
    /// The last part of the problem type.
    slug: &'static str,
    title: &'static str,
    /// The error type of RFC 9209 §2.3.
    proxy_status: &'static str,
}

impl Problem {
    fn problem_type(&self) -> String {
        format!("urn:pillion:problem:{}", self.slug)
    }
}

const fn row(
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    proxy_status: &'static str,
) -> Problem {
    Problem {
        status,
        slug,
        title,
        proxy_status,
    }
}

const fn unreadable(status: StatusCode) -> Problem {
    row(
        status,
        "bad-request",
        "The request cannot be forwarded",
        "http_request_error",
    )
}

impl ProxyError {
    /// The whole of the contract with the app, in one table.
    fn problem(&self) -> Problem {
        use StatusCode as S;
        match self {
            Self::NoRoute => row(
                S::NOT_FOUND,
                "no-route",
                "No route takes this request",
                "destination_not_found",
            ),
            Self::BadFraming(_)
            | Self::BadTarget(_)
            | Self::BadInput { .. }
            | Self::HeaderConflict(_)
            | Self::BadBody(_)
            | Self::RequestBody(_) => unreadable(S::BAD_REQUEST),
            Self::HeadTooLarge => unreadable(S::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::RequestIdle => LATE,
            Self::BadMethod | Self::TunnelWanted | Self::HandOutMethod => {
                unreadable(S::METHOD_NOT_ALLOWED)
            }
            Self::ForbiddenCaller(_) => row(
                S::FORBIDDEN,
                "forbidden-caller",
                "This caller may not use pillion",
                "http_request_denied",
            ),
            Self::Token(TokenError::Fetch(error)) => match error {
                FetchError::Refused { .. } | FetchError::Secret(_) => row(
                    S::BAD_GATEWAY,
                    "token-refused",
                    "The provider refused to give a token",
                    "proxy_configuration_error",
                ),
                FetchError::Malformed { .. } => row(
                    S::BAD_GATEWAY,
                    "token-malformed",
                    "The provider's answer has no usable token",
                    "http_protocol_error",
                ),
                FetchError::Timeout { .. } => row(
                    S::GATEWAY_TIMEOUT,
                    "token-timeout",
                    "The provider took too long",
                    "connection_timeout",
                ),
                FetchError::Throttled { .. }
                | FetchError::Unreachable { .. }
                | FetchError::Unavailable { .. } => UNAVAILABLE,
            },
            Self::Token(TokenError::BackingOff { .. }) => UNAVAILABLE,
            Self::Token(TokenError::Waited(_)) => row(
                S::GATEWAY_TIMEOUT,
                "token-timeout",
                "The provider took too long",
                "connection_timeout",
            ),
            Self::Token(TokenError::TooManyWaiters) => OVERLOADED,
            Self::Connect(ConnectError::Tls(_) | ConnectError::Plaintext) => row(
                S::BAD_GATEWAY,
                "upstream-tls",
                "The upstream is not who it should be",
                "tls_certificate_error",
            ),
            Self::Connect(ConnectError::Unreachable(_)) => row(
                S::BAD_GATEWAY,
                "upstream-unreachable",
                "The upstream cannot be reached",
                "destination_unavailable",
            ),
            Self::Connect(ConnectError::Tunnel(error)) => row(
                S::BAD_GATEWAY,
                "upstream-unreachable",
                "The upstream cannot be reached",
                tunnel_status(error),
            ),
            Self::Connect(ConnectError::Timeout(_)) => row(
                S::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The upstream took too long",
                "connection_timeout",
            ),
            Self::Send(SendError {
                cause: Broken::Answer(_),
                ..
            }) => row(
                S::BAD_GATEWAY,
                "upstream-unreachable",
                "The upstream's answer is not usable",
                "http_protocol_error",
            ),
            Self::Send(_) | Self::Stream(_) => row(
                S::BAD_GATEWAY,
                "upstream-unreachable",
                "The upstream cannot be reached",
                "connection_terminated",
            ),
            Self::UpstreamTimeout(_) | Self::Deadline(_) => row(
                S::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The upstream took too long",
                "http_response_timeout",
            ),
        }
    }

    /// What to do about it, for whoever sees the answer.
    #[must_use]
    pub fn advice(&self) -> Cow<'static, str> {
        match self {
            Self::NoRoute => {
                "`pillion explain METHOD URL` tells for each route why it does not take it".into()
            }
            Self::BadFraming(_) => {
                "send one Host, and a body with either Content-Length or Transfer-Encoding".into()
            }
            Self::HeadTooLarge => {
                "send fewer fields, or shorter ones; what is long belongs in a body".into()
            }
            Self::BadTarget(_) => {
                "send the path plainly: no dot segments, no encoded slash, valid UTF-8".into()
            }
            Self::BadMethod => "send what the upstream's API takes: TRACE is not for it".into(),
            Self::TunnelWanted => {
                "call pillion by its own address, or set it as the proxy of `http://` only".into()
            }
            Self::HandOutMethod => "ask with GET, or with POST where the inputs are in a body".into(),
            Self::BadBody(_) | Self::BadInput { .. } => {
                "`pillion explain METHOD URL` tells where the route takes its inputs from".into()
            }
            Self::HeaderConflict(_) => {
                "leave it out, or allow it with `on_conflict` of the route".into()
            }
            Self::ForbiddenCaller(_) => {
                "call as the app does, from this machine and by a name of the listener; a browser's page may not".into()
            }
            Self::RequestBody(_) => "send the body to its end, and no longer than it may be".into(),
            Self::RequestIdle => {
                "send the body without a long pause, or raise `body_idle` under [limits]".into()
            }
            Self::Token(TokenError::Fetch(error) | TokenError::BackingOff { cause: error, .. }) => {
                error.advice().into()
            }
            Self::Token(TokenError::Waited(_)) => {
                "try again; if it stays so, /status on the admin port tells what the provider does".into()
            }
            Self::Token(TokenError::TooManyWaiters) => {
                "try again in a moment, with fewer requests at once; the bound is `waiters` under [limits]".into()
            }
            Self::Connect(error) => unconnected(error).into(),
            Self::Send(SendError {
                cause: Broken::Answer(_),
                ..
            }) => "ask who runs the upstream: its answer can be read in two ways, or not at all".into(),
            Self::Send(_) | Self::Stream(_) => {
                "it may have been carried out: look before sending it again, if it changes anything".into()
            }
            Self::Deadline(_) => {
                "it may have been carried out; the caller's `grpc-timeout` is how long it waits".into()
            }
            Self::UpstreamTimeout(_) => {
                "it may have been carried out; if the upstream is only slow, raise `timeouts = { response = .. }` of the route".into()
            }
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.problem().status
    }

    /// The problem type of the answer (RFC 9457 §3.1.1).
    #[must_use]
    pub fn problem_type(&self) -> String {
        self.problem().problem_type()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(TokenError::BackingOff { retry_after, .. }) => Some(*retry_after),
            Self::Token(TokenError::Fetch(error)) => match error {
                FetchError::Throttled { .. }
                | FetchError::Unreachable { .. }
                | FetchError::Unavailable { .. } => {
                    Some(error.retry_after().unwrap_or(Duration::from_secs(1)))
                }
                FetchError::Refused { .. }
                | FetchError::Secret(_)
                | FetchError::Malformed { .. }
                | FetchError::Timeout { .. } => None,
            },
            Self::Token(TokenError::TooManyWaiters) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    // After these nobody knows where the next request begins.
    const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::BadFraming(_)
                | Self::RequestBody(_)
                | Self::RequestIdle
                | Self::BadMethod
                | Self::TunnelWanted
        )
    }

    /// The last part of the problem type.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        self.problem().slug
    }

    /// The answer: a problem document, and for machines the same in fields.
    #[must_use]
    pub fn to_response(&self, id: &RequestId) -> Response<AnswerBody> {
        let problem = self.problem();
        let detail = format!("{self}; {}", self.advice());
        let document = document(&problem, &detail, id);
        let mut response = Response::new(AnswerBody::full(document));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = format!("pillion; error={}", problem.proxy_status);
        if let Ok(value) = HeaderValue::from_str(&status) {
            headers.insert(HeaderName::from_static("proxy-status"), value);
        }
        if let Some(wait) = self.retry_after() {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if matches!(self, Self::HandOutMethod) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn unconnected(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Unreachable(_) | ConnectError::Tls(_) => advice::unreachable(&error.report()),
        ConnectError::Tunnel(_) => {
            "check `egress_proxy`: its address, its user, and what it lets through"
        }
        ConnectError::Timeout(_) => {
            "check the firewall and `egress_proxy`; if it is only slow, raise `timeouts = { connect = .. }` of the route"
        }
        ConnectError::Plaintext => {
            "write https in `upstream`, or `allow_plaintext = true` where the network may see the token"
        }
    }
}

const fn tunnel_status(error: &TunnelError) -> &'static str {
    match error {
        TunnelError::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        | TunnelError::Credentials(_) => "proxy_configuration_error",
        TunnelError::Unreachable(_) | TunnelError::Refused(_) => "destination_unavailable",
        TunnelError::NoAnswer(_) | TunnelError::EarlyBytes => "http_protocol_error",
    }
}

/// The bytes that a connection over the limit is told, whatever it asks.
#[must_use]
pub fn overload_bytes() -> Vec<u8> {
    bytes(
        &OVERLOADED,
        "too many connections are open; close some, or raise `connections` under [limits]",
        "retry-after: 1\r\n",
    )
}

/// The bytes that a connection is told whose head was refused before it was a request: by 400, 408, 414 or 431.
#[must_use]
pub fn refusal_bytes(status: StatusCode) -> Vec<u8> {
    let (problem, detail) = match status {
        StatusCode::REQUEST_TIMEOUT => (
            LATE,
            "the head of the request did not come to its end; send it at once, or raise `header_timeout` under [limits]",
        ),
        StatusCode::URI_TOO_LONG => (
            unreadable(status),
            "the target is too long; send what is in its query in a body",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            unreadable(status),
            "the head has too many fields, or is longer than `head_size` under [limits]; send fewer, or raise that",
        ),
        _ => (
            unreadable(StatusCode::BAD_REQUEST),
            "this is not the head of a request; send one as RFC 9112 has it, and without TLS",
        ),
    };
    bytes(&problem, detail, "")
}

/// An answer that ends its connection, as it goes over the wire; `fields` are further lines of its head.
fn bytes(problem: &Problem, detail: &str, fields: &str) -> Vec<u8> {
    let document = document(problem, detail, &RequestId::default());
    let reason = problem.status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         proxy-status: pillion; error={}\r\n{fields}connection: close\r\n\r\n{document}",
        problem.status.as_u16(),
        document.len(),
        problem.proxy_status,
    )
    .into_bytes()
}

fn document(problem: &Problem, detail: &str, id: &RequestId) -> String {
    serde_json::json!({
        "type": problem.problem_type(),
        "title": problem.title,
        "status": problem.status.as_u16(),
        "detail": detail,
        "request_id": id.as_str(),
        "help": format!("docs/problems.md#{}", problem.slug),
    })
    .to_string()
}

const UNAVAILABLE: Problem = row(
    StatusCode::SERVICE_UNAVAILABLE,
    "token-unavailable",
    "There is no token to be had right now",
    "destination_unavailable",
);
const LATE: Problem = row(
    StatusCode::REQUEST_TIMEOUT,
    "request-timeout",
    "The request took too long",
    "http_request_error",
);
const OVERLOADED: Problem = row(
    StatusCode::SERVICE_UNAVAILABLE,
    "overloaded",
    "pillion has too much to do",
    "connection_limit_reached",
);
const PROBLEM_JSON: &str = "application/problem+json";
