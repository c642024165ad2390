//! Sends a request to the upstream that its route names, and to no other.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use tokio::time::Instant;

use super::answer::{self, Tell, UpstreamAnswer};
use super::attach::Writing;
use super::peek::Peekable;
use super::problem::ProxyError;
use super::replay::{RequestBody, Upload, UploadError};
use crate::clock::Moment;
use crate::net::body::EitherBody;
use crate::net::connect::{Endpoint, HttpVersion};
use crate::net::multiplex::{Connected, Multiplex};
use crate::net::pool::{Connection, NoAnswer, Pool, RequestHead};
use crate::net::stream::{self, Stream};

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
    /// The target that the upstream sees: base path, the rest of the path, the query. Both come from a
    /// [`Target`](super::target::Target), so they are fit for a request line.
    #[must_use]
    pub fn target<'a>(&self, rest: &'a str, query: Option<&str>) -> Cow<'a, str> {
        if self.base_path.is_empty() && query.is_none() && !rest.is_empty() {
            return rest.into();
        }
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
        target.into()
    }

    /// The same with scheme and authority, as HTTP/2 has it.
    fn absolute(&self, target: &str) -> Result<Uri, ProxyError> {
        let scheme = match self.endpoint.settings().tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        Uri::builder()
            .scheme(scheme)
            .authority(self.host.as_bytes())
            .path_and_query(target)
            .build()
            .map_err(|_| ProxyError::BadTarget("the path is no request target"))
    }
}

/// Everything about sending that stays the same from one attempt to the next.
pub struct Sending<'a> {
    /// The worker's connections.
    pub pool: &'a Rc<Pool<RequestBody>>,
    /// Those of HTTP/2.
    pub multiplex: &'a Rc<Multiplex>,
    /// Where interim answers go; nowhere for an app that does not know them (HTTP/1.0).
    pub tell: Option<Tell<'a>>,
    /// To whom.
    pub upstream: &'a Upstream,
    /// The request's method.
    pub method: &'a Method,
    /// The target that the upstream sees.
    pub target: &'a str,
    /// The request's body.
    pub upload: &'a Upload,
    /// It asks for an upgrade, which HTTP/2 does not have.
    pub wants_upgrade: bool,
    /// Time from the end of the request to the head of the answer.
    pub response_time: Duration,
}

impl Sending<'_> {
    /// Sends the request with the head that `writing` makes, `now`, and waits for the head of the answer.
    ///
    /// A connection that turns out to be closed before a byte was written, or under an idempotent request, costs nothing
    /// but a new connection. Nothing else is ever sent twice.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn send(
        &self,
        writing: Writing<'_>,
        now: Moment,
    ) -> Result<UpstreamAnswer, ProxyError> {
        let endpoint = &self.upstream.endpoint;
        if self.wants_upgrade && endpoint.version() != HttpVersion::Http1 {
            // In a box, like all that is rare: hyper moves the whole of a request's future, 2.8 KiB, and 4.4 with this.
            let transport = Box::pin(endpoint.connect_in_http1()).await?;
            let connection = self.pool.adopt(endpoint, transport);
            return self.send_on(connection, writing).await;
        }
        if self.multiplex.knows(endpoint) {
            return Box::pin(self.send_http2(writing)).await;
        }
        if let Some(connection) = self.pool.take(endpoint, now) {
            match self.send_on(connection, writing).await {
                Err(ProxyError::Send(error))
                    if error.is_reused
                        && (!error.is_written || self.method.is_idempotent())
                        && self.upload.is_replayable() => {}
                answered => return answered,
            }
        }
        if endpoint.version() != HttpVersion::Http1 {
            return Box::pin(self.send_http2(writing)).await;
        }
        let connection = Box::pin(self.pool.connect(endpoint)).await?;
        self.send_on(connection, writing).await
    }

    /// The same to an upstream that speaks HTTP/2, as far as it is known; if it turns out not to, in HTTP/1.1.
    ///
    /// A request that the upstream has certainly not begun with is sent on another connection, whatever it is.
    async fn send_http2(&self, writing: Writing<'_>) -> Result<UpstreamAnswer, ProxyError> {
        let endpoint = &self.upstream.endpoint;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let stream = match self.multiplex.take(endpoint) {
                Some(stream) => stream,
                None => match self.multiplex.connect(endpoint).await? {
                    Connected::Http2(stream) => stream,
                    Connected::Http1(transport) => {
                        let connection = self.pool.adopt(endpoint, transport);
                        return self.send_on(connection, writing).await;
                    }
                },
            };
            let headers = writing.write()?.to_headers();
            match self.send_on_stream(stream, headers).await {
                Err(ProxyError::Stream(error))
                    if attempts < MOST_ATTEMPTS
                        && (!error.is_processed
                            || error.is_reused
                                && error.is_lost()
                                && self.method.is_idempotent())
                        && self.upload.is_replayable() => {}
                answered => return answered,
            }
        }
    }

    async fn send_on_stream(
        &self,
        stream: Stream,
        mut headers: HeaderMap,
    ) -> Result<UpstreamAnswer, ProxyError> {
        let body = self.upload.attempt();
        // What HTTP/2 says otherwise (RFC 9113 §8.2.2, §8.3.1).
        for name in [HOST, CONNECTION] {
            headers.remove(name);
        }
        if let Some(length) = body.size_hint().exact()
            && (length > 0 || has_content(self.method))
        {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.upstream.absolute(self.target)?;
        *request.headers_mut() = headers;
        let sent_at = Instant::now();
        let answer = stream
            .send(
                request,
                || self.deadline(sent_at),
                |status, headers| self.pass_on(status, headers),
            )
            .await
            .map_err(|error| match (error, self.upload.failure()) {
                (stream::NoAnswer::Late, _) => ProxyError::UpstreamTimeout(self.response_time),
                (stream::NoAnswer::Ended(_), Some(UploadError::Idle)) => ProxyError::RequestIdle,
                (stream::NoAnswer::Ended(_), Some(_)) => {
                    ProxyError::RequestBody("the request body broke off")
                }
                (stream::NoAnswer::Ended(error), None) => ProxyError::Stream(error),
            })?;
        Ok(answer.map(|body| Peekable::from(EitherBody::Http2(Box::new(body)))))
    }

    /// An upload that still moves, or waits for the app, is not an upstream that is late.
    fn deadline(&self, sent_at: Instant) -> Instant {
        let moved_at = self.upload.moved_at();
        moved_at.map_or(sent_at, |moved| moved.max(sent_at)) + self.response_time
    }

    async fn send_on(
        &self,
        connection: Box<Connection<RequestBody>>,
        writing: Writing<'_>,
    ) -> Result<UpstreamAnswer, ProxyError> {
        let sent_at = Instant::now();
        let sending = {
            let written = writing.write()?;
            let head = RequestHead {
                method: self.method,
                target: self.target,
                host: written.host,
                headers: written.sent,
                more: &written.set,
            };
            connection.send(
                &head,
                self.upload.attempt(),
                || self.deadline(sent_at),
                |status, headers| self.pass_on(status, headers),
            )
        };
        let answer = sending
            .await
            .map_err(|error| match (error, self.upload.failure()) {
                (NoAnswer::Late, _) => ProxyError::UpstreamTimeout(self.response_time),
                (NoAnswer::Broken(_), Some(UploadError::Idle)) => ProxyError::RequestIdle,
                (NoAnswer::Broken(_), Some(_)) => {
                    ProxyError::RequestBody("the request body broke off")
                }
                (NoAnswer::Broken(error), None) => ProxyError::Send(error),
            })?;
        Ok(answer.map(|body| Peekable::from(EitherBody::Http1(body))))
    }

    /// Passes an interim answer on to an app that knows such.
    fn pass_on(&self, status: StatusCode, headers: &HeaderMap) {
        // 100 is between pillion and each of its neighbours: whoever waits for it in HTTP/1.1 has been told already.
        if status != StatusCode::CONTINUE
            && let Some(tell) = self.tell
        {
            tell(answer::interim(status, headers));
        }
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("method", &self.method)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

/// Whether a request of this method says so if it has no content (RFC 9110 §8.6).
fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// How often a request is sent that the upstream has not begun with.
const MOST_ATTEMPTS: u32 = 3;
