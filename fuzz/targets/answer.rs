//! Any answer of an upstream, in any pieces, to GET or HEAD: what is made of it does not depend on where it was cut,
//! agrees with another reading of the same bytes, and is not more than was declared; and a connection that is used again
//! gives the next request its own answer.
//!
//! The first byte says how it is asked ([`Asked`]), the next four how long the pieces are; the rest is the answer.

#![no_main]

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Empty};
use libfuzzer_sys::fuzz_target;
use pillion::clock::Moment;
use pillion::net::connect::{Endpoint, EndpointSettings, HttpVersion, Transport};
use pillion::net::pool::{Connection, NoAnswer, Pool, PoolSettings, RequestHead, UpstreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::Instant;

fuzz_target!(|input: &[u8]| {
    let Some(([asked, lengths @ ..], bytes)) = input.split_first_chunk::<5>() else {
        return;
    };
    let asked = Asked { is_head: asked & 1 != 0, closes: asked & 2 != 0 };
    let whole = RUNTIME.block_on(read(&asked, &[bytes], true));
    let cut = RUNTIME.block_on(read(&asked, &cut(bytes, lengths), false));
    whole.check(&Plain::read(bytes, &asked));
    cut.check(&Plain::read(bytes, &asked));
    assert_eq!(whole.without_end_of_no_head(), cut.without_end_of_no_head(), "it depends on where it was cut");
});

/// How the upstream is asked, and what it does when it has said all.
struct Asked {
    is_head: bool,
    closes: bool,
}

/// What pillion makes of an answer.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    interim: Vec<StatusCode>,
    head: Option<(StatusCode, HeaderMap)>,
    /// How long the body is, if the head has told.
    declared: Option<u64>,
    body: Vec<u8>,
    trailers: HeaderMap,
    end: End,
    is_reusable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum End {
    /// There is more to come.
    #[default]
    Open,
    Whole,
    Broken,
}

/// The pieces: so many bytes each, or one more, again and again; and at some point the rest.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle().take(MOST_PIECES) {
        let (piece, rest) = bytes.split_at((usize::from(*length) + 1).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            return pieces;
        }
    }
    pieces.push(bytes);
    pieces
}

/// Reads the pieces, of which each is received before the next is sent. `at_once`: a body that has come whole is taken
/// so.
async fn read(asked: &Asked, pieces: &[&[u8]], at_once: bool) -> Reading {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let pool = Rc::new(Pool::new(POOL));
    let connection = pool.adopt(&ENDPOINT, Transport::Unix(near));
    let mut reading = Reading::default();
    {
        let mut exchange = pin!(exchange(&mut reading, connection, asked, at_once));
        let mut is_over = false;
        let mut receive = async || {
            // Once for the socket to be seen readable, once more for what is read after that.
            for _ in 0..2 {
                is_over = is_over || poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx).is_ready())).await;
                yield_now().await;
            }
            is_over
        };
        receive().await;
        for piece in pieces {
            // What is not reusable has been closed.
            if receive().await && pool.idle_connections() == 0 {
                break;
            }
            far.write_all(piece).await.expect("written");
            receive().await;
        }
        if asked.closes {
            far.shutdown().await.ok();
            receive().await;
        }
    }
    if let Some(connection) = pool.take(&ENDPOINT, Moment::now()) {
        reading.is_reusable = true;
        next_one(connection, &mut far).await;
    }
    // A pool is as old as its worker: what idles in it would keep this one.
    while pool.take(&ENDPOINT, Moment::now()).is_some() {}
    reading
}

async fn exchange(reading: &mut Reading, connection: Box<Connection<Empty<Bytes>>>, asked: &Asked, at_once: bool) {
    let method = if asked.is_head { Method::HEAD } else { Method::GET };
    let interim = &mut reading.interim;
    let answer = send(connection, &method, |status| interim.push(status)).await;
    let Ok(answer) = answer else {
        reading.end = End::Broken;
        return;
    };
    let (parts, mut body) = answer.into_parts();
    reading.head = Some((parts.status, parts.headers));
    reading.declared = body.size_hint().exact();
    if at_once && let Some(whole) = body.take_whole() {
        reading.body.extend_from_slice(&whole);
    }
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => reading.body.extend_from_slice(&data),
            Ok(Err(frame)) => reading.trailers.extend(frame.into_trailers().expect("trailers")),
            Err(_) => {
                reading.end = End::Broken;
                return;
            }
        }
    }
    reading.end = End::Whole;
}

/// A request on a connection that is used again: what it is answered is its own.
async fn next_one(connection: Box<Connection<Empty<Bytes>>>, far: &mut UnixStream) {
    let mut received = Vec::new();
    far.read_buf(&mut received).await.expect("the first request");
    far.write_all(b"HTTP/1.1 203 Mine\r\ncontent-length: 4\r\n\r\nmine").await.expect("written");
    let answer = send(connection, &Method::GET, |status| panic!("interim {status}")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NON_AUTHORITATIVE_INFORMATION);
    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "mine");
}

async fn send(
    connection: Box<Connection<Empty<Bytes>>>,
    method: &Method,
    mut tell: impl FnMut(StatusCode),
) -> Result<Response<UpstreamBody<Empty<Bytes>>>, NoAnswer> {
    let (host, headers) = (HeaderValue::from_static("localhost"), HeaderMap::new());
    let head = RequestHead { method, target: "/", host: &host, headers: &headers, more: &[] };
    let deadline = Instant::now() + PATIENCE;
    connection.send(&head, Empty::new(), || deadline, |status, _| tell(status)).await
}

impl Reading {
    /// A head that comes in pieces is read when its end is there, so it is refused later than one that comes at once.
    fn without_end_of_no_head(mut self) -> Self {
        if self.head.is_none() {
            self.end = End::Open;
        }
        self
    }

    /// Whether it is what another reader takes the same bytes for, as far as it is taken for anything.
    fn check(&self, plain: &Plain<'_>) {
        let Some((status, headers)) = &self.head else {
            assert!(self.end == End::Broken || plain.status.is_none() && !plain.is_closed);
            assert!(!self.is_reusable);
            return;
        };
        assert_eq!(Some(status.as_u16()), plain.status);
        assert_eq!(self.interim.len(), plain.interim);
        assert!(headers.len() <= plain.fields);
        assert!(plain.is_framed_once, "two readers could read it in two ways");
        assert!(self.declared.is_none_or(|declared| self.body.len() as u64 <= declared));
        match self.end {
            End::Broken => assert!(plain.body.starts_with(&self.body)),
            End::Open | End::Whole => {
                assert_eq!(self.end, plain.end);
                assert_eq!(self.body, plain.body);
            }
        }
        if self.end == End::Whole {
            assert!(self.declared.is_none_or(|declared| self.body.len() as u64 == declared));
            assert_eq!(self.is_reusable, plain.is_reusable);
        } else {
            assert!(!self.is_reusable);
        }
        for (name, value) in &self.trailers {
            assert!(!["content-length", "transfer-encoding", "connection", "host"].contains(&name.as_str()));
            assert!(contains(plain.trailers, name.as_str().as_bytes()) && contains(plain.trailers, value.as_bytes()));
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|it| it.eq_ignore_ascii_case(part))
}

/// What the plainest of readers makes of an answer: all of it is there, and nothing is refused that can be read at all.
#[derive(Debug, Default)]
struct Plain<'a> {
    interim: usize,
    /// Of the final answer, if its head is there.
    status: Option<u16>,
    fields: usize,
    /// Whether its fields say in one way how long it is.
    is_framed_once: bool,
    body: Vec<u8>,
    trailers: &'a [u8],
    end: End,
    is_closed: bool,
    is_reusable: bool,
}

impl<'a> Plain<'a> {
    fn read(mut bytes: &'a [u8], asked: &Asked) -> Self {
        let mut plain = Self { is_closed: asked.closes, ..Self::default() };
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut head = httparse::Response::new(&mut fields);
            let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
                return plain;
            };
            bytes = &bytes[length..];
            match head.code {
                Some(100 | 102..200) => plain.interim += 1,
                code => {
                    plain.status = code;
                    plain.fields = head.headers.len();
                    plain.read_body(&head, bytes, asked);
                    return plain;
                }
            }
        }
    }

    fn read_body(&mut self, head: &httparse::Response<'_, '_>, bytes: &'a [u8], asked: &Asked) {
        let [codings, lengths, options] =
            ["transfer-encoding", "content-length", "connection"].map(|name| members(head, name));
        let has_option = |wanted: &str| options.iter().any(|option| option == wanted);
        let keeps_open = !has_option("close") && (head.version == Some(1) || has_option("keep-alive"));
        let mut surplus: &[u8] = b"";
        self.is_framed_once = true;
        if asked.is_head || matches!(head.code, Some(204 | 304)) {
            self.end = End::Whole;
            surplus = bytes;
        } else if !codings.is_empty() {
            self.is_framed_once = codings == ["chunked"] && lengths.is_empty() && head.version == Some(1);
            surplus = self.read_chunks(bytes).unwrap_or_default();
        } else if let Some(first) = lengths.first() {
            let length = first.parse::<u64>().ok();
            self.is_framed_once = length.is_some() && lengths.iter().all(|it| it.parse().ok() == length);
            let (body, rest) = bytes.split_at(bytes.len().min(length.unwrap_or(0) as usize));
            self.body.extend_from_slice(body);
            if length == Some(body.len() as u64) {
                self.end = End::Whole;
                surplus = rest;
            }
        } else {
            self.body.extend_from_slice(bytes);
            self.end = if asked.closes { End::Whole } else { End::Open };
        }
        if self.end == End::Open && asked.closes {
            self.end = End::Broken;
        }
        self.is_reusable = self.end == End::Whole && keeps_open && !asked.closes && surplus.is_empty();
    }

    /// Returns what follows the last chunk and the trailers; nothing if that cannot be told yet, or never.
    fn read_chunks(&mut self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let line = bytes.iter().position(|byte| *byte == b'\n')?;
            let (line, rest) = bytes.split_at(line + 1);
            let size = std::str::from_utf8(line.split(|byte| *byte == b';').next()?).ok();
            let Some(Ok(size)) = size.map(|size| usize::from_str_radix(size.trim(), 16)) else {
                self.end = End::Broken;
                return None;
            };
            bytes = rest;
            if size == 0 {
                break;
            }
            self.body.extend_from_slice(&bytes[..size.min(bytes.len())]);
            bytes = bytes.get(size..)?;
            if !b"\r\n".starts_with(&bytes[..bytes.len().min(2)]) {
                self.end = End::Broken;
            }
            bytes = bytes.get(2..)?;
        }
        let end = match bytes.starts_with(b"\r\n") {
            true => 2,
            false => bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4,
        };
        let (trailers, surplus) = bytes.split_at(end);
        self.trailers = trailers;
        self.end = End::Whole;
        Some(surplus)
    }
}

/// The members of all lists of this name, in lower case.
fn members(head: &httparse::Response<'_, '_>, name: &str) -> Vec<String> {
    let values = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    let members = values.flat_map(|value| value.split(|byte| *byte == b','));
    members.map(|member| String::from_utf8_lossy(member.trim_ascii()).to_ascii_lowercase()).collect()
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static ENDPOINT: LazyLock<Endpoint> = LazyLock::new(|| {
    let settings = EndpointSettings {
        fingerprint: 1,
        host: "localhost".to_owned(),
        port: 80,
        tls: None,
        version: HttpVersion::Http1,
        socket: None,
        resolved: None,
        egress_proxy: None,
        allow_plaintext: false,
        connect_timeout: PATIENCE,
    };
    Endpoint::new(settings).expect("an endpoint")
});
const PATIENCE: Duration = Duration::from_secs(3600);
const POOL: PoolSettings = PoolSettings { idle_timeout: PATIENCE, max_age: PATIENCE, max_idle: 1 };
/// So that a long answer is not byte by byte.
const MOST_PIECES: usize = 64;
