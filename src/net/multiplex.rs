//! Connections of HTTP/2 to upstreams: few, and shared by the requests of a worker, which are streams on them.
//!
//! A connection is a task of its own. It lives for as long as there are streams on it, or the next one may want it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::connect::{ConnectError, Endpoint, HttpVersion, Transport};
use super::pool::PoolSettings;
use super::stream::Stream;
use crate::clock::Moment;

/// The connections of one worker.
#[derive(Debug)]
pub struct Multiplex {
    settings: Cell<PoolSettings>,
    /// By endpoint, of those that are known to speak HTTP/2.
    upstreams: RefCell<BTreeMap<u64, Lines>>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Lines {
    /// The oldest first: it is filled before the next, so that the last can grow old and be closed.
    open: Vec<Rc<Line>>,
    /// One that is being opened, for all who wait for it.
    opening: Option<Opening>,
    wanted_at: Moment,
}

type Opening = Shared<LocalBoxFuture<'static, Result<Opened, ConnectError>>>;

/// What came of opening a connection that was to be one of HTTP/2.
#[derive(Clone, Debug)]
enum Opened {
    Line(Rc<Line>),
    /// The other side has changed its mind.
    Otherwise,
}

/// What a new connection is.
#[derive(Debug)]
pub enum Connected {
    /// One of HTTP/2, and a stream on it.
    Http2(Stream),
    /// One of HTTP/1.1, unused.
    Http1(Transport),
}

impl Multiplex {
    /// Without a connection.
    #[must_use]
    pub const fn new(settings: PoolSettings) -> Self {
        Self {
            settings: Cell::new(settings),
            upstreams: RefCell::new(BTreeMap::new()),
        }
    }

    /// Follows `settings` from now on.
    pub fn configure(&self, settings: PoolSettings) {
        self.settings.set(settings);
    }

    /// Whether `endpoint` is known to speak HTTP/2.
    #[must_use]
    pub fn knows(&self, endpoint: &Endpoint) -> bool {
        match endpoint.version() {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::Auto => {
                let upstreams = self.upstreams.borrow();
                upstreams.contains_key(&endpoint.fingerprint())
            }
        }
    }

    /// A stream on a connection to `endpoint` that is open, if one has room.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint) -> Option<Stream> {
        let now = Moment::now();
        let mut upstreams = self.upstreams.borrow_mut();
        let lines = upstreams.get_mut(&endpoint.fingerprint())?;
        lines.wanted_at = now;
        lines.open.iter().find_map(|line| line.stream(now))
    }

    /// A new connection to `endpoint`. Where it is known to speak HTTP/2, all who want one at once share it.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub async fn connect(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Connected, ConnectError> {
        while self.knows(endpoint) {
            match self.opening(endpoint).await? {
                Opened::Line(line) => {
                    if let Some(stream) = line.stream(Moment::now()) {
                        return Ok(Connected::Http2(stream));
                    }
                }
                Opened::Otherwise => break,
            }
        }
        let transport = endpoint.connect().await?;
        if !speaks_http2(endpoint, &transport) {
            self.upstreams.borrow_mut().remove(&endpoint.fingerprint());
            return Ok(Connected::Http1(transport));
        }
        let line = self.begin(endpoint, transport).await?;
        // Two that find out at the same time may find a connection full that was new a moment ago.
        match line.stream(Moment::now()) {
            Some(stream) => Ok(Connected::Http2(stream)),
            None => Box::pin(self.connect(endpoint)).await,
        }
    }

    /// The connection that is being opened; if none is, one is from now on, whoever stops waiting for it.
    fn opening(self: &Rc<Self>, endpoint: &Arc<Endpoint>) -> Opening {
        let mut upstreams = self.upstreams.borrow_mut();
        let lines = lines(&mut upstreams, endpoint);
        if let Some(opening) = lines.opening.as_ref().filter(|it| it.peek().is_none()) {
            return opening.clone();
        }
        let fingerprint = endpoint.fingerprint();
        let (this, endpoint) = (Rc::clone(self), Arc::clone(endpoint));
        let opening = async move {
            let transport = endpoint.connect().await?;
            if !speaks_http2(&endpoint, &transport) {
                return Ok(Opened::Otherwise);
            }
            this.begin(&endpoint, transport).await.map(Opened::Line)
        };
        let opening = opening.boxed_local().shared();
        lines.opening = Some(opening.clone());
        tokio::task::spawn_local(Rc::clone(self).open(fingerprint, opening.clone()));
        opening
    }

    /// Sees to it that a connection is opened, and forgets how: the connection must not outlive its use.
    async fn open(self: Rc<Self>, fingerprint: u64, opening: Opening) {
        opening.await.ok();
        if let Some(lines) = self.upstreams.borrow_mut().get_mut(&fingerprint) {
            lines.opening.take_if(|opening| opening.peek().is_some());
        }
    }

    /// Makes a transport a connection of HTTP/2: once the other side has said how many streams it takes.
    async fn begin(
        &self,
        endpoint: &Endpoint,
        transport: Transport,
    ) -> Result<Rc<Line>, ConnectError> {
        let limit = endpoint.settings().connect_timeout;
        let line = timeout(limit, Line::begin(transport, self.settings.get())).await;
        let line = line.map_err(|_elapsed| ConnectError::Timeout(limit))?;
        let line = Rc::new(line.map_err(|error| ConnectError::Unreachable(Arc::new(error)))?);
        let mut upstreams = self.upstreams.borrow_mut();
        lines(&mut upstreams, endpoint).open.push(Rc::clone(&line));
        Ok(line)
    }

    /// Lets go of what has been idle for too long, is too old, or has been closed by the other side.
    pub fn sweep(&self) {
        let now = Moment::now();
        let memory = self.settings.get().max_age;
        self.upstreams.borrow_mut().retain(|_, lines| {
            lines.open.retain(|line| line.is_wanted(now));
            !lines.open.is_empty() || now < lines.wanted_at + memory
        });
    }
}

fn lines<'a>(upstreams: &'a mut BTreeMap<u64, Lines>, endpoint: &Endpoint) -> &'a mut Lines {
    let lines = upstreams.entry(endpoint.fingerprint());
    lines.or_insert_with(|| Lines {
        open: Vec::new(),
        opening: None,
        wanted_at: Moment::now(),
    })
}

fn speaks_http2(endpoint: &Endpoint, transport: &Transport) -> bool {
    endpoint.version() == HttpVersion::Http2 || transport.agreed_on_http2()
}

/// One connection. Closed once nobody has it and its last stream has ended.
pub(super) struct Line {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    use_until: Moment,
    idle_timeout: Duration,
}

/// What the streams of a connection and its task know of each other.
#[derive(Debug)]
pub(super) struct State {
    streams: Cell<usize>,
    /// No more streams: it is closed, or about to be.
    is_leaving: Cell<bool>,
    /// When a message last moved on any stream.
    heard_at: Rc<Cell<Instant>>,
    idle_since: Cell<Moment>,
    has_served: Cell<bool>,
}

impl Line {
    async fn begin<T>(transport: T, settings: PoolSettings) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            // Of all streams together: a caller that reads slowly holds up its own only.
            .initial_connection_window_size(MOST_STREAMS * STREAM_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            // None before the other side has said how many.
            .initial_max_send_streams(0)
            .handshake(transport)
            .await?;
        poll_fn(|cx| {
            let closed = Pin::new(&mut connection).poll(cx)?.is_ready();
            let is_agreed = sender.current_max_send_streams() > 0;
            match (is_agreed, closed) {
                (true, _) => Poll::Ready(Ok::<_, h2::Error>(())),
                (false, true) => Poll::Ready(Err(Reason::PROTOCOL_ERROR.into())),
                (false, false) => Poll::Pending,
            }
        })
        .await?;
        let now = Moment::now();
        let state = Rc::new(State {
            streams: Cell::new(0),
            is_leaving: Cell::new(false),
            heard_at: Rc::new(Cell::new(Instant::now())),
            idle_since: Cell::new(now),
            has_served: Cell::new(false),
        });
        let mut pulse = connection.ping_pong().map(Pulse::new);
        let task = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let ended = poll_fn(|cx| {
                if let Some(pulse) = &mut pulse {
                    pulse.poll(cx, &task)?;
                }
                Pin::new(&mut connection).poll(cx).map_err(Ended::Closed)
            })
            .await;
            if let Err(error) = ended {
                tracing::debug!(%error, "connection to an upstream broke off");
            }
            task.is_leaving.set(true);
        });
        Ok(Self {
            sender,
            state,
            use_until: now + settings.max_age.mul_f64(1.0 - 0.2 * fastrand::f64()),
            idle_timeout: settings.idle_timeout,
        })
    }

    fn stream(self: &Rc<Self>, now: Moment) -> Option<Stream> {
        let most = self.sender.current_max_send_streams();
        let state = &self.state;
        let has_room = state.streams.get() < most.min(MOST_STREAMS as usize);
        if !has_room || state.is_leaving.get() || now >= self.use_until {
            return None;
        }
        state.streams.set(state.streams.get() + 1);
        Some(Stream::new(Rc::clone(self)))
    }

    fn is_wanted(&self, now: Moment) -> bool {
        let state = &self.state;
        let is_idle = state.streams.get() == 0 && now >= state.idle_since.get() + self.idle_timeout;
        !(state.is_leaving.get() || is_idle || now >= self.use_until)
    }

    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

impl State {
    /// A message has moved.
    pub(super) fn hear(&self) {
        self.heard_at.set(Instant::now());
    }

    pub(super) fn heard_at(&self) -> Rc<Cell<Instant>> {
        Rc::clone(&self.heard_at)
    }

    /// No more streams on this connection.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
    }

    /// Whether a stream on it has been answered before.
    pub(super) fn has_served(&self) -> bool {
        self.has_served.get()
    }

    /// A stream has been answered.
    pub(super) fn serve(&self) {
        self.has_served.set(true);
    }

    /// A stream has ended.
    pub(super) fn end_stream(&self) {
        self.streams.set(self.streams.get() - 1);
        self.idle_since.set(Moment::now());
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Asks the other side whether it is there, while requests wait for it and nothing moves.
struct Pulse {
    ping_pong: PingPong,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Pings since a message last moved.
    pings: u32,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Closed(h2::Error),
    #[error("the upstream did not answer a ping within {PING_TIMEOUT:?}")]
    Dead,
}

impl Pulse {
    fn new(ping_pong: PingPong) -> Self {
        Self {
            ping_pong,
            timer: Box::pin(sleep(PING_AFTER)),
            is_waiting: false,
            pings: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Result<(), Ended> {
        loop {
            if self.is_waiting && self.ping_pong.poll_pong(cx).is_ready() {
                self.is_waiting = false;
                let pause = self.pause();
                self.timer.as_mut().reset(Instant::now() + pause);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if self.is_waiting {
                return Err(Ended::Dead);
            }
            let now = Instant::now();
            let due = state.heard_at.get() + PING_AFTER;
            if state.streams.get() == 0 || now < due {
                self.pings = 0;
                self.timer = Box::pin(sleep_until(due.max(now + PING_AFTER / 2)));
                continue;
            }
            // An error is the connection's own, which is told of elsewhere.
            self.is_waiting = self.ping_pong.send_ping(Ping::opaque()).is_ok();
            self.pings += 1;
            self.timer.as_mut().reset(now + PING_TIMEOUT);
        }
    }

    /// Servers of gRPC close a connection on which they are asked too often: more than twice within five minutes
    /// without a message of theirs.
    const fn pause(&self) -> Duration {
        match self.pings {
            0 | 1 => PING_AFTER,
            2 => Duration::from_secs(60),
            _ => Duration::from_secs(310),
        }
    }
}

/// Streams on one connection, however many the other side would take.
const MOST_STREAMS: u32 = 100;
/// What of an answer may be under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What of a request may wait for its upstream on one stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The largest head that an upstream may answer with.
const HEADER_LIST_BYTES: u32 = 64 * 1024;
/// How long nothing moves before the other side is asked whether it is there, and how long it may take to say so.
const PING_AFTER: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use http_body_util::Empty;
    use tokio::task::LocalSet;

    use super::super::stream::NoAnswer;
    use super::*;

    const SETTINGS: PoolSettings = PoolSettings {
        idle_timeout: Duration::from_secs(15),
        max_age: Duration::from_secs(300),
        max_idle: 1,
    };

    /// A request to a server that answers pings for so long and the request never; how long until it is given up.
    async fn given_up_after(server_lives: Duration) -> Duration {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let mut held = Vec::new();
            let serving = async {
                while let Some(request) = server.accept().await {
                    held.push(request);
                }
            };
            timeout(server_lives, serving).await.ok();
            // It is there, and says nothing any more.
            std::future::pending::<()>().await;
        });
        let line = Rc::new(Line::begin(near, SETTINGS).await.unwrap());
        let stream = line.stream(Moment::now()).unwrap();
        let began = Instant::now();
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new());
        let far_away = || began + Duration::from_secs(100_000);
        let answer = stream.send(request.unwrap(), far_away, |_, _| {}).await;
        assert!(matches!(answer, Err(NoAnswer::Ended(_))), "{answer:?}");
        assert!(line.stream(Moment::now()).is_none());
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_dead_is_noticed_while_a_request_waits() {
        let tasks = LocalSet::new();
        let at_once = tasks.run_until(given_up_after(Duration::ZERO)).await;
        assert_eq!(at_once.as_secs(), 20);
        // One that lives is left alone, and asked ever more rarely.
        let lives = Duration::from_secs(1000);
        let later = tasks.run_until(given_up_after(lives)).await;
        assert!(later > lives, "{later:?}");
        assert!(later < Duration::from_secs(1400), "{later:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_takes_as_many_streams_as_the_other_side_does_and_no_more() {
        let tasks = LocalSet::new();
        let begun = tasks.run_until(async {
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(2);
                let mut server = builder.handshake::<_, Bytes>(far).await.unwrap();
                while let Some(Ok((_, mut respond))) = server.accept().await {
                    respond.send_response(Response::new(()), true).unwrap();
                }
            });
            Rc::new(Line::begin(near, SETTINGS).await.unwrap())
        });
        let line = begun.await;
        let now = Moment::now();
        let first = line.stream(now).unwrap();
        let _second = line.stream(now).unwrap();
        assert!(line.stream(now).is_none());
        drop(first);
        assert!(line.stream(now).is_some());
        // An old one takes none, however much room it has.
        assert!(line.stream(now + SETTINGS.max_age).is_none());
    }
}
