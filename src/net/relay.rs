//! Bytes both ways, between an app and an upstream that no longer speak HTTP with each other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use bytes::{Buf as _, Bytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::Transport;
use super::inbound::Scratch;
use super::socket::Socket;

/// Two connections, each of which gets what the other says.
///
/// Whoever reads slowly holds up whoever writes to it, and nobody else. Both may be silent for as long as they like: whether
/// they are there at all, TCP finds out. Once one has said its last, the other may be silent for `idle` only.
pub struct Relay {
    app: Socket,
    upstream: Transport,
    up: Flow,
    down: Flow,
    idle: Duration,
    deadline: Option<Instant>,
    alarm: Alarm,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("passed", &self.passed())
            .finish_non_exhaustive()
    }
}

/// What goes one way.
struct Flow {
    /// Read, and not yet taken by the other side.
    held: Bytes,
    passed_bytes: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Open,
    /// The one side has said its last, the other has not yet been told.
    Ended,
    Over,
}

impl Relay {
    /// Between these two, beginning with what has been received of each already.
    #[must_use]
    pub fn new(
        (app, from_app): (Socket, Bytes),
        (upstream, from_upstream): (Transport, Bytes),
        idle: Duration,
    ) -> Self {
        for tcp in app.tcp().into_iter().chain(upstream.tcp()) {
            keep_alive(tcp);
        }
        Self {
            app,
            upstream,
            up: Flow::beginning_with(from_app),
            down: Flow::beginning_with(from_upstream),
            idle,
            deadline: None,
            alarm: Alarm::default(),
        }
    }

    /// Passes on what there is, until both sides have said their last. To be dropped then; [`Relay::reset`] before that
    /// after an error.
    ///
    /// # Errors
    ///
    /// When a connection breaks off, or stands still after the other side's end.
    pub fn poll(&mut self, scratch: &Scratch, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let passed_before = self.passed();
        let (app, upstream) = (&mut self.app, &mut self.upstream);
        let room = &mut *scratch.room();
        let up = self.up.poll(cx, app, upstream, room)?;
        let down = self.down.poll(cx, upstream, app, room)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if up.is_pending() && down.is_pending() {
            return Poll::Pending;
        }
        if self.passed() != passed_before {
            self.deadline = None;
        }
        let idle = self.idle;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + idle);
        ready!(self.alarm.poll(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends both connections in a way that nobody takes for the end of what was said.
    pub fn reset(self) {
        for tcp in self.app.tcp().into_iter().chain(self.upstream.tcp()) {
            // Refused by a connection that is gone already.
            tcp.set_zero_linger().ok();
        }
    }

    /// How many bytes the upstream has been sent, and the app.
    #[must_use]
    pub const fn passed(&self) -> (u64, u64) {
        (self.up.passed_bytes, self.down.passed_bytes)
    }
}

impl Flow {
    const fn beginning_with(held: Bytes) -> Self {
        Self {
            held,
            passed_bytes: 0,
            stage: Stage::Open,
        }
    }

    /// Ready when the end of `from` has been passed on.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        room: &mut [u8],
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.held.is_empty() {
                let taken = ready!(poll_write(cx, to, &self.held))?;
                self.held.advance(taken);
                self.passed_bytes += taken as u64;
            }
            match self.stage {
                Stage::Open => {
                    let mut read = ReadBuf::new(room);
                    if Pin::new(&mut *from).poll_read(cx, &mut read)?.is_pending() {
                        // TLS may have kept something back.
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                    if read.filled().is_empty() {
                        self.stage = Stage::Ended;
                    }
                    self.pass(cx, to, read.filled())?;
                }
                Stage::Ended => {
                    // Whoever is gone need not be told.
                    let _told = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.stage = Stage::Over;
                }
                Stage::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what can be written; only the rest is kept.
    fn pass<W>(&mut self, cx: &mut Context<'_>, to: &mut W, mut bytes: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        while !bytes.is_empty() {
            let Poll::Ready(taken) = poll_write(cx, to, bytes)? else {
                self.held = Bytes::copy_from_slice(bytes);
                break;
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            self.passed_bytes += taken as u64;
        }
        Ok(())
    }
}

fn poll_write<W>(cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) -> Poll<io::Result<usize>>
where
    W: AsyncWrite + Unpin,
{
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        taken => Poll::Ready(Ok(taken)),
    }
}

/// Finds out in some minutes that the other side is gone without a word, and keeps what is between awake.
fn keep_alive(tcp: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_TIME)
        .with_interval(KEEP_ALIVE_INTERVAL);
    // Refused by a connection that is gone already.
    SockRef::from(tcp).set_tcp_keepalive(&probes).ok();
}

const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
