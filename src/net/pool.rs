//! Connections to upstreams, kept for the next request: one set a worker, so nothing here is shared or locked.
//!
//! A connection is polled by the task of the request that uses it: no second task, no wake-up between two. Most
//! recently used first, so that the rest can grow old and be closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::{ConnectError, Endpoint, Transport};
pub use super::http1::{BadAnswer, Broken, RequestHead};
use super::http1::{Buffers, Line};
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
    idle: RefCell<BTreeMap<u64, Vec<Box<Connection<B>>>>>,
    buffers: Rc<Buffers>,
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self {
            settings: Cell::new(settings),
            idle: RefCell::default(),
            buffers: Rc::default(),
        }
    }

    /// Follows `settings` from now on.
    pub fn configure(&self, settings: PoolSettings) {
        self.settings.set(settings);
    }

    /// The most recently used idle connection to `endpoint` that still is good.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint, now: Moment) -> Option<Box<Connection<B>>> {
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
    ) -> Result<Box<Connection<B>>, ConnectError> {
        let transport = endpoint.connect().await?;
        Ok(self.adopt(endpoint, transport))
    }

    /// The connection that `transport` to `endpoint` is from now on.
    #[must_use]
    pub fn adopt(self: &Rc<Self>, endpoint: &Endpoint, transport: Transport) -> Box<Connection<B>> {
        let now = Moment::now();
        let settings = self.settings.get();
        Box::new(Connection {
            endpoint: endpoint.fingerprint(),
            line: Line::new(transport, Rc::clone(&self.buffers)),
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
            idle.retain(|connection| connection.is_good(now));
            !idle.is_empty()
        });
    }

    /// Idle connections to all endpoints.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Takes a map that is no longer wanted: the next answer's fields go into it.
    pub fn reuse(&self, headers: HeaderMap) {
        self.buffers.reuse(headers);
    }

    fn put(&self, mut connection: Box<Connection<B>>) {
        connection.idle_since = Moment::now();
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(connection.endpoint).or_default();
        if idle.len() >= self.settings.get().max_idle {
            idle.remove(0);
        }
        idle.push(connection);
    }
}

/// A connection in the hands of one request, or idle. Always in a box, because it is large and changes hands often.
pub struct Connection<B: Body + 'static> {
    endpoint: u64,
    line: Line<B>,
    is_reused: bool,
    idle_since: Moment,
    use_until: Moment,
    idle_timeout: Duration,
    alarm: Alarm,
    pool: Rc<Pool<B>>,
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// Sends a request and waits for the head of its answer until `deadline`, which may move on meanwhile. `tell` is told
    /// of interim answers (RFC 9110 §15.2), 100 among them.
    ///
    /// # Errors
    ///
    /// When there is no head in time, or the connection breaks before: with what is known about what was sent.
    pub fn send<D, T>(
        mut self: Box<Self>,
        head: &RequestHead<'_>,
        body: B,
        deadline: D,
        mut tell: T,
    ) -> impl Future<Output = Result<Response<UpstreamBody<B>>, NoAnswer>> + use<B, D, T>
    where
        D: Fn() -> Instant,
        T: FnMut(StatusCode, &HeaderMap),
    {
        // Written down at once, so that whoever waits need not carry the head along.
        self.line.begin(head, body);
        async move {
            let (status, headers) = poll_fn(|cx| match self.line.poll_head(cx, &mut tell) {
                Poll::Ready(head) => Poll::Ready(head.map_err(|cause| self.failed(cause))),
                Poll::Pending => self
                    .alarm
                    .poll(cx, deadline())
                    .map(|()| Err(NoAnswer::Late)),
            })
            .await?;
            let mut response = Response::new(UpstreamBody::new(self));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok(response)
        }
    }

    fn failed(&self, cause: Broken) -> NoAnswer {
        NoAnswer::Broken(SendError {
            is_reused: self.is_reused,
            is_written: self.line.is_written(),
            cause,
        })
    }

    fn is_good(&self, now: Moment) -> bool {
        now < self.use_until && now < self.idle_since + self.idle_timeout && self.line.is_quiet()
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
    /// Why.
    #[source]
    pub cause: Broken,
}

/// The body of an answer. Keeps its connection going, and gives it back when it ends.
#[derive(Debug)]
pub struct UpstreamBody<B: Body + 'static> {
    /// Until the body has been given to its end, or has broken off.
    connection: Option<Box<Connection<B>>>,
    /// How long the rest is, if the head has told.
    length: Option<u64>,
    is_broken: bool,
}

impl<B> UpstreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    fn new(connection: Box<Connection<B>>) -> Self {
        let mut body = Self {
            length: connection.line.length(),
            connection: Some(connection),
            is_broken: false,
        };
        body.give_back();
        body
    }

    /// Lets the rest of the request body flow in a task of its own, unless it stands still for `idle`.
    ///
    /// For an answer that began before the request had ended: the caller may not read the one before it has sent the other.
    pub fn detach(&mut self, idle: Duration) {
        if let Some(connection) = &mut self.connection {
            connection.line.detach(idle);
        }
    }

    /// The whole body, if it has come with its head: there is nothing to wait for, and the connection is free.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.connection.as_mut()?.line.take_whole()?;
        self.length = Some(0);
        self.give_back();
        Some(whole)
    }

    /// The connection itself, and what has been received behind the head: if the request has asked for another protocol
    /// and the answer is 101 (RFC 9110 §7.8).
    #[must_use]
    pub fn into_tunnel(self) -> Option<(Transport, Bytes)> {
        self.connection?.line.into_tunnel()
    }

    /// Once the answer is over: to the pool, or to nobody. What the other side may say meanwhile is looked at when the
    /// connection is taken again.
    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take_if(|it| it.line.is_reusable()) {
            let pool = Rc::clone(&connection.pool);
            pool.put(connection);
        }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(connection) = &mut this.connection else {
            return Poll::Ready(None);
        };
        let frame = ready!(connection.line.poll_frame(cx));
        if this.length.is_some() {
            this.length = connection.line.length();
        }
        if let Some(Err(_)) = &frame {
            this.connection = None;
            this.is_broken = true;
        } else {
            this.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.is_broken
            && self
                .connection
                .as_ref()
                .is_none_or(|connection| connection.line.is_over())
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
