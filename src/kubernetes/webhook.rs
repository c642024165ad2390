//! The server that the API server asks about new pods.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::review;
use super::sidecar::Sidecar;
use crate::metrics::reviews::{ReviewOutcome, Reviews};
use crate::net::tls_listen::TlsListener;

/// What reviews are answered from.
#[derive(Debug)]
pub struct Webhook {
    /// What a sidecar is like where its pod says nothing else.
    pub defaults: Sidecar,
    /// What is counted.
    pub reviews: Reviews,
}

pub(super) type Answer = Response<Full<Bytes>>;

/// Serves `listener` until `stop` says true; then what is under way is finished, within ten seconds. Until then it goes on
/// accepting: whoever stops it lets some time pass first, in which the Service forgets it.
pub async fn serve(listener: TlsListener, webhook: Webhook, mut stop: watch::Receiver<bool>) {
    let webhook = Arc::new(webhook);
    let tell_expiration = || {
        let end = listener.expiration().unwrap_or_default();
        webhook.reviews.certificate_expires(end);
    };
    tell_expiration();
    let reloaded = |is_loaded| {
        webhook.reviews.certificate_reloaded(is_loaded);
        tell_expiration();
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    tokio::select! {
        () = listener.follow(reloaded) => {}
        () = accept(&listener, &webhook, &places, &stopping, &mut connections) => {}
        () = stopped(&mut stop) => {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(FINISH_TIME, ended).await.is_err() {
        tracing::warn!("connections are cut off");
    }
}

async fn accept(
    listener: &TlsListener,
    webhook: &Arc<Webhook>,
    places: &Arc<Semaphore>,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        let handshake = listener.accept().await;
        let (webhook, mut stop) = (Arc::clone(webhook), stop.clone());
        connections.spawn(async move {
            let Some(tls) = handshake.await else { return };
            let service = service_fn(|request| async {
                Ok::<_, Infallible>(answer(request, &webhook).await)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(tls), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await.ok();
                }
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

// Also when whoever would stop it is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn answer(request: Request<Incoming>, webhook: &Webhook) -> Answer {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/livez" | "/readyz" if !reads => not_allowed("GET, HEAD"),
        "/livez" | "/readyz" => text(StatusCode::OK, "ok\n"),
        "/mutate" if *request.method() != Method::POST => not_allowed("POST"),
        "/mutate" => {
            let began = Instant::now();
            let (outcome, answer) = match mutate(request, &webhook.defaults).await {
                Ok(answered) => answered,
                Err(refusal) => (ReviewOutcome::Failed, refusal),
            };
            webhook.reviews.answered(outcome, began.elapsed());
            answer
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there is POST /mutate, /livez and /readyz\n",
        ),
    }
}

/// What became of a review, and the answer; `Err` where there was none to be answered.
async fn mutate(
    request: Request<Incoming>,
    defaults: &Sidecar,
) -> Result<(ReviewOutcome, Answer), Answer> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return Err(text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/json\n",
        ));
    }
    let body = Limited::new(request.into_body(), MAX_REVIEW_BYTES).collect();
    let body = match timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "a review has at most 8 MiB\n",
            ));
        }
        Ok(Err(_)) => return Err(text(StatusCode::BAD_REQUEST, "the review broke off\n")),
        Err(_) => {
            return Err(text(
                StatusCode::REQUEST_TIMEOUT,
                "the review did not arrive in time\n",
            ));
        }
    };
    let (outcome, review) = review::answer(&body, defaults).map_err(|error| {
        tracing::warn!(%error, "a request that is no review");
        text(StatusCode::BAD_REQUEST, format!("{error}\n"))
    })?;
    let mut answer = text(StatusCode::OK, review.to_string());
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    Ok((outcome, answer))
}

pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(ALLOW, allowed);
    answer
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

/// An API server keeps a few connections; a cluster has a handful of API servers.
const MAX_CONNECTIONS: usize = 256;
/// A pod may have 3 MiB of JSON, and a review may hold it twice.
const MAX_REVIEW_BYTES: usize = 8 << 20;
const HEAD_TIME: Duration = Duration::from_secs(90);
const BODY_TIME: Duration = Duration::from_secs(10);
const FINISH_TIME: Duration = Duration::from_secs(10);
