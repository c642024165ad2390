//! A connection from the app, as hyper sees it. Its first bytes tell its protocol; where that is HTTP/1.1, there is more
//! that hyper does not give.
//!
//! * the bytes of a request head as they arrived: hyper settles a doubtful framing silently, and we want to refuse it;
//! * interim answers (1xx): hyper's server writes none but 100;
//! * words for a head that hyper refuses: it says a bare status;
//! * an end to a caller who reads no more, and a hearing for one who still sends when it is refused.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use memchr::memmem::Finder;
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep};

use super::socket::Socket;

/// Where bytes are read to before hyper copies them: one for all connections of a worker, so that idle ones need none.
#[derive(Clone, Debug)]
pub struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; SCRATCH_BYTES].into())))
    }
}

impl Scratch {
    pub(super) fn room(&self) -> RefMut<'_, Box<[u8]>> {
        self.0.borrow_mut()
    }
}

/// What a connection may take, and what is said to one that takes more.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time for a head: the first from the start, others from their first byte.
    pub head_time: Duration,
    /// How long the app may read nothing of an answer, until [`Inbound::allow_idle`] says otherwise.
    pub idle: Duration,
    /// The whole answer, as bytes, to a head that is no request (400, 414, 431), or does not come to its end (408).
    pub refusal: fn(StatusCode) -> Vec<u8>,
}

/// The app's end of things, shared by hyper's reading and writing and by the request being served.
#[derive(Clone, Debug)]
pub struct Inbound(Rc<Shared>);

/// What an app speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/1.0.
    Http1,
    /// HTTP/2, known by its preface (RFC 9113 §3.4).
    Http2,
}

struct Shared {
    /// Borrowed for one call at a time.
    socket: RefCell<Socket>,
    local: Option<SocketAddr>,
    head: RefCell<Vec<u8>>,
    /// How much at the end of `head` hyper has not read: what was read to learn the protocol.
    unread: Cell<usize>,
    protocol: Cell<Protocol>,
    /// Whether what is read now may be (part of) a head.
    between_requests: Cell<bool>,
    /// Whether hyper has nothing half written.
    flushed: Cell<bool>,
    /// How much of an answer's body hyper has been handed since it was last flushed.
    handed: Cell<usize>,
    /// Whether somebody waits to hand it more.
    is_waited_for: Cell<bool>,
    /// What we say ourselves and the socket did not take at once: of an interim answer, or of a refusal.
    own: RefCell<Vec<u8>>,
    bounds: Bounds,
    /// Runs while a head is awaited.
    head_timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Requests of HTTP/1.1 that have begun here.
    requests: Cell<u64>,
    /// Whether hyper still reads a body behind its answer.
    reads_on: Cell<bool>,
    /// How long the app may read nothing of the present answer. The timer runs while it does not.
    idle: Cell<Duration>,
    idle_timer: RefCell<Option<Pin<Box<Sleep>>>>,
    farewell: RefCell<Option<Farewell>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("local", &self.local)
            .field("protocol", &self.protocol)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// What is still heard of a caller to whom everything has been said.
#[derive(Debug)]
struct Farewell {
    left_bytes: usize,
    /// Runs once anything has been heard.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Inbound {
    /// Takes over an accepted connection.
    ///
    /// # Errors
    ///
    /// When the socket is no longer connected.
    pub fn new(socket: Socket, bounds: Bounds) -> io::Result<Self> {
        Ok(Self(Rc::new(Shared {
            local: socket.local()?,
            socket: RefCell::new(socket),
            head: RefCell::default(),
            unread: Cell::new(0),
            protocol: Cell::new(Protocol::Http1),
            between_requests: Cell::new(true),
            flushed: Cell::new(true),
            handed: Cell::new(0),
            is_waited_for: Cell::new(false),
            own: RefCell::default(),
            bounds,
            head_timer: RefCell::default(),
            requests: Cell::new(0),
            reads_on: Cell::new(false),
            idle: Cell::new(bounds.idle),
            idle_timer: RefCell::default(),
            farewell: RefCell::default(),
        })))
    }

    /// Reads until there is something for hyper to do: the preface of HTTP/2, or a head of HTTP/1.1 that is whole, broken or
    /// long, or the end. Until then a connection costs no more than what it has sent. hyper gets all of that.
    ///
    /// # Errors
    ///
    /// When the connection fails, or a head does not come in time.
    pub fn poll_begun(
        &self,
        scratch: &Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Protocol>> {
        let shared = &self.0;
        let mut scratch = scratch.0.borrow_mut();
        while !shared.is_for_hyper() {
            let room = HELD_BYTES - shared.head.borrow().len();
            let mut read = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            let polled = shared.socket.borrow_mut().poll_read(cx, &mut read)?;
            if polled.is_pending() {
                ready!(shared.poll_head_timer(cx))?;
            }
            if read.filled().is_empty() {
                break;
            }
            let mut head = shared.head.borrow_mut();
            head.extend_from_slice(read.filled());
            shared.unread.set(head.len());
        }
        Poll::Ready(Ok(shared.protocol.get()))
    }

    /// Whether anything of the next request has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.0.head.borrow().is_empty()
    }

    /// What hyper reads from and writes to.
    #[must_use]
    pub fn stream(&self, scratch: &Scratch) -> InboundStream {
        InboundStream {
            inbound: self.clone(),
            scratch: scratch.clone(),
        }
    }

    /// The address that the app connected to; none of a Unix socket.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// A request of HTTP/1.1 has begun: shows the bytes that its head came in, which may be followed by others.
    pub fn begin_request<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        self.0.between_requests.set(false);
        self.0.requests.set(self.0.requests.get() + 1);
        self.0.reads_on.set(false);
        self.0.head_timer.borrow_mut().take();
        let mut head = self.0.head.borrow_mut();
        let seen = look(&head);
        let read = head.len() - self.0.unread.get();
        head.drain(..read);
        head.shrink_to(KEPT_HEAD_BYTES);
        seen
    }

    /// How long the app may read nothing of the answer that is to come, before the connection is given up.
    pub fn allow_idle(&self, idle: Duration) {
        self.0.idle.set(idle);
    }

    /// The answer has been given: what comes next is a head. In HTTP/2, where requests overlap, that says nothing.
    pub fn end_request(&self) {
        let is_alone = self.0.protocol.get() == Protocol::Http1;
        self.0.between_requests.set(is_alone);
    }

    /// The present request is answered before it has been read, and will be read on.
    pub fn reads_on(&self) {
        self.0.reads_on.set(true);
    }

    /// How many requests of HTTP/1.1 it has brought, if the last one is answered and no head of another has come to its end:
    /// then hyper is not needed.
    #[must_use]
    pub fn idle_after(&self) -> Option<u64> {
        let shared = &self.0;
        let requests = shared.requests.get();
        let is_idle = requests > 0
            && shared.between_requests.get()
            && !shared.reads_on.get()
            && !is_whole(&shared.head.borrow())
            && shared.is_at_rest();
        is_idle.then_some(requests)
    }

    /// Takes back what hyper has read of an idle connection; whoever reads next gets it.
    pub fn take_back(&self, read: &[u8]) {
        self.0.head.replace(read.to_vec());
        self.0.unread.set(read.len());
    }

    /// So many bytes of an answer's body have been handed to hyper.
    pub fn hand(&self, bytes: usize) {
        self.0.handed.set(self.0.handed.get() + bytes);
    }

    /// Until hyper may be handed more: it keeps all that the app does not take. Only for the task that polls the stream, which
    /// is woken then.
    pub fn poll_taken(&self) -> Poll<()> {
        if self.0.handed.get() < HANDED_BYTES {
            return Poll::Ready(());
        }
        self.0.is_waited_for.set(true);
        Poll::Pending
    }

    /// Writes an interim answer (RFC 9110 §15.2), or drops it where it cannot be written right now.
    pub fn send_interim(&self, head: &[u8]) {
        let shared = &self.0;
        if shared.is_at_rest()
            && let Ok(written) = shared.socket.borrow_mut().try_write(head)
            && let Some(rest) = head.get(written..)
        {
            shared.own.borrow_mut().extend_from_slice(rest);
        }
    }
}

impl Shared {
    /// Whether what has been read is something for hyper. Learns the protocol from the first that is.
    fn is_for_hyper(&self) -> bool {
        let head = self.head.borrow();
        let is_first = self.requests.get() == 0;
        if is_first && head.starts_with(PREFACE) {
            self.protocol.set(Protocol::Http2);
            self.between_requests.set(false);
            self.head_timer.borrow_mut().take();
            return true;
        }
        let may_be_preface = is_first && PREFACE.starts_with(&head);
        !may_be_preface && (head.len() >= HELD_BYTES || !is_partial(&head))
    }

    // hyper's own header timeout would end idle connections, too, and sets a timer for every request.
    fn poll_head_timer(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let awaited = self.requests.get() == 0 || is_unfinished(&self.head.borrow());
        if !(awaited && self.between_requests.get()) {
            return Poll::Pending;
        }
        let mut timer = self.head_timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(self.bounds.head_time)));
        ready!(timer.as_mut().poll(cx));
        // Who has said nothing yet has asked for nothing, either.
        if !self.head.borrow().is_empty() && self.is_at_rest() {
            let late = (self.bounds.refusal)(StatusCode::REQUEST_TIMEOUT);
            self.socket.borrow_mut().try_write(&late).ok();
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether nothing is half written.
    fn is_at_rest(&self) -> bool {
        self.flushed.get() && self.own.borrow().is_empty()
    }

    /// Gives up a caller who takes nothing for too long.
    fn unless_idle<T>(
        &self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut timer = self.idle_timer.borrow_mut();
        if wrote.is_ready() {
            *timer = None;
            return wrote;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(self.idle.get())));
        ready!(timer.as_mut().poll(cx));
        // Else the system would keep what was written, megabytes of it, for as long as the caller likes to stay.
        if let Some(tcp) = self.socket.borrow().tcp() {
            tcp.set_zero_linger().ok();
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// One connection's bytes.
#[derive(Debug)]
pub struct InboundStream {
    inbound: Inbound,
    scratch: Scratch,
}

impl InboundStream {
    /// The connection itself, once nobody else has a hand on it: hyper has read all that was received, and written all that
    /// it was given.
    #[must_use]
    pub fn into_socket(self) -> Option<Socket> {
        let shared = Rc::into_inner(self.inbound.0)?;
        Some(shared.socket.into_inner())
    }
}

impl Shared {
    /// Gives hyper what was read to learn the protocol. Says whether there was any.
    fn give_unread(&self, buf: &mut ReadBufCursor<'_>) -> bool {
        let unread = self.unread.get();
        if unread == 0 {
            return false;
        }
        let mut head = self.head.borrow_mut();
        let begin = head.len() - unread;
        let given = unread.min(buf.remaining());
        buf.put_slice(head.get(begin..begin + given).unwrap_or_default());
        self.unread.set(unread - given);
        if self.protocol.get() == Protocol::Http2 && given == unread {
            *head = Vec::new();
        }
        true
    }

    /// Writes what is left of our own words, before anything else.
    fn poll_own(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut own = self.own.borrow_mut();
        while !own.is_empty() {
            let wrote = self.socket.borrow_mut().poll_write(cx, &own);
            let written = ready!(self.unless_idle(cx, wrote))?;
            own.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// What is said in place of `answer`, if hyper has written it by itself: a bare status, because of a head that is no
    /// request. It can be nothing else where something of a head has come, and nothing is under way.
    fn refusal_for(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let is_own = self.between_requests.get() && !self.head.borrow().is_empty();
        if !is_own || !self.is_at_rest() {
            return None;
        }
        let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        let status = StatusCode::from_bytes(status).ok()?;
        status
            .is_client_error()
            .then(|| (self.bounds.refusal)(status))
    }

    // Closed with bytes unread, the connection would be reset, and what was said to the caller with it (RFC 9112 §9.6).
    fn poll_farewell(&self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let mut farewell = self.farewell.borrow_mut();
        if farewell.is_none() {
            ready!(self.socket.borrow_mut().poll_shutdown(cx))?;
        }
        let farewell = farewell.get_or_insert(Farewell {
            left_bytes: FAREWELL_BYTES,
            timer: None,
        });
        loop {
            let mut read = ReadBuf::new(scratch);
            match self.socket.borrow_mut().poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() && farewell.left_bytes > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => match &mut farewell.timer {
                    Some(timer) => return timer.as_mut().poll(cx).map(Ok),
                    None => return Poll::Ready(Ok(())),
                },
            }
            farewell.left_bytes = farewell.left_bytes.saturating_sub(read.filled().len());
            let timer = || Box::pin(sleep(FAREWELL_TIME));
            farewell.timer.get_or_insert_with(timer);
        }
    }
}

impl Read for InboundStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &self.inbound.0;
        if shared.give_unread(&mut buf) {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = self.scratch.0.borrow_mut();
        let room = scratch.len().min(buf.remaining());
        let Some(scratch) = scratch.get_mut(..room) else {
            return Poll::Ready(Ok(()));
        };
        let mut read = ReadBuf::new(scratch);
        // tokio's own read, because it knows that a short one has emptied the socket and spares the next.
        if shared
            .socket
            .borrow_mut()
            .poll_read(cx, &mut read)?
            .is_pending()
        {
            return shared.poll_head_timer(cx);
        }
        let bytes = read.filled();
        if shared.between_requests.get() {
            let mut head = shared.head.borrow_mut();
            if head.len() < SCRATCH_BYTES {
                // Nearly every head comes in one piece, and what comes behind it is of no interest.
                let whole = head.is_empty().then(|| end_of_head(bytes)).flatten();
                head.extend_from_slice(whole.unwrap_or(bytes));
            }
        }
        buf.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl Write for InboundStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let shared = &self.inbound.0;
        if let Some(refusal) = shared.refusal_for(buf) {
            *shared.own.borrow_mut() = refusal;
            return Poll::Ready(Ok(buf.len()));
        }
        shared.flushed.set(false);
        ready!(shared.poll_own(cx))?;
        let wrote = shared.socket.borrow_mut().poll_write(cx, buf);
        shared.unless_idle(cx, wrote)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &self.inbound.0;
        ready!(shared.poll_own(cx))?;
        let flushed = shared.socket.borrow_mut().poll_flush(cx);
        shared.flushed.set(flushed.is_ready());
        if flushed.is_ready() {
            shared.handed.set(0);
            if shared.is_waited_for.take() {
                cx.waker().wake_by_ref();
            }
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = self.scratch.0.borrow_mut();
        self.inbound.0.poll_farewell(cx, &mut scratch)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let shared = &self.inbound.0;
        shared.flushed.set(false);
        ready!(shared.poll_own(cx))?;
        let wrote = shared.socket.borrow_mut().poll_write_vectored(cx, bufs);
        shared.unless_idle(cx, wrote)
    }
}

// hyper looks for more before it begins with a request, so nearly every head is whole here.
fn is_unfinished(head: &[u8]) -> bool {
    !head.is_empty() && !is_whole(head)
}

/// Whether there is a head, and perhaps its body behind it. Empty lines before one are none (RFC 9112 §2.2).
fn is_whole(head: &[u8]) -> bool {
    let begun = head.trim_ascii_start();
    begun.ends_with(b"\r\n\r\n") || memchr::memmem::find(begun, b"\r\n\r\n").is_some()
}

/// Whether hyper would wait for more of this head.
fn is_partial(head: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::Request::new(&mut fields).parse(head);
    matches!(parsed, Ok(httparse::Status::Partial))
}

/// The head that `bytes` begin with, if it is whole and something is behind it.
fn end_of_head(bytes: &[u8]) -> Option<&[u8]> {
    let begins = bytes.first().is_some_and(u8::is_ascii_graphic) && !bytes.ends_with(b"\r\n\r\n");
    let end = begins.then(|| END_OF_HEAD.find(bytes))??;
    bytes.get(..end + 4)
}

/// Made once: that takes as long as to find it.
static END_OF_HEAD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
/// What every connection of HTTP/2 begins with, and none of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is held of a head that is not whole: what hyper reads at once, and less than any head may have.
const HELD_BYTES: usize = 8 * 1024;
/// hyper refuses a head with more.
const MAX_FIELDS: usize = 100;
/// The most that is read at once, and the longest head that is looked at.
const SCRATCH_BYTES: usize = 64 * 1024;
/// What may wait in hyper before the next piece of an answer is asked for.
const HANDED_BYTES: usize = 16 * 1024;
/// What an idle connection may keep of the room that its last head took.
const KEPT_HEAD_BYTES: usize = 1024;
/// How much is still read of a caller whose connection is closed while it sends, and for how long.
const FAREWELL_BYTES: usize = 1 << 20;
const FAREWELL_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_empty_line() {
        assert!(!is_unfinished(b""));
        for begun in ["G", "GET / HTTP/1.1\r\n", "\r\n\r\n", "\r\n\r\nG"] {
            assert!(is_unfinished(begun.as_bytes()), "{begun:?}");
        }
        let whole = "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(!is_unfinished(whole.as_bytes()));
        // Its body has come with it.
        assert!(!is_unfinished(format!("{whole}body").as_bytes()));
    }
}
