//! A connection from the app, as hyper sees it. Its first bytes tell its protocol; where that is HTTP/1.1, there are two
//! things more that hyper does not give.
//!
//! * the bytes of a request head as they arrived: hyper settles a doubtful framing silently, and we want to refuse it;
//! * interim answers (1xx): hyper's server writes none but 100.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
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

#[derive(Debug)]
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
    /// The rest of an interim answer that the socket did not take at once.
    interim: RefCell<Vec<u8>>,
    /// Time for a head, and the timer while one is awaited: the first from the start, others from their first byte.
    head_time: Duration,
    head_timer: RefCell<Option<Pin<Box<Sleep>>>>,
    is_first: Cell<bool>,
}

impl Inbound {
    /// Takes over an accepted connection, on which a head must be complete within `head_time`.
    ///
    /// # Errors
    ///
    /// When the socket is no longer connected.
    pub fn new(socket: Socket, head_time: Duration) -> io::Result<Self> {
        Ok(Self(Rc::new(Shared {
            local: socket.local()?,
            socket: RefCell::new(socket),
            head: RefCell::default(),
            unread: Cell::new(0),
            protocol: Cell::new(Protocol::Http1),
            between_requests: Cell::new(true),
            flushed: Cell::new(true),
            interim: RefCell::default(),
            head_time,
            head_timer: RefCell::default(),
            is_first: Cell::new(true),
        })))
    }

    /// Reads until it is clear what the app speaks, within the time for a head. hyper gets what was read.
    ///
    /// # Errors
    ///
    /// When the connection fails, or says nothing in time.
    pub fn poll_protocol(
        &self,
        scratch: &Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Protocol>> {
        let shared = &self.0;
        let mut scratch = scratch.0.borrow_mut();
        let room = scratch.get_mut(..FIRST_READ_BYTES).unwrap_or_default();
        loop {
            let mut read = ReadBuf::new(&mut *room);
            let polled = shared.socket.borrow_mut().poll_read(cx, &mut read)?;
            if polled.is_pending() {
                ready!(shared.poll_head_timer(cx))?;
            }
            let mut head = shared.head.borrow_mut();
            head.extend_from_slice(read.filled());
            let is_whole = read.filled().is_empty() || head.len() >= PREFACE.len();
            if head.starts_with(PREFACE) {
                shared.protocol.set(Protocol::Http2);
                shared.between_requests.set(false);
                shared.head_timer.borrow_mut().take();
            } else if PREFACE.starts_with(&head) && !is_whole {
                continue;
            }
            shared.unread.set(head.len());
            return Poll::Ready(Ok(shared.protocol.get()));
        }
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
        self.0.is_first.set(false);
        self.0.head_timer.borrow_mut().take();
        let mut head = self.0.head.borrow_mut();
        let seen = look(&head);
        let read = head.len() - self.0.unread.get();
        head.drain(..read);
        head.shrink_to(KEPT_HEAD_BYTES);
        seen
    }

    /// The answer has been given: what comes next is a head. In HTTP/2, where requests overlap, that says nothing.
    pub fn end_request(&self) {
        let is_alone = self.0.protocol.get() == Protocol::Http1;
        self.0.between_requests.set(is_alone);
    }

    /// Writes an interim answer (RFC 9110 §15.2), or drops it where it cannot be written right now.
    pub fn send_interim(&self, head: &[u8]) {
        let shared = &self.0;
        if !shared.flushed.get() || !shared.interim.borrow().is_empty() {
            return;
        }
        if let Ok(written) = shared.socket.borrow_mut().try_write(head)
            && let Some(rest) = head.get(written..)
        {
            shared.interim.borrow_mut().extend_from_slice(rest);
        }
    }
}

impl Shared {
    // hyper's own header timeout would end idle connections, too, and sets a timer for every request.
    fn poll_head_timer(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let awaited = self.is_first.get() || is_unfinished(&self.head.borrow());
        if !(awaited && self.between_requests.get()) {
            return Poll::Pending;
        }
        let mut timer = self.head_timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(self.head_time)));
        ready!(timer.as_mut().poll(cx));
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

    /// Writes what is left of an interim answer, before anything else.
    fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.interim.borrow_mut();
        while !interim.is_empty() {
            let written = ready!(self.socket.borrow_mut().poll_write(cx, &interim))?;
            interim.drain(..written);
        }
        Poll::Ready(Ok(()))
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
                head.extend_from_slice(bytes);
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
        shared.flushed.set(false);
        ready!(shared.poll_interim(cx))?;
        shared.socket.borrow_mut().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &self.inbound.0;
        shared.flushed.set(true);
        ready!(shared.poll_interim(cx))?;
        shared.socket.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inbound.0.socket.borrow_mut().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &self.inbound.0;
        shared.flushed.set(false);
        ready!(shared.poll_interim(cx))?;
        shared.socket.borrow_mut().poll_write_vectored(cx, bufs)
    }
}

// hyper looks for more before it begins with a request, so nearly every head is whole here. Empty lines before one are
// none (RFC 9112 §2.2).
fn is_unfinished(head: &[u8]) -> bool {
    !head.is_empty() && !head.trim_ascii_start().ends_with(b"\r\n\r\n")
}

/// What every connection of HTTP/2 begins with, and none of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read to learn the protocol: no more than hyper takes at once.
const FIRST_READ_BYTES: usize = 8 * 1024;
/// The most that is read at once, and the longest head that is looked at.
const SCRATCH_BYTES: usize = 64 * 1024;
/// What an idle connection may keep of the room that its last head took.
const KEPT_HEAD_BYTES: usize = 1024;

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
        // The next one has begun behind it.
        assert!(is_unfinished(format!("{whole}G").as_bytes()));
    }
}
