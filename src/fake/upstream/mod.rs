//! A protected resource of nobody in particular, which remembers what it was sent.

mod pages;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::json;

use super::answer::{self, Answer};
use super::bearer::bearer;
use super::recent::Recent;
use super::{FakeError, Faults, HangUp, Received, Server, TokenEndpoint};

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
            return self.faulty_or(|| Ok(pages::echo_stream(request))).await;
        }
        let received = Received::read(request).await?;
        self.requests.push(received.clone());
        if !may_enter {
            return Ok(self.refuse(&received));
        }
        self.faulty_or(|| Ok(pages::page(&received))).await
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
