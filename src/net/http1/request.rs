//! A request on its way out (RFC 9112 §3, §6).

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::Body;
use tokio::io::AsyncWrite;

/// The head of a request, in parts.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The path and query that the upstream sees (RFC 9112 §3.2.1): printable ASCII, without a blank.
    pub target: &'a str,
    /// What its `Host` says.
    pub host: &'a HeaderValue,
    /// Its fields, and none about framing: that follows from the body. A `Host` that is among them is not written.
    pub headers: &'a HeaderMap,
    /// More of them, of other names.
    pub more: &'a [(&'a HeaderName, Cow<'a, HeaderValue>)],
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What of a request has not been written yet.
pub(super) struct Outgoing<B> {
    /// The head, the size of a chunk, small pieces of the body.
    front: Vec<u8>,
    front_written: usize,
    /// A piece of the body that is too large to be copied.
    piece: Bytes,
    /// What follows the piece.
    back: &'static [u8],
    body: B,
    framing: Framing,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// So many bytes are still to come from the body.
    Length(u64),
    Chunked,
    /// Nothing is to come.
    Over,
}

/// Why a request cannot be written to its end.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// Its body broke off.
    Body,
    /// The other side takes no more. It may have answered before.
    Closed,
    /// The connection is broken.
    Io(io::Error),
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// A request, written to `front`, which must be empty.
    pub(super) fn new(head: &RequestHead<'_>, body: B, mut front: Vec<u8>) -> Self {
        let framing = if body.is_end_stream() {
            Framing::Over
        } else {
            let length = body.size_hint().exact();
            length.map_or(Framing::Chunked, Framing::Length)
        };
        write_head(head, framing, &mut front);
        Self {
            front,
            front_written: 0,
            piece: Bytes::new(),
            back: b"",
            body,
            framing,
        }
    }

    /// Writes as much as can be written now; ready when all of it has been.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut (impl AsyncWrite + Unpin),
        is_written: &mut bool,
    ) -> Poll<Result<(), NotWritten>> {
        loop {
            let waits = self.gather(cx)?.is_pending();
            if self.is_empty() {
                // Whatever waits for more of the body has been handed over, and is sent now.
                ready!(Pin::new(&mut *transport).poll_flush(cx)).map_err(NotWritten::from)?;
                return if waits {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            let written = ready!(self.poll_write(cx, transport)).map_err(NotWritten::from)?;
            if written == 0 {
                return Poll::Ready(Err(NotWritten::Closed));
            }
            *is_written = true;
            self.advance(written);
        }
    }

    /// Takes from the body what it has, until there is enough for a write. Pending if the body has no more for now.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotWritten>> {
        while self.piece.is_empty()
            && self.back.is_empty()
            && self.front.len() < FRONT_BYTES
            && !matches!(self.framing, Framing::Over)
        {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.put(piece)?,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.end(&trailers)?;
                    }
                },
                Some(Err(_)) => return Poll::Ready(Err(NotWritten::Body)),
                None => self.end(&HeaderMap::new())?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn put(&mut self, piece: Bytes) -> Result<(), NotWritten> {
        let length = piece.len() as u64;
        match &mut self.framing {
            // An empty chunk would be the last.
            Framing::Chunked if length > 0 => {
                write!(self.front, "{length:x}\r\n").map_err(NotWritten::Io)?;
                self.back = b"\r\n";
            }
            Framing::Length(left) => {
                *left = left.checked_sub(length).ok_or(NotWritten::Body)?;
                if *left == 0 {
                    self.framing = Framing::Over;
                }
            }
            Framing::Chunked | Framing::Over => {}
        }
        if self.front.len() + piece.len() <= FRONT_BYTES {
            self.front.extend_from_slice(&piece);
            self.front.extend_from_slice(std::mem::take(&mut self.back));
        } else {
            self.piece = piece;
        }
        Ok(())
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), NotWritten> {
        if let Framing::Length(_) = self.framing {
            // Less than was declared.
            return Err(NotWritten::Body);
        }
        self.front.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            write_field(name.as_str(), value.as_bytes(), &mut self.front);
        }
        self.front.extend_from_slice(b"\r\n");
        self.framing = Framing::Over;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.piece.is_empty() && self.back.is_empty()
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        transport: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let front = self.front.get(self.front_written..).unwrap_or_default();
        let transport = Pin::new(transport);
        if self.piece.is_empty() && self.back.is_empty() {
            return transport.poll_write(cx, front);
        }
        let parts = [front, &self.piece, self.back];
        transport.poll_write_vectored(cx, &parts.map(IoSlice::new))
    }

    fn advance(&mut self, mut written: usize) {
        let of_front = written.min(self.front.len() - self.front_written);
        self.front_written += of_front;
        if self.front_written == self.front.len() {
            self.front.clear();
            self.front_written = 0;
        }
        written -= of_front;
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        if self.piece.is_empty() {
            self.piece = Bytes::new();
        }
        self.back = self.back.get(written - of_piece..).unwrap_or_default();
    }

    /// Its room, when all has been written.
    pub(super) fn into_front(self) -> Vec<u8> {
        self.front
    }
}

impl From<io::Error> for NotWritten {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

fn write_head(head: &RequestHead<'_>, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(HOST.as_str(), head.host.as_bytes(), out);
    for (name, value) in head.headers {
        if *name != HOST {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
    for (name, value) in head.more {
        write_field(name.as_str(), value.as_bytes(), out);
    }
    match framing {
        Framing::Length(length) => {
            write_field(
                CONTENT_LENGTH.as_str(),
                itoa::Buffer::new().format(length).as_bytes(),
                out,
            );
        }
        Framing::Chunked => write_field(TRANSFER_ENCODING.as_str(), b"chunked", out),
        // Where content is usual, its absence is told (RFC 9110 §8.6).
        Framing::Over if matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) => {
            write_field(CONTENT_LENGTH.as_str(), b"0", out);
        }
        Framing::Over => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What is gathered for one write: pieces up to this size are copied, larger ones written from where they are.
const FRONT_BYTES: usize = 4 * 1024;
