//! One request on a connection of HTTP/2, and the body of its answer.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};

use super::alarm::Alarm;
use super::content::Content;
use super::multiplex::Line;

/// A place on a connection, for one request.
#[derive(Debug)]
pub struct Stream {
    line: Rc<Line>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// There was none in time.
    Late,
    /// The stream, or its connection, ended before.
    Ended(StreamError),
}

/// A stream that ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended the stream")]
pub struct StreamError {
    /// The connection had answered another request before.
    pub is_reused: bool,
    /// The upstream may have begun with the request. If not, it said so, or has never seen it (RFC 9113 §8.7).
    pub is_processed: bool,
    /// Why.
    #[source]
    pub cause: h2::Error,
}

impl StreamError {
    /// The connection is lost, and the stream with it: nobody has decided anything about the request.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.cause.is_reset()
    }
}

impl Stream {
    pub(super) const fn new(line: Rc<Line>) -> Self {
        Self { line }
    }

    /// Sends a request and waits for the head of its answer until `deadline`, which may move on meanwhile. `tell` is told
    /// of interim answers (RFC 9110 §15.2).
    ///
    /// # Errors
    ///
    /// When there is no head in time, or the stream ends before: with what is known about what was done.
    pub async fn send<B>(
        self,
        request: Request<B>,
        deadline: impl Fn() -> Instant,
        mut tell: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Response<StreamBody<B>>, NoAnswer>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let is_reused = self.line.state().has_served();
        let ended = |is_processed, cause| {
            NoAnswer::Ended(StreamError {
                is_reused,
                is_processed,
                cause,
            })
        };
        let is_head = *request.method() == Method::HEAD;
        let (mut answer, mut upload) = self.begin(request).await.map_err(|cause| {
            self.line.state().leave();
            ended(false, cause)
        })?;
        let mut alarm = Alarm::default();
        let answered = poll_fn(|cx| {
            let _sent = upload.poll(cx);
            while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
                if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                    // HTTP/2 has none (RFC 9113 §8.6), and an app of HTTP/1.1 would take what follows for another protocol.
                    return Poll::Ready(Ok(Err(Reason::PROTOCOL_ERROR.into())));
                }
                tell(interim.status(), interim.headers());
            }
            match Pin::new(&mut answer).poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Ok(answer)),
                Poll::Pending => alarm.poll(cx, deadline()).map(|()| Err(NoAnswer::Late)),
            }
        })
        .await?;
        let state = self.line.state();
        let answer = answered.map_err(|cause| {
            if cause.is_go_away() || cause.is_io() {
                state.leave();
            }
            ended(!is_unprocessed(&cause), cause)
        })?;
        state.hear();
        state.serve();
        let (head, content) = answer.into_parts();
        let body = StreamBody::new(self, &head.headers, content, upload, is_head);
        Ok(Response::from_parts(head, body))
    }

    async fn begin<B>(&self, request: Request<B>) -> Result<(ResponseFuture, Upload<B>), h2::Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let is_empty = body.is_end_stream();
        let mut sender = self.line.sender();
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let (answer, stream) = sender.send_request(Request::from_parts(head, ()), is_empty)?;
        let rest = (!is_empty).then_some((body, stream));
        Ok((answer, Upload { rest, moves: 0 }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.line.state().end_stream();
    }
}

/// Whether the other side says that nothing has been done: it refused the stream, or left before it came to it.
fn is_unprocessed(cause: &h2::Error) -> bool {
    cause.is_remote()
        && (cause.is_go_away()
            || cause.is_reset() && cause.reason() == Some(Reason::REFUSED_STREAM))
}

/// What is still to be sent of a request. Nothing, once its body has ended or nobody wants it.
struct Upload<B> {
    rest: Option<(B, SendStream<Bytes>)>,
    /// How often a piece has moved.
    moves: u64,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Sends what can be sent. Ready when there is nothing more to send.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((body, stream)) = &mut self.rest else {
            return Poll::Ready(());
        };
        ready!(poll_upload(body, stream, &mut self.moves, cx));
        self.rest = None;
        Poll::Ready(())
    }

    /// Sends all of it, as long as something moves within `idle`.
    async fn run(mut self, idle: Duration) {
        let mut timer = Box::pin(sleep(idle));
        poll_fn(|cx| {
            let moved = self.moves;
            if self.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.moves != moved {
                timer.as_mut().reset(Instant::now() + idle);
            }
            timer.as_mut().poll(cx)
        })
        .await;
    }
}

fn poll_upload<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    moves: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<()>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        // A piece is taken from the app only when some of it can go: one slow upstream holds one piece.
        stream.reserve_capacity(1);
        while stream.capacity() == 0 {
            if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(());
            }
        }
        let sent = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => stream.send_data(Bytes::new(), true).map(|()| true),
            Some(Err(_)) => {
                // Never an end that makes it seem whole.
                stream.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let is_last = body.is_end_stream();
                    stream.send_data(piece, is_last).map(|()| is_last)
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    stream.send_trailers(trailers).map(|()| true)
                }
            },
        };
        *moves += 1;
        // An error says that the stream is closed: the answer tells why.
        if sent.unwrap_or(true) {
            return Poll::Ready(());
        }
    }
}

/// The body of an answer. Keeps the request going, too.
pub struct StreamBody<B> {
    content: Content,
    upload: Upload<B>,
    /// Given up with the end of both.
    stream: Option<Rc<Stream>>,
    is_over: bool,
}

impl<B> StreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    fn new(
        stream: Stream,
        head: &HeaderMap,
        content: RecvStream,
        upload: Upload<B>,
        is_head: bool,
    ) -> Self {
        let declared = head.get(CONTENT_LENGTH).filter(|_| !is_head);
        let heard_at = stream.line.state().heard_at();
        Self {
            content: Content::new(content, declared, heard_at),
            upload,
            stream: Some(Rc::new(stream)),
            is_over: false,
        }
    }

    /// Lets the rest of the request body flow in a task of its own.
    ///
    /// For an answer that began before the request had ended: the caller may not read the one before it has sent the other.
    /// An upstream that takes nothing for `idle` is given up.
    pub fn detach(&mut self, idle: Duration) {
        let upload = Upload {
            rest: self.upload.rest.take(),
            moves: 0,
        };
        let stream = self.stream.clone();
        if upload.rest.is_some() {
            tokio::task::spawn_local(async move {
                upload.run(idle).await;
                drop(stream);
            });
        }
    }
}

impl<B> Body for StreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let _sent = this.upload.poll(cx);
        let frame = ready!(Pin::new(&mut this.content).poll_frame(cx));
        let is_piece = matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if !is_piece {
            this.is_over = true;
            this.stream = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_over {
            return SizeHint::with_exact(0);
        }
        self.content.size_hint()
    }
}

impl<B> std::fmt::Debug for StreamBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody")
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}
