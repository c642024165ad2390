//! A connection of HTTP/2 from the app, and the streams on it. hyper's server would do, but it writes no interim answers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::content::Content;

/// A connection. Nothing moves on its streams unless it is polled.
pub struct Streams<T> {
    connection: Connection<T, Bytes>,
    /// None once the app has not answered it.
    pulse: Option<Pulse>,
    heard_at: Rc<Cell<Instant>>,
}

/// A request, and what its answer goes to.
pub type Accepted = (Request<Content>, AppStream);

impl<T> Streams<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Greets an app that begins with HTTP/2.
    ///
    /// # Errors
    ///
    /// When the connection fails, or the app does not begin so.
    pub async fn begin(transport: T) -> Result<Self, h2::Error> {
        let mut connection = Builder::new()
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_LIST_BYTES)
            .initial_window_size(STREAM_WINDOW_BYTES)
            // Of all streams together: an upstream that reads slowly holds up its own only.
            .initial_connection_window_size(STREAMS * STREAM_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            // A caller may change its mind about streams, and make mistakes in some, but not for a living.
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(STREAM_ERRORS))
            .handshake(transport)
            .await?;
        let heard_at = Rc::new(Cell::new(Instant::now()));
        let ping_pong = connection.ping_pong();
        Ok(Self {
            connection,
            pulse: ping_pong.map(|ping_pong| Pulse::new(ping_pong, Rc::clone(&heard_at))),
            heard_at,
        })
    }

    /// The next request; none once the connection has ended.
    ///
    /// # Errors
    ///
    /// When the connection breaks off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, h2::Error>>> {
        if let Some(pulse) = &mut self.pulse
            && pulse.poll(cx).is_ready()
        {
            tracing::debug!("the app did not answer a ping within {PING_TIMEOUT:?}");
            self.pulse = None;
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        let Some(accepted) = ready!(pin!(self.connection.accept()).poll(cx)) else {
            return Poll::Ready(None);
        };
        let (request, respond) = accepted?;
        self.heard_at.set(Instant::now());
        let (head, content) = request.into_parts();
        let declared = head.headers.get(CONTENT_LENGTH);
        let content = Content::new(content, declared, Rc::clone(&self.heard_at));
        let request = Request::from_parts(head, content);
        Poll::Ready(Some(Ok((request, AppStream { respond }))))
    }

    /// Asks the app to go. What is under way finishes, and then the connection ends (RFC 9113 §6.8).
    pub fn leave(&mut self) {
        self.connection.graceful_shutdown();
    }
}

/// Where the answer to one request goes. Dropped, it resets the stream.
pub struct AppStream {
    respond: SendResponse<Bytes>,
}

impl fmt::Debug for AppStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppStream").finish_non_exhaustive()
    }
}

impl AppStream {
    /// Waits for the answer, and sends the `interim` ones that come before it.
    ///
    /// # Errors
    ///
    /// When the app resets the stream: it wants no answer any more.
    pub async fn wait<A>(
        &mut self,
        mut answering: Pin<&mut impl Future<Output = A>>,
        interim: &Interim,
    ) -> Result<A, h2::Error> {
        poll_fn(|cx| {
            let answer = answering.as_mut().poll(cx);
            if let Poll::Ready(reason) = self.respond.poll_reset(cx)? {
                return Poll::Ready(Err(reason.into()));
            }
            for interim in interim.take() {
                self.respond.send_informational(interim).ok();
            }
            answer.map(Ok)
        })
        .await
    }

    /// Sends the answer, each piece of it once there is room.
    ///
    /// # Errors
    ///
    /// When the app resets the stream, or the answer breaks off: then the stream is reset.
    pub async fn send<B>(mut self, answer: Response<B>) -> Result<(), h2::Error>
    where
        B: Body<Data: Into<Bytes>> + Unpin,
    {
        let (mut head, body) = answer.into_parts();
        let is_whole = body.is_end_stream();
        if !head.headers.contains_key(DATE) {
            // Whoever passes on an answer without a date says when it came (RFC 9110 §6.6.1).
            let now = httpdate::fmt_http_date(SystemTime::now());
            head.headers.extend(now.parse().ok().map(|now| (DATE, now)));
        }
        if !is_whole && let Some(length) = body.size_hint().exact() {
            let declared = head.headers.entry(CONTENT_LENGTH);
            declared.or_insert_with(|| length.into());
        }
        let head = Response::from_parts(head, ());
        let stream = self
            .respond
            .send_response(head, is_whole)
            .inspect_err(|_| self.respond.send_reset(Reason::INTERNAL_ERROR))?;
        if is_whole {
            return Ok(());
        }
        send_body(stream, body).await
    }
}

async fn send_body<B>(mut stream: SendStream<Bytes>, mut body: B) -> Result<(), h2::Error>
where
    B: Body<Data: Into<Bytes>> + Unpin,
{
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx)? {
            Poll::Ready(reason) => Poll::Ready(Err(h2::Error::from(reason))),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Ok),
        });
        let Some(frame) = frame.await? else {
            return stream.send_data(Bytes::new(), true);
        };
        let Ok(frame) = frame else {
            // Never an end that makes it seem whole.
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Err(Reason::INTERNAL_ERROR.into());
        };
        match frame.into_data() {
            Ok(piece) => {
                let piece: Bytes = piece.into();
                let is_last = body.is_end_stream();
                if !piece.is_empty() {
                    await_room(&mut stream).await?;
                }
                stream.send_data(piece, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                return stream.send_trailers(frame.into_trailers().unwrap_or_default());
            }
        }
    }
}

/// Asks for room only with a piece in hand: what one stream has been given of the connection's window, another lacks.
async fn await_room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        let more = poll_fn(|cx| stream.poll_capacity(cx)).await;
        // None: it is closed.
        more.unwrap_or_else(|| Err(Reason::STREAM_CLOSED.into()))?;
    }
    Ok(())
}

/// Interim answers (RFC 9110 §15.2) to one request, until its stream sends them.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: RefCell<Vec<Response<()>>>,
    said_bytes: Cell<usize>,
}

impl Interim {
    /// Has one sent, unless it is more than 64 KiB together with those before it: nobody knows how fast the app reads.
    pub fn push(&self, answer: Response<()>) {
        let said_bytes = self.said_bytes.get() + list_bytes(answer.headers());
        if said_bytes <= INTERIM_BYTES {
            self.said_bytes.set(said_bytes);
            self.waiting.borrow_mut().push(answer);
        }
    }

    fn take(&self) -> Vec<Response<()>> {
        self.waiting.take()
    }
}

/// How large a head is for HTTP/2, with its status (RFC 9113 §6.5.2).
fn list_bytes(headers: &HeaderMap) -> usize {
    let status = ":status".len() + 3 + PER_FIELD_BYTES;
    let fields = headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD_BYTES);
    status + fields.sum::<usize>()
}

/// Asks the app whether it is there, when nothing has come for a while.
struct Pulse {
    ping_pong: PingPong,
    heard_at: Rc<Cell<Instant>>,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Pulse {
    fn new(ping_pong: PingPong, heard_at: Rc<Cell<Instant>>) -> Self {
        Self {
            ping_pong,
            heard_at,
            timer: Box::pin(sleep(PING_INTERVAL)),
            is_waiting: false,
        }
    }

    /// Ready when it has not answered.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting && self.ping_pong.poll_pong(cx).is_ready() {
                self.is_waiting = false;
                self.heard_at.set(Instant::now());
                self.timer.as_mut().reset(Instant::now() + PING_INTERVAL);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.is_waiting {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let mut due = self.heard_at.get() + PING_INTERVAL;
            if now >= due {
                // An error is the connection's own, which is told of elsewhere.
                self.is_waiting = self.ping_pong.send_ping(Ping::opaque()).is_ok();
                due = now + PING_TIMEOUT;
            }
            self.timer.as_mut().reset(due);
        }
    }
}

impl<T> fmt::Debug for Streams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("heard_at", &self.heard_at)
            .finish_non_exhaustive()
    }
}

/// Streams that one connection may have open, as most servers allow (RFC 9113 §6.5.2).
const STREAMS: u32 = 100;
/// What is read of a head, with 32 bytes more for each field: twice what is allowed, so that most who send too much read
/// why. A larger one is told a bare 431.
const HEADER_LIST_BYTES: u32 = 32 * 1024;
const PER_FIELD_BYTES: usize = 32;
/// What of a request's body may be under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// What of an answer may wait for its caller on one stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What is passed on of the interim answers to one request.
const INTERIM_BYTES: usize = 64 * 1024;
/// Streams that were reset before they were looked at; one more closes the connection (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that had to be reset for their caller's mistakes; one more closes the connection (CVE-2025-8671).
const STREAM_ERRORS: usize = 100;
/// How long nothing comes before the app is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use h2::client::SendRequest;
    use tokio::io::DuplexStream;
    use tokio::time::timeout;

    use super::*;

    type App = (SendRequest<Bytes>, h2::client::Connection<DuplexStream>);

    async fn connection() -> (Streams<DuplexStream>, App) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (streams, app) = tokio::join!(Streams::begin(near), h2::client::handshake(far));
        (streams.unwrap(), app.unwrap())
    }

    /// After how many seconds it ends, if it does within a thousand.
    async fn ends_after(mut streams: Streams<DuplexStream>) -> Option<u64> {
        let began = Instant::now();
        let next = poll_fn(|cx| streams.poll_next(cx));
        let next = timeout(Duration::from_secs(1000), next).await.ok()?;
        assert!(next.is_none(), "{next:?}");
        Some(began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_is_gone_is_noticed_and_one_that_is_silent_is_kept() {
        let (streams, _gone) = connection().await;
        assert_eq!(ends_after(streams).await, Some(80));
        let (streams, (_silent, app)) = connection().await;
        let answering = tokio::spawn(app);
        assert_eq!(ends_after(streams).await, None);
        answering.abort();
    }
}
