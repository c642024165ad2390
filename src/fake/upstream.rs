//! A protected resource of nobody in particular, which remembers what it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE, TRAILER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::bearer::bearer;
use super::digest::sha256_hex;
use super::recent::Recent;
use super::{FakeError, Faults, HangUp, Received, Server, TokenEndpoint};

/// One chunk of `/stream/{n}`.
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 1024]);

/// The longest frame of `/bytes/{n}`.
const FRAME: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);

/// An upstream: whoever may not come in gets a 401 (RFC 6750), whoever may is told what was
/// received.
///
/// | path | answer |
/// |---|---|
/// | `/status/{code}` | this status, without a body |
/// | `/bytes/{n}` | `n` bytes with a `Content-Length` |
/// | `/stream/{n}` | `n` chunks of 1 KiB; with `?every=10`, ten milliseconds apart |
/// | `/trailers` | chunks, then `x-checksum: abc` if the request has `TE: trailers` |
/// | `/redirect` | 307 to another host |
/// | `/cookies` | two `Set-Cookie` fields |
/// | `/echo` | the body and its type, once all of it has come |
/// | `/echo/stream` | the same, as it comes; the body is not remembered |
/// | any other | JSON: `method`, `target`, `headers`, `body_length`, `body_sha256`, `trailers` |
#[derive(Debug)]
pub struct Upstream {
    site: Arc<Site>,
    server: Server,
}

type Guard = dyn Fn(&Received) -> bool + Send + Sync;

struct Site {
    may_enter: Box<Guard>,
    faults: Faults,
    requests: Recent,
    refusals: AtomicUsize,
    refuses_early: AtomicBool,
}

impl Upstream {
    /// Starts one that everybody may enter; with `tls`, it speaks nothing else.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn open(tls: Option<Arc<ServerConfig>>) -> Result<Self, FakeError> {
        Self::guarded(tls, |_| true).await
    }

    /// Starts one that asks for a good token of `issuer`.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn guarded_by(
        tls: Option<Arc<ServerConfig>>,
        issuer: &TokenEndpoint,
    ) -> Result<Self, FakeError> {
        let issuer = issuer.clone();
        Self::guarded(tls, move |request| {
            bearer(request).is_some_and(|token| issuer.is_good(token).is_good())
        })
        .await
    }

    /// Starts one that is entered by the requests for which `may_enter` is true.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn guarded(
        tls: Option<Arc<ServerConfig>>,
        may_enter: impl Fn(&Received) -> bool + Send + Sync + 'static,
    ) -> Result<Self, FakeError> {
        let site = Arc::new(Site {
            may_enter: Box::new(may_enter),
            faults: Faults::default(),
            requests: Recent::default(),
            refusals: AtomicUsize::new(0),
            refuses_early: AtomicBool::new(false),
        });
        let answering = Arc::clone(&site);
        let server = Server::start(tls, move |request| {
            let site = Arc::clone(&answering);
            async move { site.answer(request).await }
        })
        .await?;
        Ok(Self { site, server })
    }

    /// The server, to count its connections or to take it away.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it shall do wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.site.faults
    }

    /// The newest requests, oldest first, whatever became of them.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.site.requests.to_vec()
    }

    /// The newest request.
    #[must_use]
    pub fn last_request(&self) -> Option<Received> {
        self.site.requests.last()
    }

    /// Forgets the requests so far; counts go on.
    pub fn forget_requests(&self) {
        self.site.requests.clear();
    }

    /// How many requests were answered with 401 because they may not enter.
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.site.refusals.load(Ordering::Relaxed)
    }

    /// Whether a refusal comes as soon as the head has been read, while the body may still be on
    /// its way; such a body is not remembered.
    pub fn refuse_early(&self, early: bool) {
        self.site.refuses_early.store(early, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, HangUp> {
        let head = Received::head(&request);
        let may_enter = (self.may_enter)(&head);
        if !may_enter && self.refuses_early.load(Ordering::Relaxed) {
            let answer = self.refuse(&head);
            self.requests.push(head);
            return Ok(answer);
        }
        if may_enter && head.path() == "/echo/stream" {
            self.requests.push(head);
            return self.faulty_or(|| Ok(echo_stream(request))).await;
        }
        let received = Received::read(request).await?;
        self.requests.push(received.clone());
        if !may_enter {
            return Ok(self.refuse(&received));
        }
        self.faulty_or(|| Ok(reply(&received))).await
    }

    async fn faulty_or(
        &self,
        right: impl FnOnce() -> Result<Answer, HangUp>,
    ) -> Result<Answer, HangUp> {
        match self
            .faults
            .meet(|| challenge("Bearer realm=\"upstream\", error=\"invalid_token\""))
            .await?
        {
            Some(wrong) => Ok(wrong),
            None => right(),
        }
    }

    /// RFC 6750 §3.1: who brought nothing is told nothing.
    fn refuse(&self, request: &Received) -> Answer {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        if request.values("authorization").next().is_none() {
            challenge("Bearer realm=\"upstream\"")
        } else {
            challenge("Bearer realm=\"upstream\", error=\"invalid_token\"")
        }
    }
}

fn challenge(challenge: &'static str) -> Answer {
    let mut answer = answer::json(
        StatusCode::UNAUTHORIZED,
        &json!({ "error": "invalid_token" }),
    );
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

fn reply(request: &Received) -> Answer {
    let path = request.path();
    let (name, argument) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let reply = match name {
        "status" => argument
            .parse()
            .ok()
            .filter(|code| (200..600).contains(code))
            .and_then(status),
        "bytes" => argument.parse().ok().map(bytes),
        "stream" => argument
            .parse()
            .ok()
            .map(|chunks| chunked(chunks, every(request))),
        "trailers" => Some(trailers()),
        "redirect" => Some(redirect()),
        "cookies" => Some(cookies()),
        "echo" => Some(echo(request)),
        _ => None,
    };
    reply.unwrap_or_else(|| answer::json(StatusCode::OK, &describe(request)))
}

fn describe(request: &Received) -> Value {
    json!({
        "method": request.method.as_str(),
        "target": request.target,
        "headers": request.fields,
        "body_length": request.body.len(),
        "body_sha256": sha256_hex(&request.body),
        "trailers": request.trailers,
    })
}

fn status(code: u16) -> Option<Answer> {
    StatusCode::from_u16(code).ok().map(answer::empty)
}

fn bytes(length: usize) -> Answer {
    let frames = stream::unfold(length, |left| async move {
        let frame = FRAME.slice(..left.min(FRAME.len()));
        (left > 0).then(|| (Ok(Frame::data(frame)), left.saturating_sub(FRAME.len())))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    answer
}

fn chunked(chunks: usize, every: Option<Duration>) -> Answer {
    let frames = stream::iter(0..chunks).then(move |number| async move {
        if let Some(every) = every.filter(|_| number > 0) {
            tokio::time::sleep(every).await;
        }
        Ok(Frame::data(CHUNK))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    answer
}

fn every(request: &Received) -> Option<Duration> {
    request
        .query()?
        .strip_prefix("every=")?
        .parse()
        .ok()
        .map(Duration::from_millis)
}

fn trailers() -> Answer {
    let mut fields = HeaderMap::new();
    fields.insert(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("abc"),
    );
    let frames = [Ok(Frame::data(CHUNK)), Ok(Frame::trailers(fields))];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    answer
        .headers_mut()
        .insert(TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

fn redirect() -> Answer {
    let mut answer = answer::empty(StatusCode::TEMPORARY_REDIRECT);
    answer.headers_mut().insert(
        LOCATION,
        HeaderValue::from_static("https://elsewhere.example/"),
    );
    answer
}

fn cookies() -> Answer {
    let mut answer = answer::empty(StatusCode::OK);
    answer
        .headers_mut()
        .append(SET_COOKIE, HeaderValue::from_static("one=1"));
    answer
        .headers_mut()
        .append(SET_COOKIE, HeaderValue::from_static("two=2"));
    answer
}

fn echo(request: &Received) -> Answer {
    let content_type = request
        .field("content-type")
        .and_then(|value| HeaderValue::from_str(value).ok());
    let mut answer = Response::new(answer::full(request.body.clone()));
    answer
        .headers_mut()
        .extend(content_type.map(|value| (CONTENT_TYPE, value)));
    answer
}

fn echo_stream(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(body.map_err(|_| HangUp).boxed_unsync());
    answer.headers_mut().extend(
        head.headers
            .get(CONTENT_TYPE)
            .map(|value| (CONTENT_TYPE, value.clone())),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::super::{Fault, Rules};
    use super::*;

    #[tokio::test]
    async fn it_says_what_it_received() {
        let upstream = Upstream::open(None).await.unwrap();
        let client = Client::plain(upstream.address());
        let answer = client
            .send(
                "POST",
                "/a/b?c=d",
                &[("x-one", "1"), ("x-two", "2"), ("x-one", "3")],
                "abc",
            )
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        let document = answer.json();
        assert_eq!(document["method"], "POST");
        assert_eq!(document["target"], "/a/b?c=d");
        assert_eq!(document["body_length"], 3);
        assert_eq!(
            document["body_sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let headers = document["headers"].as_array().unwrap();
        assert!(
            headers.contains(&json!(["x-one", "1"])) && headers.contains(&json!(["x-one", "3"]))
        );
        assert_eq!(upstream.requests().len(), 1);
    }

    #[tokio::test]
    async fn only_a_good_token_may_enter() {
        let issuer = TokenEndpoint::new(Rules::by_the_book("id", "secret"));
        let upstream = Upstream::guarded_by(None, &issuer).await.unwrap();
        let client = Client::plain(upstream.address());
        let answer = client.send("GET", "/", &[], "").await.unwrap();
        assert_eq!(
            (answer.status, answer.field("www-authenticate")),
            (401, Some("Bearer realm=\"upstream\""))
        );
        let answer = client
            .send("GET", "/", &[("authorization", "Bearer made-up")], "")
            .await
            .unwrap();
        assert_eq!(
            answer.field("www-authenticate"),
            Some("Bearer realm=\"upstream\", error=\"invalid_token\"")
        );
        assert_eq!(upstream.refusals(), 2);
    }

    #[tokio::test]
    async fn lengths_and_streams_are_as_long_as_asked() {
        let upstream = Upstream::open(None).await.unwrap();
        let client = Client::plain(upstream.address());
        let whole = client.send("GET", "/bytes/40000", &[], "").await.unwrap();
        assert_eq!(
            (whole.body.len(), whole.field("content-length")),
            (40_000, Some("40000"))
        );
        let chunked = client
            .send("GET", "/stream/5?every=1", &[], "")
            .await
            .unwrap();
        assert_eq!(
            (chunked.body.len(), chunked.field("transfer-encoding")),
            (5 * 1024, Some("chunked"))
        );
        let empty = client.send("GET", "/stream/0", &[], "").await.unwrap();
        assert_eq!(empty.body.len(), 0);
    }

    #[tokio::test]
    async fn the_small_pages_answer() {
        let upstream = Upstream::open(None).await.unwrap();
        let client = Client::plain(upstream.address());
        assert_eq!(
            client
                .send("GET", "/status/418", &[], "")
                .await
                .unwrap()
                .status,
            418
        );
        assert_eq!(
            client
                .send("GET", "/redirect", &[], "")
                .await
                .unwrap()
                .field("location"),
            Some("https://elsewhere.example/")
        );
        let echo = client
            .send("POST", "/echo", &[("content-type", "text/plain")], "hello")
            .await
            .unwrap();
        assert_eq!(
            (&echo.body[..], echo.field("content-type")),
            (&b"hello"[..], Some("text/plain"))
        );
        let echo = client
            .send("POST", "/echo/stream", &[], "hello")
            .await
            .unwrap();
        assert_eq!(&echo.body[..], b"hello");
        let trailers = client
            .send("GET", "/trailers", &[("te", "trailers")], "")
            .await
            .unwrap();
        assert_eq!(trailers.trailer("x-checksum"), Some("abc"));
    }

    #[tokio::test]
    async fn faults_come_in_the_order_they_were_ordered() {
        let upstream = Upstream::open(None).await.unwrap();
        let client = Client::plain(upstream.address());
        upstream
            .faults()
            .always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
        upstream.faults().once(Fault::Reset);
        upstream.faults().once(Fault::raw("text/html", "<html>"));
        upstream.faults().once(Fault::CutShort);
        upstream.faults().once(Fault::Unauthorized);
        client.send("GET", "/", &[], "").await.unwrap_err();
        assert_eq!(
            client
                .send("GET", "/", &[], "")
                .await
                .unwrap()
                .field("content-type"),
            Some("text/html")
        );
        client.send("GET", "/", &[], "").await.unwrap_err();
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 401);
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 503);
        upstream.faults().clear();
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn an_early_refusal_does_not_wait_for_the_body() {
        let upstream = Upstream::guarded(None, |_| false).await.unwrap();
        upstream.refuse_early(true);
        let client = Client::plain(upstream.address());
        let answer = client
            .send("POST", "/", &[("content-length", "100000")], "")
            .await
            .unwrap();
        assert_eq!(answer.status, 401);
    }
}
