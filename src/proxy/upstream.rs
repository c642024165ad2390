//! Sends a request to the upstream that its route names, and to no other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::answer::{self, UpstreamAnswer};
use super::peek::Peekable;
use super::problem::ProxyError;
use super::replay::{RequestBody, Upload, UploadError};
use crate::net::connect::Endpoint;
use crate::net::inbound::Inbound;
use crate::net::pool::{Connection, NoAnswer, Pool, RequestHead};

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
    pub fn target(&self, rest: &str, query: Option<&str>) -> String {
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
        target
    }
}

/// Everything about sending that stays the same from one attempt to the next.
#[derive(Debug)]
pub struct Sending<'a> {
    /// The worker's connections.
    pub pool: &'a Rc<Pool<RequestBody>>,
    /// Where interim answers go; nowhere for an app that does not know them (HTTP/1.0).
    pub inbound: Option<&'a Inbound>,
    /// To whom.
    pub upstream: &'a Upstream,
    /// The request's method.
    pub method: &'a Method,
    /// The target that the upstream sees.
    pub target: String,
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
        let head = RequestHead {
            method: self.method,
            target: &self.target,
            headers: &headers,
        };
        let sent_at = Instant::now();
        // An upload that still moves, or waits for the app, is not an upstream that is late.
        let deadline = || {
            self.upload
                .moved_at()
                .map_or(sent_at, |moved| moved.max(sent_at))
                + self.response_time
        };
        let answer = connection
            .send(head, self.upload.attempt(), deadline, |status, headers| {
                self.pass_on(status, headers);
            })
            .await
            .map_err(|error| match (error, self.upload.failure()) {
                (NoAnswer::Late, _) => ProxyError::UpstreamTimeout(self.response_time),
                (NoAnswer::Broken(_), Some(UploadError::Idle)) => ProxyError::RequestIdle,
                (NoAnswer::Broken(_), Some(_)) => {
                    ProxyError::RequestBody("the request body broke off")
                }
                (NoAnswer::Broken(error), None) => ProxyError::Send(error),
            })?;
        Ok(answer.map(Peekable::from))
    }

    /// Passes an interim answer on to an app that knows such.
    fn pass_on(&self, status: StatusCode, headers: &HeaderMap) {
        // 100 is between pillion and each of its neighbours; it has told the app already.
        if status != StatusCode::CONTINUE
            && let Some(inbound) = self.inbound
        {
            inbound.send_interim(&answer::interim_bytes(status, headers));
        }
    }
}
