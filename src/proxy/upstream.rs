//! Sends a request to the upstream that its route names, and to no other.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::answer::{self, UpstreamAnswer};
use super::peek::Peekable;
use super::problem::ProxyError;
use super::replay::{RequestBody, Upload, UploadError};
use crate::net::connect::Endpoint;
use crate::net::inbound::Inbound;
use crate::net::pool::{Connection, NoAnswer, Pool};

/// One route's upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Where to connect.
    pub endpoint: Arc<Endpoint>,
    /// The `Host` field's value.
    pub host: HeaderValue,
    /// What the rest of the path is appended to; empty, or beginning and not ending with a slash.
    pub base_path: String,
}

impl Upstream {
    /// The target that the upstream sees: base path, the rest of the path, the query.
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadTarget`] when that is no target.
    pub fn target(&self, rest: &str, query: Option<&str>) -> Result<Uri, ProxyError> {
        let mut target = String::with_capacity(
            self.base_path.len() + rest.len() + query.map_or(0, str::len) + 2,
        );
        target.push_str(&self.base_path);
        target.push_str(rest);
        if target.is_empty() {
            target.push('/');
        }
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        PathAndQuery::from_maybe_shared(target)
            .map(Uri::from)
            .map_err(|_| ProxyError::BadTarget("the path is no request target"))
    }
}

/// Everything about sending that stays the same from one attempt to the next.
#[derive(Debug)]
pub struct Sending<'a> {
    /// The worker's connections.
    pub pool: &'a Rc<Pool<RequestBody>>,
    /// Where interim answers are collected while a connection is polled.
    pub interim: &'a Interim,
    /// Where interim answers go; nowhere for an app that does not know them (HTTP/1.0).
    pub inbound: Option<&'a Inbound>,
    /// To whom.
    pub upstream: &'a Upstream,
    /// The request's method.
    pub method: &'a Method,
    /// The target that the upstream sees.
    pub target: Uri,
    /// The request's body.
    pub upload: &'a Upload,
    /// Time from the end of the request to the head of the answer.
    pub response_time: Duration,
}

impl Sending<'_> {
    /// Sends the request with the head that `write` makes and waits for the head of the answer.
    ///
    /// A connection that turns out to be closed before a byte was written, or under an idempotent request, costs nothing
    /// but a new connection. Nothing else is ever sent twice.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn send(
        &self,
        write: impl Fn() -> Result<HeaderMap, ProxyError>,
    ) -> Result<UpstreamAnswer, ProxyError> {
        if let Some(connection) = self.pool.take(&self.upstream.endpoint) {
            match self.send_on(connection, write()?).await {
                Err(ProxyError::Send(error))
                    if error.is_reused
                        && (!error.is_written || self.method.is_idempotent())
                        && self.upload.is_replayable() => {}
                answered => return answered,
            }
        }
        let connection = self.pool.connect(&self.upstream.endpoint).await?;
        self.send_on(connection, write()?).await
    }

    async fn send_on(
        &self,
        connection: Connection<RequestBody>,
        headers: HeaderMap,
    ) -> Result<UpstreamAnswer, ProxyError> {
        let mut request = Request::new(self.upload.attempt());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        self.interim.collect_from(&mut request);
        let sent_at = Instant::now();
        // An upload that still moves, or waits for the app, is not an upstream that is late.
        let deadline = || {
            self.upload
                .moved_at()
                .map_or(sent_at, |moved| moved.max(sent_at))
                + self.response_time
        };
        let answer = connection
            .send(request, deadline, || self.interim.pass_on(self.inbound))
            .await
            .map_err(|error| match (error, self.upload.failure()) {
                (NoAnswer::Late, _) => ProxyError::UpstreamTimeout(self.response_time),
                (NoAnswer::Broken(_), Some(UploadError::Idle)) => ProxyError::RequestIdle,
                (NoAnswer::Broken(_), Some(_)) => {
                    ProxyError::RequestBody("the request body broke off")
                }
                (NoAnswer::Broken(error), None) => ProxyError::Send(error),
            })?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for it: the bytes that follow are in no protocol that we know.
            return Err(ProxyError::BadAnswer);
        }
        Ok(answer.map(Peekable::from))
    }
}

/// Interim answers, from where hyper tells them to where they can be written.
///
/// A connection is polled and its interim answers passed on in one go, on one thread: those of two requests never meet.
#[derive(Clone, Debug)]
pub struct Interim {
    collected: Arc<Collected>,
    /// What makes hyper tell of them. Copied to each request, which costs less than to make it anew.
    extensions: Extensions,
}

#[derive(Debug, Default)]
struct Collected {
    /// Looked at first: nearly no upstream sends any, and no request takes a lock to learn that.
    any: AtomicBool,
    answers: Mutex<Vec<(StatusCode, HeaderMap)>>,
}

impl Collected {
    // A std mutex: held for a push or a drain, and only where there is an interim answer.
    fn lock(&self) -> MutexGuard<'_, Vec<(StatusCode, HeaderMap)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Interim {
    fn default() -> Self {
        let collected = Arc::<Collected>::default();
        let mut request = Request::new(());
        let seen = Arc::clone(&collected);
        hyper::ext::on_informational(&mut request, move |answer| {
            // 100 is between pillion and each of its neighbours; it has told the app already.
            if answer.status() != StatusCode::CONTINUE {
                let answer = (answer.status(), answer.headers().clone());
                seen.lock().push(answer);
                seen.any.store(true, Ordering::Relaxed);
            }
        });
        Self {
            collected,
            extensions: std::mem::take(request.extensions_mut()),
        }
    }
}

impl Interim {
    fn collect_from<B>(&self, request: &mut Request<B>) {
        request.extensions_mut().clone_from(&self.extensions);
    }

    fn pass_on(&self, inbound: Option<&Inbound>) {
        if !self.collected.any.load(Ordering::Relaxed) {
            return;
        }
        self.collected.any.store(false, Ordering::Relaxed);
        for (status, headers) in self.collected.lock().drain(..) {
            if let Some(inbound) = inbound {
                inbound.send_interim(&answer::interim_bytes(status, &headers));
            }
        }
    }
}
