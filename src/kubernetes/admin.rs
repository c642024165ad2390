//! The webhook's second listener, in plain HTTP: for probes and for Prometheus.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::webhook::{Answer, not_allowed, text};
use crate::metrics::reviews::Reviews;
use crate::net::listen::Listener;

/// Serves `listener`, for ever.
pub async fn serve(listener: Listener, reviews: Reviews) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let tcp = listener.accept().await;
        let reviews = reviews.clone();
        tokio::spawn(async move {
            let Ok(tcp) = TcpStream::from_std(tcp) else {
                return;
            };
            let service =
                service_fn(|request| ready(Ok::<_, Infallible>(answer(&request, &reviews))));
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(tcp), service)
                .await
                .ok();
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, reviews: &Reviews) -> Answer {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/livez" | "/readyz" | "/metrics" if !reads => not_allowed("GET, HEAD"),
        "/livez" | "/readyz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => {
            let mut answer = text(StatusCode::OK, reviews.render());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there is /livez, /readyz and /metrics\n",
        ),
    }
}

/// A probe and a scraper or two; nobody else should be here.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIME: Duration = Duration::from_secs(10);
