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
use tokio::time::timeout;

use super::review;
use super::sidecar::Sidecar;
use crate::net::tls_listen::TlsListener;

type Answer = Response<Full<Bytes>>;

/// Serves `listener` until `stop` says true; then what is under way is finished, within ten seconds. Until then it goes on
/// accepting: whoever stops it lets some time pass first, in which the Service forgets it.
pub async fn serve(listener: TlsListener, defaults: Sidecar, mut stop: watch::Receiver<bool>) {
    let defaults = Arc::new(defaults);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    tokio::select! {
        () = listener.follow() => {}
        () = accept(&listener, &defaults, &places, &stopping, &mut connections) => {}
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
    defaults: &Arc<Sidecar>,
    places: &Arc<Semaphore>,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        let handshake = listener.accept().await;
        let (defaults, mut stop) = (Arc::clone(defaults), stop.clone());
        connections.spawn(async move {
            let Some(tls) = handshake.await else { return };
            let service = service_fn(|request| async {
                Ok::<_, Infallible>(answer(request, &defaults).await)
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

async fn answer(request: Request<Incoming>, defaults: &Sidecar) -> Answer {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/livez" | "/readyz" if !reads => not_allowed("GET, HEAD"),
        "/livez" | "/readyz" => text(StatusCode::OK, "ok\n"),
        "/mutate" if *request.method() != Method::POST => not_allowed("POST"),
        "/mutate" => match timeout(BODY_TIME, mutate(request, defaults)).await {
            Ok(answer) => answer,
            Err(_) => text(
                StatusCode::REQUEST_TIMEOUT,
                "the review did not arrive in time\n",
            ),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there is POST /mutate, /livez and /readyz\n",
        ),
    }
}

async fn mutate(request: Request<Incoming>, defaults: &Sidecar) -> Answer {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/json\n",
        );
    }
    let body = match Limited::new(request.into_body(), MAX_REVIEW_BYTES)
        .collect()
        .await
    {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "a review has at most 8 MiB\n",
            );
        }
        Err(_) => return text(StatusCode::BAD_REQUEST, "the review broke off\n"),
    };
    match review::answer(&body, defaults) {
        Err(error) => {
            tracing::warn!(%error, "a request that is no review");
            text(StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
        Ok(review) => {
            let mut answer = text(StatusCode::OK, review.to_string());
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(CONTENT_TYPE, json);
            answer
        }
    }
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(ALLOW, allowed);
    answer
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
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
