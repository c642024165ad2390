//! The answer on its way back to the app.

use std::any::Any;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Sleep, sleep, timeout};

use super::attach::strip_connection_fields;
use super::peek::Peekable;
use super::piece::Piece;
use super::replay::RequestBody;
use super::upgrade::Upgraded;
use crate::net::body::{BodyError, EitherBody};
use crate::net::inbound::Inbound;

/// An upstream's answer, before it is made the app's.
pub type UpstreamAnswer = Response<Peekable<EitherBody<RequestBody>>>;

/// The one body type of answers.
pub struct AnswerBody {
    /// Dropped before the content, when the answer has been given, or given up.
    observer: Option<Box<dyn Any>>,
    content: Content,
}

enum Content {
    Full(Option<Bytes>),
    /// None, but so long it would be: a 304. hyper writes the length of a body only, and then no body.
    Absent(u64),
    Upstream(Box<Watched>),
    /// None, and none ever: what follows is not HTTP.
    Upgraded(Option<Box<Upgraded>>),
}

/// An upstream's body that may not stand still.
struct Watched {
    body: Peekable<EitherBody<RequestBody>>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    on_trailers: Option<OnTrailers>,
    /// The app that it is no faster than.
    inbound: Option<Inbound>,
}

/// Passes an interim answer (RFC 9110 §15.2) on to the app.
pub type Tell<'a> = &'a dyn Fn(Response<()>);

/// Told of an answer's trailers before the app is.
pub(super) type OnTrailers = Box<dyn FnOnce(&HeaderMap)>;

/// Why an answer breaks off. The app sees a body without an end, never one that seems whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    BrokeOff(#[source] BodyError),
    /// The upstream stood still.
    #[error("the upstream stood still")]
    Idle,
}

/// Makes an upstream's answer the app's: what belongs to the upstream's connection is removed, framing is rebuilt for the
/// app's `version`. One that switches protocols is the end of HTTP.
pub(super) fn forward(
    answer: UpstreamAnswer,
    (method, version): (&Method, Version),
    idle: Duration,
    on_trailers: Option<OnTrailers>,
) -> Response<AnswerBody> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(answer, idle);
    }
    let (mut head, mut body) = answer.into_parts();
    strip_connection_fields(&mut head.headers);
    // hyper writes the length that the body has; only where there is none does the field tell what would have been.
    let is_head = *method == Method::HEAD;
    // In HTTP/2 the field is written where there is no body, too.
    let is_http2 = version == Version::HTTP_2;
    let has_no_body = is_head || head.status == StatusCode::NOT_MODIFIED;
    let declared = has_no_body
        .then(|| declared_length(&head.headers))
        .flatten();
    if head.headers.keys().any(|name| *name == CONTENT_LENGTH) {
        head.headers.remove(CONTENT_LENGTH);
    }
    let absent = declared
        .as_ref()
        .filter(|_| !is_head && !is_http2)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if (is_head || is_http2 || absent.is_some())
        && let Some(length) = declared
    {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    head.extensions.clear();
    let content = match absent {
        Some(length) => Content::Absent(length),
        None if is_http2 && has_no_body => Content::Full(None),
        // Nearly every small answer: nothing is waited for, so nothing is watched.
        None => match body.unseen().and_then(EitherBody::take_whole) {
            Some(whole) => Content::Full(Some(whole)),
            None => Content::Upstream(Box::new(Watched {
                body,
                idle,
                timer: None,
                on_trailers,
                inbound: None,
            })),
        },
    };
    Response::from_parts(head, AnswerBody::of(content))
}

/// The answer to a request for another protocol that the upstream has switched to (RFC 9110 §15.2.2).
fn switch(answer: UpstreamAnswer, idle: Duration) -> Response<AnswerBody> {
    let (mut head, body) = answer.into_parts();
    let protocol = head.headers.remove(UPGRADE);
    strip_connection_fields(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    if let Some(protocol) = protocol {
        head.headers.insert(UPGRADE, protocol);
        let upgrade = HeaderValue::from_static("upgrade");
        head.headers.insert(CONNECTION, upgrade);
    }
    let upgraded = body.into_rest().into_tunnel();
    let upgraded = upgraded.map(|(upstream, early)| {
        Box::new(Upgraded {
            upstream,
            early,
            idle,
        })
    });
    Response::from_parts(head, AnswerBody::of(Content::Upgraded(upgraded)))
}

/// An upstream's interim answer (1xx) as the app's: without what belongs to the upstream's connection.
pub(super) fn interim(status: StatusCode, headers: &HeaderMap) -> Response<()> {
    let mut interim = Response::new(());
    *interim.status_mut() = status;
    *interim.headers_mut() = headers.clone();
    strip_connection_fields(interim.headers_mut());
    interim.headers_mut().remove(CONTENT_LENGTH);
    interim
}

/// The same in HTTP/1.1.
pub(super) fn interim_bytes(interim: &Response<()>) -> Vec<u8> {
    let status = interim.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in interim.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Reads an answer that nobody will see to its end, so that its connection can be used again; if that is soon.
pub(super) async fn drain(answer: UpstreamAnswer) {
    let body = Limited::new(answer.into_body(), DRAINED_BYTES);
    // Whether it came to its end or not: either way it is dropped now.
    timeout(DRAIN_TIME, body.collect()).await.ok();
}

fn declared_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?;
    let plain = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    (plain && values.next().is_none()).then(|| value.clone())
}

impl AnswerBody {
    /// A body held in memory.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(Content::Full((!bytes.is_empty()).then_some(bytes)))
    }

    const fn of(content: Content) -> Self {
        Self {
            observer: None,
            content,
        }
    }

    /// What is to be passed on both ways behind this answer's head, if it is the end of HTTP on its connection.
    pub(super) const fn take_upgraded(&mut self) -> Option<Box<Upgraded>> {
        match &mut self.content {
            Content::Upgraded(upgraded) => upgraded.take(),
            Content::Full(_) | Content::Absent(_) | Content::Upstream(_) => None,
        }
    }

    /// Gives the next piece when the app at the other end of `inbound` has taken those before it: one who reads nothing then
    /// holds one, and not all that fits a buffer.
    pub(super) fn pace(&mut self, inbound: &Inbound) {
        if let Content::Upstream(watched) = &mut self.content {
            watched.inbound = Some(inbound.clone());
        }
    }

    /// Drops `observer` when the answer has been given, or given up.
    pub fn observe(&mut self, observer: Box<dyn Any>) {
        self.observer = Some(observer);
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnswerError>>> {
        match &mut self.get_mut().content {
            Content::Full(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes.into()))))
            }
            Content::Absent(_) | Content::Upgraded(_) => Poll::Ready(None),
            Content::Upstream(watched) => watched.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_none(),
            Content::Absent(_) => false,
            Content::Upstream(watched) => watched.body.is_end_stream(),
            Content::Upgraded(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Absent(length) => SizeHint::with_exact(*length),
            Content::Upgraded(_) => SizeHint::with_exact(0),
            Content::Upstream(watched) => watched.body.size_hint(),
        }
    }
}

impl Watched {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnswerError>>> {
        if let Some(inbound) = &self.inbound {
            ready!(inbound.poll_taken());
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
                && let Some(on_trailers) = self.on_trailers.take()
            {
                on_trailers(trailers);
            }
            let hand = |bytes: Bytes| match &self.inbound {
                Some(inbound) => {
                    inbound.hand(bytes.len());
                    Piece::in_room(bytes)
                }
                None => bytes.into(),
            };
            let frame = frame.map(|frame| frame.map(|frame| frame.map_data(hand)));
            return Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::BrokeOff)));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(AnswerError::Idle)))
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

/// A longer answer costs more to read than a new connection.
const DRAINED_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);
