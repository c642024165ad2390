//! Answers out of the bytes of a connection (RFC 9112 §4 to §7), wherever these come apart. Opens no socket.
//!
//! What two readers could read in two ways is refused: an answer that is not whole and plain is none.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use httparse::Response;

use super::body::Decoder;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct BadAnswer(pub(super) &'static str);

/// The head of an answer, interim or final.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether another request may follow on the connection.
    pub(super) keeps_open: bool,
}

/// Reads one answer after another. Holds what has been received and not yet been asked for.
pub(super) struct Answers {
    received: Bytes,
    /// Of a head that is not whole, what has been searched for its end.
    searched: usize,
    body: Decoder,
}

impl Answers {
    pub(super) const fn new() -> Self {
        Self {
            received: Bytes::new(),
            searched: 0,
            body: Decoder::EMPTY,
        }
    }

    /// Takes what has been received.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.received.is_empty() {
            self.received = bytes;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.received));
            joined.extend_from_slice(&bytes);
            self.received = joined.freeze();
        }
    }

    /// The next head, if it is whole. `to_head`: what it answers is a HEAD. Its fields go into the map that is `spare`.
    pub(super) fn next_head(
        &mut self,
        to_head: bool,
        spare: &RefCell<HeaderMap>,
    ) -> Result<Option<Head>, BadAnswer> {
        // One that has come in pieces is looked through for its end, and not read again with each.
        if self.searched > 0 && !has_end(&self.received, self.searched) {
            return self.wait();
        }
        let Some((head, body, length)) = parse(&self.received, to_head, spare)? else {
            return self.wait();
        };
        self.received.advance(length);
        self.searched = 0;
        self.body = body;
        Ok(Some(head))
    }

    fn wait(&mut self) -> Result<Option<Head>, BadAnswer> {
        self.searched = self.received.len();
        if self.searched > MAX_HEAD_BYTES {
            return Err(TOO_LARGE);
        }
        Ok(None)
    }

    /// The next piece of the body, if there is one.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        self.body.decode(&mut self.received)
    }

    /// The body, if it is all that has been received behind its head.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        if !self.body.is_whole(&self.received) {
            return None;
        }
        self.body = Decoder::EMPTY;
        Some(std::mem::take(&mut self.received))
    }

    /// Whether the body has been given to its end.
    pub(super) const fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// How long the rest of the body is, where the head tells.
    pub(super) const fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// The other side has closed: the end of a body that is as long as the connection, and of no other.
    pub(super) fn end(&mut self) -> Result<(), BadAnswer> {
        self.body.end()
    }

    /// What has been received beyond the answer.
    pub(super) const fn surplus(&self) -> &Bytes {
        &self.received
    }
}

/// Whether there may be an end of a head in `received`. What is before `searched` has been looked through.
fn has_end(received: &[u8], searched: usize) -> bool {
    let news = received.get(searched.saturating_sub(3)..);
    let mut lines = memchr::memchr_iter(b'\n', news.unwrap_or_default());
    // Where a carriage return is missing, there will be no end: let it be read, and refused.
    lines.any(|at| {
        let before = news.and_then(|news| news.get(..at)).unwrap_or_default();
        before.ends_with(b"\r\n\r") || !before.ends_with(b"\r")
    })
}

/// The head that `received` begins with, the body that follows it, and its length, if it is whole.
fn parse(
    received: &Bytes,
    to_head: bool,
    spare: &RefCell<HeaderMap>,
) -> Result<Option<(Head, Decoder, usize)>, BadAnswer> {
    if !received.starts_with(START) && !START.starts_with(received) {
        return Err(BadAnswer("it does not begin like HTTP/1"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, received, &mut fields)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => BadAnswer("it has more than 100 fields"),
            httparse::Error::Version => BadAnswer("its version is not HTTP/1.0 or HTTP/1.1"),
            httparse::Error::Status => BadAnswer("its status line is broken"),
            _ => BadAnswer("a field of it is broken"),
        })?;
    let (httparse::Status::Complete(length), Some(code)) = (parsed, response.code) else {
        return Ok(None);
    };
    if length > MAX_HEAD_BYTES {
        return Err(TOO_LARGE);
    }
    check_line_ends(received, length, response.headers)?;
    let status = StatusCode::from_u16(code).map_err(|_| BadAnswer("its status line is broken"))?;
    let is_new = response.version == Some(1);
    let has_no_body = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut headers = spare.take();
    headers.reserve(response.headers.len());
    let mut framing = Fields::default();
    for field in &*response.headers {
        // Where there is a body, it says itself how long it is.
        if framing.note(field.name, field.value) && !has_no_body {
            continue;
        }
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| BadAnswer("a field of it is broken"))?;
        let value = HeaderValue::from_maybe_shared(received.slice_ref(field.value));
        let value = value.map_err(|_| BadAnswer("a field of it is broken"))?;
        headers.append(name, value);
    }
    let body = if has_no_body {
        Decoder::EMPTY
    } else {
        framing.body(is_new)?
    };
    let keeps_open = if is_new {
        !framing.closes
    } else {
        framing.keeps_alive && !framing.closes
    };
    let head = Head {
        status,
        headers,
        keeps_open: keeps_open && body.knows_its_end(),
    };
    Ok(Some((head, body, length)))
}

/// Every line ends as it must: httparse lets the carriage return be missing, others do not.
fn check_line_ends(
    received: &[u8],
    length: usize,
    fields: &[httparse::Header<'_>],
) -> Result<(), BadAnswer> {
    let head = received.get(..length).unwrap_or_default();
    let ends_well = |end: usize| head.get(..end).is_some_and(|line| line.ends_with(b"\r\n"));
    // A name stands at the beginning of its line: before it is the end of the line before.
    let begins = |field: &httparse::Header<'_>| {
        ends_well((field.name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize))
    };
    if fields.iter().all(begins) && head.ends_with(b"\r\n\r\n") {
        Ok(())
    } else {
        Err(BadAnswer("a line ends without a carriage return"))
    }
}

/// What the fields of a head say about what follows it.
#[derive(Default)]
struct Fields {
    length: Option<Result<u64, BadAnswer>>,
    is_chunked: Option<Result<(), BadAnswer>>,
    closes: bool,
    keeps_alive: bool,
}

impl Fields {
    /// Whether the field is about the length of the body.
    fn note(&mut self, name: &str, value: &[u8]) -> bool {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
        let is_length = is(&CONTENT_LENGTH);
        let is_coding = is(&TRANSFER_ENCODING);
        if is_length {
            for member in value.split(|byte| *byte == b',') {
                let length = to_length(member.trim_ascii());
                self.length = Some(match self.length {
                    None => length,
                    Some(before) if before == length => before,
                    Some(_) => Err(BadAnswer("it has two lengths")),
                });
            }
        } else if is_coding {
            let is_chunked = value.eq_ignore_ascii_case(b"chunked") && self.is_chunked.is_none();
            self.is_chunked = Some(if is_chunked {
                Ok(())
            } else {
                Err(BadAnswer("its Transfer-Encoding is not chunked alone"))
            });
        } else if is(&CONNECTION) {
            for option in value.split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        is_length || is_coding
    }

    /// How the body is delimited (RFC 9112 §6.3).
    fn body(&self, is_new: bool) -> Result<Decoder, BadAnswer> {
        match (self.is_chunked, self.length) {
            (Some(_), Some(_)) => Err(BadAnswer(
                "it has both Content-Length and Transfer-Encoding",
            )),
            (Some(_), None) if !is_new => Err(BadAnswer("HTTP/1.0 has no Transfer-Encoding")),
            (Some(is_chunked), None) => is_chunked.map(|()| Decoder::chunked()),
            (None, Some(length)) => length.map(Decoder::Length),
            (None, None) => Ok(Decoder::UntilClose),
        }
    }
}

fn to_length(digits: &[u8]) -> Result<u64, BadAnswer> {
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    let number = number.filter(|_| !digits.is_empty());
    number.ok_or(BadAnswer("its Content-Length is not a number"))
}

/// Reads a section of trailers, the empty line at its end included (RFC 9112 §7.1.2).
pub(super) fn parse_trailers(section: &[u8]) -> Result<HeaderMap, BadAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::parse_headers(section, &mut fields);
    let Ok(httparse::Status::Complete((_, fields))) = parsed else {
        return Err(BadAnswer("a trailer of it is broken"));
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(BadAnswer("a trailer of it is broken"));
        };
        if !NEVER_TRAILERS.contains(&name.as_str()) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

/// What a trailer may not be (RFC 9110 §6.5.1): framing, and what belongs to one connection.
const NEVER_TRAILERS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const START: &[u8] = b"HTTP/1.";
const TOO_LARGE: BadAnswer = BadAnswer("its head is longer than 64 KiB");
/// The largest head that an upstream may answer with, and the largest section of trailers.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;
