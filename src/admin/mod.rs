//! The second listener: for probes, for Prometheus and for people. Never on the data port, never a secret.

pub mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use self::status::Identity;
use crate::clock::Moment;
use crate::config::reload::ConfigFile;
use crate::metrics::Metrics;
use crate::net::listen::Listener;
use crate::provider::Subject;
use crate::proxy::Proxy;
use crate::proxy::caller::CallerRules;
use crate::token::Tokens;

/// What the admin listener shows and can be asked to do.
#[derive(Debug)]
pub struct Admin {
    /// Whose plan and tokens are shown.
    pub proxy: Arc<Proxy>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the plan comes from.
    pub config: Arc<ConfigFile>,
    /// Which process this is.
    pub identity: Identity,
    /// Told when somebody asks the process to quit.
    pub quit: Arc<Notify>,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Serves `listener`, for ever.
    pub async fn serve(self: Arc<Self>, listener: Listener) {
        let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let tcp = listener.accept().await;
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                if let Ok(tcp) = TcpStream::from_std(tcp) {
                    admin.serve_connection(tcp).await;
                }
                drop(place);
            });
        }
    }

    async fn serve_connection(&self, tcp: TcpStream) {
        let (Ok(peer), Ok(local)) = (tcp.peer_addr(), tcp.local_addr()) else {
            return;
        };
        let service = service_fn(|request| async move {
            Ok::<_, Infallible>(self.answer(&request, peer, local).await)
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(tcp), service)
            .await
            .ok();
    }

    async fn answer(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Answer {
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/livez" | "/readyz" | "/metrics" | "/status" if !reads => not_allowed("GET, HEAD"),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.render_metrics(),
            "/status" => self.status(),
            "/quitquitquit" => match refusal(request, peer, local) {
                Some(refusal) => refusal,
                None => {
                    self.quit.notify_one();
                    text(StatusCode::OK, "stopping\n")
                }
            },
            _ => match renewal(path) {
                Some(provider) => match refusal(request, peer, local) {
                    Some(refusal) => refusal,
                    None => self.renew(provider).await,
                },
                None => text(
                    StatusCode::NOT_FOUND,
                    "there is /livez, /readyz, /metrics, /status, POST /tokens/PROVIDER/renew and POST /quitquitquit\n",
                ),
            },
        }
    }

    fn ready(&self) -> Answer {
        let plan = self.proxy.plan();
        let waiting: Vec<&str> = plan
            .providers
            .iter()
            .filter(|tokens| is_awaited(tokens))
            .map(|tokens| &*tokens.provider().name)
            .collect();
        if waiting.is_empty() {
            text(StatusCode::OK, "ok\n")
        } else {
            let waiting = waiting.join(", ");
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("waiting for the first token of {waiting}\n"),
            )
        }
    }

    fn render_metrics(&self) -> Answer {
        let providers = &self.proxy.plan().providers;
        crate::token::status::observe(providers, Moment::now());
        let is_ready = !providers.iter().any(|tokens| is_awaited(tokens));
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.metrics
            .observe(is_ready, since_epoch.unwrap_or_default());
        let mut answer = text(StatusCode::OK, self.metrics.render());
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    fn status(&self) -> Answer {
        let status = self
            .identity
            .status(&self.proxy.plan(), &self.config, Moment::now());
        let document = serde_json::to_string_pretty(&status).unwrap_or_default();
        let mut answer = text(StatusCode::OK, document + "\n");
        let kind = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    async fn renew(&self, name: &str) -> Answer {
        let plan = self.proxy.plan();
        let mut found = Vec::new();
        for tokens in &plan.providers {
            if *tokens.provider().name == *name {
                found.push(tokens);
            }
        }
        if found.is_empty() {
            return text(StatusCode::NOT_FOUND, "there is no such provider\n");
        }
        for tokens in found {
            if !tokens.provider().inputs.is_empty() {
                return text(
                    StatusCode::CONFLICT,
                    "this provider has a token for each subject: they are renewed as they are used\n",
                );
            }
            if let Err(error) = tokens.force(&Subject::default(), Moment::now()).await {
                return text(StatusCode::BAD_GATEWAY, format!("not renewed: {error}\n"));
            }
        }
        text(StatusCode::OK, "renewed\n")
    }
}

/// Whether nothing is ready before this provider's first token.
fn is_awaited(tokens: &Tokens) -> bool {
    tokens.provider().policy.warm && !tokens.has_had_token()
}

fn renewal(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/tokens/")?.strip_suffix("/renew")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

// Whoever may look may not act: only this machine, by POST, and no web page in a browser on it.
fn refusal(request: &Request<Incoming>, peer: SocketAddr, local: SocketAddr) -> Option<Answer> {
    if *request.method() != Method::POST {
        return Some(not_allowed("POST"));
    }
    if !peer.ip().is_loopback() {
        return Some(text(StatusCode::FORBIDDEN, "from this machine only\n"));
    }
    let foreign = CallerRules::default().check(request, Some(local)).err()?;
    Some(text(StatusCode::FORBIDDEN, format!("{foreign}\n")))
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A probe and a scraper or two; nobody else should be here.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIME: Duration = Duration::from_secs(10);
