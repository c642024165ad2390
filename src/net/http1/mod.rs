//! HTTP/1.1 towards an upstream (RFC 9112): one request at a time, and the whole of its answer before the next.
//!
//! Written for what a hop costs: a head goes out of the parts that there are, in one write with a small body, and an
//! answer's fields are pieces of the bytes that were received. An idle connection holds no buffer.

mod answer;
mod body;
mod request;

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Body, Frame};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, sleep};

use self::answer::Answers;
pub use self::answer::BadAnswer;
pub use self::request::RequestHead;
use self::request::{NotWritten, Outgoing};
use super::connect::Transport;

/// What a worker reads into and writes from: one for all its connections.
#[derive(Default)]
pub(super) struct Buffers {
    heads: RefCell<BytesMut>,
    bodies: RefCell<BytesMut>,
    front: RefCell<Vec<u8>>,
    fields: RefCell<HeaderMap>,
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

/// One connection, and the exchange that is under way on it.
pub(super) struct Line<B> {
    /// Shared with an upload that goes on by itself.
    transport: Rc<RefCell<Transport>>,
    buffers: Rc<Buffers>,
    /// What of the request is still to be written.
    outgoing: Option<Outgoing<B>>,
    answers: Answers,
    to_head: bool,
    /// The protocol that the request asks for in place of this one.
    upgrade: Option<HeaderValue>,
    is_written: bool,
    has_switched: bool,
    /// Whether another request may follow, as far as it is known.
    keeps_open: bool,
}

/// Why an exchange came to no end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side closed the connection before it answered.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke off.
    #[error("the connection broke off")]
    Io(#[source] io::Error),
    /// The answer is not one that can be passed on.
    #[error("the answer cannot be used: {0}")]
    Answer(#[from] BadAnswer),
    /// The body of the request broke off.
    #[error("the request body broke off")]
    Upload,
}

impl<B> Line<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    pub(super) fn new(transport: Transport, buffers: Rc<Buffers>) -> Self {
        Self {
            transport: Rc::new(RefCell::new(transport)),
            buffers,
            outgoing: None,
            answers: Answers::new(),
            to_head: false,
            upgrade: None,
            is_written: false,
            has_switched: false,
            keeps_open: true,
        }
    }

    /// Begins with a request. Nothing is written before somebody waits for its answer.
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: B) {
        let front = self.buffers.front.take();
        self.outgoing = Some(Outgoing::new(head, body, front));
        self.to_head = *head.method == Method::HEAD;
        let has_upgrade = head.headers.keys().any(|name| *name == UPGRADE);
        self.upgrade = has_upgrade
            .then(|| head.headers.get(UPGRADE).cloned())
            .flatten();
        self.is_written = false;
    }

    /// Whether a byte of the present request has been handed to the connection.
    pub(super) const fn is_written(&self) -> bool {
        self.is_written
    }

    /// The head of the final answer. `tell` is told of interim ones (RFC 9110 §15.2).
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        mut tell: impl FnMut(StatusCode, &HeaderMap),
    ) -> Poll<Result<(StatusCode, HeaderMap), Broken>> {
        self.write(cx)?;
        loop {
            let Some(head) = self.answers.next_head(self.to_head, &self.buffers.fields)? else {
                let read = self
                    .buffers
                    .poll_read_head(cx, &mut self.transport.borrow_mut());
                let bytes = ready!(read).map_err(Broken::Io)?;
                if bytes.is_empty() {
                    return Poll::Ready(Err(Broken::Closed));
                }
                self.answers.push(bytes);
                continue;
            };
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                self.check_switch(&head.headers)?;
                self.has_switched = true;
                self.keeps_open = false;
            } else if head.status.is_informational() {
                tell(head.status, &head.headers);
                continue;
            }
            self.keeps_open &= head.keeps_open;
            return Poll::Ready(Ok((head.status, head.headers)));
        }
    }

    /// The next piece of the answer's body. What is left of the request is written meanwhile.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.write(cx)?;
        loop {
            if let Some(frame) = self.answers.next_frame().map_err(Broken::from)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
            let read = self
                .buffers
                .poll_read_body(cx, &mut self.transport.borrow_mut());
            let bytes = ready!(read).map_err(Broken::Io)?;
            if bytes.is_empty() {
                self.answers.end().map_err(Broken::from)?;
            } else {
                self.answers.push(bytes);
            }
        }
    }

    /// The whole body of the answer, if it has come with its head, and the request has been written to its end.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self.outgoing {
            Some(_) => None,
            None => self.answers.take_whole(),
        }
    }

    /// Whether the answer has been given to its end.
    pub(super) const fn is_over(&self) -> bool {
        self.answers.is_over()
    }

    /// How long the rest of the answer is, where its head tells.
    pub(super) const fn length(&self) -> Option<u64> {
        self.answers.length()
    }

    /// Whether the exchange has ended, and the connection is good for another.
    pub(super) fn is_reusable(&self) -> bool {
        self.keeps_open
            && self.outgoing.is_none()
            && self.is_over()
            && self.answers.surplus().is_empty()
    }

    /// Whether nothing has come since the last exchange: an end, or bytes that nobody asked for, would be no good.
    pub(super) fn is_quiet(&self) -> bool {
        match &mut *self.transport.borrow_mut() {
            Transport::Tcp(tcp) => would_block(&tcp.try_read(&mut [0])),
            Transport::Unix(unix) => would_block(&unix.try_read(&mut [0])),
            Transport::Tls(tls) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(tls.as_mut()).poll_fill_buf(&mut cx).is_pending()
            }
        }
    }

    /// Writes the rest of the request in a task of its own, unless the other side takes nothing of it for `idle`. The
    /// connection is not used again.
    pub(super) fn detach(&mut self, idle: Duration) {
        self.keeps_open = false;
        let Some(mut outgoing) = self.outgoing.take() else {
            return;
        };
        let transport = Rc::clone(&self.transport);
        tokio::task::spawn_local(async move {
            let mut timer = pin!(sleep(idle));
            let write = |cx: &mut Context<'_>| {
                let mut moved = false;
                // Whether it was taken or not: nobody waits for this.
                if outgoing
                    .poll(cx, &mut *transport.borrow_mut(), &mut moved)
                    .is_ready()
                {
                    return Poll::Ready(());
                }
                if moved {
                    timer.as_mut().reset(Instant::now() + idle);
                }
                timer.as_mut().poll(cx)
            };
            poll_fn(write).await;
        });
    }

    /// The connection itself, and what has been received behind the head, if the answer has switched protocols.
    pub(super) fn into_tunnel(self) -> Option<(Transport, Bytes)> {
        let transport = Rc::into_inner(self.transport)?.into_inner();
        let received = self.answers.surplus().clone();
        self.has_switched.then_some((transport, received))
    }

    /// Whether a 101 is to what the request asked for (RFC 9110 §15.2.2), and the request has been sent to its end.
    fn check_switch(&self, headers: &HeaderMap) -> Result<(), BadAnswer> {
        let Some(asked) = &self.upgrade else {
            return Err(UNASKED);
        };
        let mut protocols = headers.get_all(UPGRADE).iter();
        let is_asked = protocols
            .next()
            .is_some_and(|given| given.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        if !is_asked || protocols.next().is_some() {
            return Err(NOT_WHAT_WAS_ASKED);
        }
        if self.outgoing.is_some() {
            return Err(TOO_EARLY);
        }
        Ok(())
    }

    /// Writes what can be written of the request.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let Some(outgoing) = &mut self.outgoing else {
            return Ok(());
        };
        let transport = &mut *self.transport.borrow_mut();
        match outgoing.poll(cx, transport, &mut self.is_written) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            // An upstream that refuses an upload in the middle answers and closes: what it has said is read.
            Poll::Ready(Err(NotWritten::Closed)) => self.keeps_open = false,
            Poll::Ready(Err(NotWritten::Body)) => return Err(Broken::Upload),
            Poll::Ready(Err(NotWritten::Io(error))) => return Err(Broken::Io(error)),
        }
        if let Some(outgoing) = self.outgoing.take() {
            self.buffers.keep(outgoing.into_front());
        }
        Ok(())
    }
}

fn would_block(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Buffers {
    /// What the other side has sent, where a head is expected; nothing at its end. Small answers share one piece of memory.
    fn poll_read_head(
        &self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<Bytes>> {
        let mut room = self.heads.borrow_mut();
        if room.capacity() < LEAST_HEAD_BYTES {
            room.reserve(HEAD_ROOM_BYTES);
        }
        match transport {
            Transport::Tcp(tcp) => ready!(pin!(tcp.read_buf(&mut *room)).poll(cx)).map(drop)?,
            Transport::Unix(unix) => ready!(pin!(unix.read_buf(&mut *room)).poll(cx)).map(drop)?,
            Transport::Tls(tls) => {
                let mut tls = Pin::new(tls.as_mut());
                let received = ready!(tls.as_mut().poll_fill_buf(cx))?;
                let length = received.len();
                room.extend_from_slice(received);
                tls.consume(length);
            }
        }
        Poll::Ready(Ok(room.split().freeze()))
    }

    /// What the other side has sent, where a body is expected; nothing at its end.
    fn poll_read_body(
        &self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<Bytes>> {
        match transport {
            Transport::Tcp(tcp) => self.poll_read_plain(cx, tcp),
            Transport::Unix(unix) => self.poll_read_plain(cx, unix),
            Transport::Tls(tls) => {
                let mut tls = Pin::new(tls.as_mut());
                let received = ready!(tls.as_mut().poll_fill_buf(cx))?;
                let bytes = Bytes::copy_from_slice(received);
                tls.consume(bytes.len());
                Poll::Ready(Ok(bytes))
            }
        }
    }

    fn poll_read_plain(
        &self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<Bytes>> {
        let mut room = self.bodies.borrow_mut();
        if room.capacity() < LARGE_BYTES {
            room.reserve(BODY_ROOM_BYTES);
        }
        let read = ready!(pin!(socket.read_buf(&mut *room)).poll(cx))?;
        if read >= LARGE_BYTES {
            return Poll::Ready(Ok(room.split().freeze()));
        }
        let bytes = Bytes::copy_from_slice(&room);
        room.clear();
        Poll::Ready(Ok(bytes))
    }

    /// Takes a map that is no longer wanted, for the fields of an answer.
    pub(super) fn reuse(&self, mut fields: HeaderMap) {
        if fields.capacity() <= MOST_REUSED {
            fields.clear();
            self.fields.replace(fields);
        }
    }

    fn keep(&self, mut front: Vec<u8>) {
        if front.capacity() <= HEAD_ROOM_BYTES {
            front.clear();
            self.front.replace(front);
        }
    }
}

const UNASKED: BadAnswer = BadAnswer("it switches protocols, and nobody has asked for that");
const NOT_WHAT_WAS_ASKED: BadAnswer =
    BadAnswer("it switches to another protocol than was asked for");
const TOO_EARLY: BadAnswer = BadAnswer("it switches protocols before it has the whole request");
/// What answers that come in one piece share: an app that is slow to take one holds no more than this.
const HEAD_ROOM_BYTES: usize = 16 * 1024;
/// What there is left of it at the least for the next.
const LEAST_HEAD_BYTES: usize = 4 * 1024;
/// The most of a body that is read at once.
const BODY_ROOM_BYTES: usize = 64 * 1024;
/// What is read at once and is at least so long is handed on with the room that it is in; the rest is copied out of it.
const LARGE_BYTES: usize = 16 * 1024;
/// A map with room for more fields than this is not kept.
const MOST_REUSED: usize = 64;

#[cfg(test)]
mod tests;
