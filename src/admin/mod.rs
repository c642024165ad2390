//! The second listener: for probes, for Prometheus and for people. Never on the data port, never a secret.

mod accept;
mod page;
pub mod status;
mod text;
pub mod traffic;
pub(crate) mod words;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use self::accept::Wanted;
use self::status::Identity;
use self::words::Overview;
use crate::clock::Moment;
use crate::config::reload::ConfigFile;
use crate::log;
use crate::metrics::Metrics;
use crate::net::listen::Listener;
use crate::provider::Subject;
use crate::proxy::Proxy;
use crate::proxy::caller::CallerRules;
use crate::token::TokenError;
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
            "/status" => self.status(Wanted::by(request.headers()), peer),
            "/log" if reads => tell_level(Wanted::by(request.headers())),
            "/log" => match refusal(request, &[Method::PUT, Method::POST], peer, local) {
                Some(refusal) => refusal,
                None => set_level(request),
            },
            "/quitquitquit" => match refusal(request, &[Method::POST], peer, local) {
                Some(refusal) => refusal,
                None => {
                    self.quit.notify_one();
                    text(StatusCode::OK, "stopping\n")
                }
            },
            _ => match renewal(path) {
                Some(provider) => match refusal(request, &[Method::POST], peer, local) {
                    Some(refusal) => refusal,
                    None => {
                        let renewal = self.renew(provider).await;
                        renewal.answer(provider, Wanted::by(request.headers()))
                    }
                },
                None => text(
                    StatusCode::NOT_FOUND,
                    "there is /livez, /readyz, /metrics, /status, /log, POST /tokens/PROVIDER/renew and POST /quitquitquit\n",
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

    fn status(&self, wanted: Wanted, peer: SocketAddr) -> Answer {
        let status = self
            .identity
            .status(&self.proxy.plan(), &self.config, Moment::now());
        let mut answer = match wanted {
            Wanted::Json => json(StatusCode::OK, &status),
            Wanted::Text => text(StatusCode::OK, text::render(&Overview::of(status))),
            Wanted::Page => {
                let may_renew = peer.ip().is_loopback();
                page(page::render(&Overview::of(status), may_renew))
            }
        };
        let headers = answer.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }

    async fn renew(&self, name: &str) -> Renewal {
        let plan = self.proxy.plan();
        let mut found = Vec::new();
        for tokens in &plan.providers {
            if *tokens.provider().name == *name {
                found.push(tokens);
            }
        }
        if found.is_empty() {
            return Renewal::Unknown;
        }
        for tokens in found {
            if !tokens.provider().inputs.is_empty() {
                return Renewal::OfEachSubject;
            }
            if let Err(error) = tokens.force(&Subject::default(), Moment::now()).await {
                return Renewal::Failed(error);
            }
        }
        Renewal::Done
    }
}

/// What became of asking for a new token.
enum Renewal {
    Done,
    Unknown,
    OfEachSubject,
    Failed(TokenError),
}

impl Renewal {
    fn answer(&self, provider: &str, wanted: Wanted) -> Answer {
        let (status, words) = match self {
            Self::Done => (StatusCode::OK, "renewed".to_owned()),
            Self::Unknown => (
                StatusCode::NOT_FOUND,
                "there is no such provider".to_owned(),
            ),
            Self::OfEachSubject => (
                StatusCode::CONFLICT,
                "this provider has a token for each subject: they are renewed as they are used"
                    .to_owned(),
            ),
            Self::Failed(error) => (StatusCode::BAD_GATEWAY, format!("not renewed: {error}")),
        };
        match (wanted, self) {
            // The page tells what came of it.
            (Wanted::Page, Self::Done | Self::Failed(_)) => see_status(),
            (Wanted::Json, _) => {
                let renewed = matches!(self, Self::Done);
                let told = json!({ "provider": provider, "renewed": renewed, "detail": words });
                json(status, &told)
            }
            (Wanted::Page | Wanted::Text, _) => text(status, words + "\n"),
        }
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

fn tell_level(wanted: Wanted) -> Answer {
    let level = log::level().map(log::name);
    match wanted {
        Wanted::Json => json(StatusCode::OK, &json!({ "level": level })),
        Wanted::Page | Wanted::Text => {
            let level = level.unwrap_or("nothing is logged");
            text(StatusCode::OK, format!("{level}\n"))
        }
    }
}

fn set_level(request: &Request<Incoming>) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    let wanted = query.strip_prefix("level=");
    let mut levels = log::LEVELS.iter();
    let Some((name, level)) = levels.find(|(name, _)| Some(*name) == wanted) else {
        let names = log::LEVELS.map(|(name, _)| name).join(", ");
        return text(
            StatusCode::BAD_REQUEST,
            format!("write /log?level=LEVEL, which is one of {names}\n"),
        );
    };
    log::set_level(*level);
    tracing::info!(level = name, "log level set");
    tell_level(Wanted::by(request.headers()))
}

// Whoever may look may not act: only this machine, by these methods, and no web page in a browser on it but our own.
fn refusal(
    request: &Request<Incoming>,
    methods: &[Method],
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<Answer> {
    if !methods.contains(request.method()) {
        return Some(not_allowed(if methods.len() > 1 {
            "GET, HEAD, POST, PUT"
        } else {
            "POST"
        }));
    }
    if !peer.ip().is_loopback() {
        return Some(text(StatusCode::FORBIDDEN, "from this machine only\n"));
    }
    let (version, uri, headers) = (request.version(), request.uri(), request.headers());
    if let Err(foreign) = CallerRules::default().check(version, uri, headers, Some(local)) {
        return Some(text(StatusCode::FORBIDDEN, format!("{foreign}\n")));
    }
    let told = "a page of another origin asks for this\n";
    (!is_same_origin(request.headers())).then(|| text(StatusCode::FORBIDDEN, told))
}

// Stricter than for the app: what another port of this machine serves is a stranger here.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    let has_good_site = site.is_none_or(|site| site == "same-origin" || site == "none");
    let (origin, host) = (headers.get(ORIGIN), headers.get(HOST));
    let is_host = |origin: &HeaderValue| {
        let authority = origin.as_bytes().strip_prefix(b"http://");
        authority.is_some() && authority == host.map(HeaderValue::as_bytes)
    };
    has_good_site && origin.is_none_or(is_host)
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

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // What has strings for keys and no map of its own cannot fail.
    let document = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut answer = text(status, document + "\n");
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn page(document: String) -> Answer {
    let mut answer = text(StatusCode::OK, document);
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, page::policy()),
        // Without any, the browser would not say where a form comes from.
        (REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn see_status() -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "see /status\n");
    let place = HeaderValue::from_static("/status");
    answer.headers_mut().insert(LOCATION, place);
    answer
}

/// A probe and a scraper or two; nobody else should be here.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIME: Duration = Duration::from_secs(10);
