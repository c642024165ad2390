//! Connections to upstreams, kept for the next request: one set a worker, so nothing here is shared or locked.
//!
//! A connection is polled by the task of the request that uses it: no second task, no wake-up between two. Most
//! recently used first, so that the rest can grow old and be closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::{ConnectError, Endpoint, Transport};
use crate::clock::Moment;

/// How long and how many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolSettings {
    /// An idle connection is closed after this time; less than what upstreams use, so that we close first.
    pub idle_timeout: Duration,
    /// No connection is used again after this time, less a random fifth: that is how a changed address is noticed.
    pub max_age: Duration,
    /// Idle connections kept for one endpoint.
    pub max_idle: usize,
}

/// The idle connections of one worker. `B` is the body of requests.
#[derive(Debug)]
pub struct Pool<B: Body + 'static> {
    settings: Cell<PoolSettings>,
    /// By endpoint: so few that a search costs less than a hash.
    idle: RefCell<BTreeMap<u64, Vec<Connection<B>>>>,
}

impl<B> Pool<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self {
            settings: Cell::new(settings),
            idle: RefCell::default(),
        }
    }

    /// Follows `settings` from now on.
    pub fn configure(&self, settings: PoolSettings) {
        self.settings.set(settings);
    }

    /// The most recently used idle connection to `endpoint` that still is good.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint) -> Option<Connection<B>> {
        let now = Moment::now();
        loop {
            let mut connection = self
                .idle
                .borrow_mut()
                .get_mut(&endpoint.fingerprint())?
                .pop()?;
            if connection.is_good(now) {
                connection.is_reused = true;
                return Some(connection);
            }
        }
    }

    /// A new connection to `endpoint`.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub async fn connect(
        self: &Rc<Self>,
        endpoint: &Endpoint,
    ) -> Result<Connection<B>, ConnectError> {
        let transport = endpoint.connect().await?;
        self.adopt(endpoint, transport).await
    }

    /// The connection that `transport` to `endpoint` is from now on.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub async fn adopt(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        transport: Transport,
    ) -> Result<Connection<B>, ConnectError> {
        let written = Rc::new(Cell::new(false));
        let io = Watched {
            transport,
            written: Rc::clone(&written),
            write_failed: false,
        };
        // Cannot fail for HTTP/1: nothing is sent before the first request.
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(|_| ConnectError::Timeout(Duration::ZERO))?;
        let now = Moment::now();
        let settings = self.settings.get();
        Ok(Connection {
            endpoint: endpoint.fingerprint(),
            sender,
            connection: Box::new(connection),
            written,
            is_reused: false,
            idle_since: now,
            use_until: now + settings.max_age.mul_f64(1.0 - 0.2 * fastrand::f64()),
            idle_timeout: settings.idle_timeout,
            alarm: Alarm::default(),
            pool: Rc::clone(self),
        })
    }

    /// Closes what has been idle for too long, is too old, or has been closed by the other side.
    pub fn sweep(&self) {
        let now = Moment::now();
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|connection| connection.is_good(now));
            !idle.is_empty()
        });
    }

    /// Idle connections to all endpoints.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    fn put(&self, mut connection: Connection<B>) {
        connection.idle_since = Moment::now();
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(connection.endpoint).or_default();
        if idle.len() >= self.settings.get().max_idle {
            idle.remove(0);
        }
        idle.push(connection);
    }
}

/// A connection in the hands of one request, or idle.
pub struct Connection<B: Body + 'static> {
    endpoint: u64,
    sender: SendRequest<B>,
    /// In a box, because it is large and changes hands often.
    connection: Box<http1::Connection<Watched, B>>,
    /// Whether a byte of the present request has been written.
    written: Rc<Cell<bool>>,
    is_reused: bool,
    idle_since: Moment,
    use_until: Moment,
    idle_timeout: Duration,
    alarm: Alarm,
    pool: Rc<Pool<B>>,
}

impl<B> Connection<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request and waits for the head of its answer until `deadline`, which may move on meanwhile. `observe` is
    /// called after each step of the connection.
    ///
    /// # Errors
    ///
    /// When there is no head in time, or the connection breaks before: with what is known about what was sent.
    pub async fn send(
        mut self,
        request: Request<B>,
        deadline: impl Fn() -> Instant,
        mut observe: impl FnMut(),
    ) -> Result<Response<UpstreamBody<B>>, NoAnswer> {
        self.written.set(false);
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        let response = poll_fn(|cx| {
            // The connection first: it takes the request, and it is what makes the answer ready.
            let closed = Pin::new(&mut self.connection).poll(cx).is_ready();
            observe();
            match answer.as_mut().poll(cx) {
                Poll::Pending if closed => Poll::Ready(Ok(None)),
                Poll::Pending => self
                    .alarm
                    .poll(cx, deadline())
                    .map(|()| Err(NoAnswer::Late)),
                Poll::Ready(answer) => Poll::Ready(Ok(Some(answer))),
            }
        })
        .await?;
        match response {
            Some(Ok(response)) => Ok(response.map(|incoming| UpstreamBody::new(incoming, self))),
            Some(Err(cause)) => Err(self.failed(Some(cause))),
            None => Err(self.failed(None)),
        }
    }

    fn failed(&self, cause: Option<hyper::Error>) -> NoAnswer {
        NoAnswer::Broken(SendError {
            is_reused: self.is_reused,
            is_written: self.written.get(),
            cause,
        })
    }

    fn is_good(&mut self, now: Moment) -> bool {
        if now >= self.use_until || now >= self.idle_since + self.idle_timeout {
            return false;
        }
        // Reads what the other side may have said meanwhile: an end, or bytes that nobody asked for. Neither is good.
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.connection).poll(&mut cx).is_pending() && self.sender.is_ready()
    }
}

impl<B: Body + 'static> std::fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", &self.endpoint)
            .field("is_reused", &self.is_reused)
            .finish_non_exhaustive()
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// There was none in time.
    Late,
    /// The connection broke before.
    Broken(SendError),
}

/// A connection that broke before there was an answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream closed the connection before it answered")]
pub struct SendError {
    /// The connection had served a request before.
    pub is_reused: bool,
    /// At least one byte of the request has been handed to the connection.
    pub is_written: bool,
    /// What hyper says.
    #[source]
    pub cause: Option<hyper::Error>,
}

/// The body of an answer. Keeps its connection going, and gives it back when it ends.
#[derive(Debug)]
pub struct UpstreamBody<B: Body + 'static> {
    incoming: Incoming,
    connection: Option<Connection<B>>,
}

impl<B> UpstreamBody<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn new(incoming: Incoming, connection: Connection<B>) -> Self {
        let mut body = Self {
            incoming,
            connection: Some(connection),
        };
        if body.incoming.is_end_stream() {
            body.give_back(&mut Context::from_waker(Waker::noop()));
        }
        body
    }

    /// Lets the rest of the request body flow in a task of its own.
    ///
    /// For an answer that began before the request had ended: the caller may not read the one before it has sent the other.
    pub fn detach(&mut self) {
        if let Some(connection) = self.connection.take() {
            tokio::task::spawn_local(connection.connection);
        }
    }

    // The turn in which the connection notices that the message has ended is left to whoever takes it next, or to the sweep:
    // it reads, too, and that would take another buffer while this one is still in the answer's last piece.
    fn put_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            let pool = Rc::clone(&connection.pool);
            pool.put(connection);
        }
    }

    fn give_back(&mut self, cx: &mut Context<'_>) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // One more turn, so that the connection notices that the message has ended.
        let open = Pin::new(&mut connection.connection).poll(cx).is_pending();
        if open && connection.sender.is_ready() {
            let pool = Rc::clone(&connection.pool);
            pool.put(connection);
        }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending() {
            if let Some(connection) = &mut this.connection
                && Pin::new(&mut connection.connection).poll(cx).is_ready()
            {
                this.connection = None;
            }
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        let frame = ready!(frame);
        match &frame {
            Some(Ok(_)) if this.incoming.is_end_stream() => this.put_back(),
            Some(Ok(_)) => {}
            None => this.give_back(cx),
            Some(Err(_)) => this.connection = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A transport that remembers whether anything of the present request has been handed to it.
///
/// And that lets an answer be read when the request cannot be written to its end: an upstream that refuses an upload in
/// the middle answers and closes, and hyper would take the failed write for the end of everything.
#[derive(Debug)]
struct Watched {
    transport: Transport,
    written: Rc<Cell<bool>>,
    write_failed: bool,
}

impl Watched {
    // A failed write never ends: what the other side has said before it closed is read, and then its end, or its error.
    fn wrote<T>(&mut self, cx: &Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = &result else {
            return result;
        };
        let is_closed = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        if !is_closed {
            return result;
        }
        if !std::mem::replace(&mut self.write_failed, true) {
            // hyper reads before it writes: once more now.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl Write for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.transport).poll_write(cx, buf);
        let written = ready!(this.wrote(cx, written))?;
        this.written.set(true);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.transport).poll_flush(cx);
        this.wrote(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        let written = ready!(this.wrote(cx, written))?;
        this.written.set(true);
        Poll::Ready(Ok(written))
    }
}

/// The largest head that an upstream may answer with.
const MAX_HEAD_BYTES: usize = 64 * 1024;
