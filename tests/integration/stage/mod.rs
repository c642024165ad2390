//! What every test builds for itself: an identity provider, an upstream, and the proxy between them and the app.

mod client;
mod directory;
pub(crate) mod frames;
mod h2_server;
mod hostile;
mod http2;
mod process;
mod raw;
mod strict;
mod terminal;
mod tls;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Once};

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use pillion::cli::run::{self, Overlay, Running};
use pillion::fake::{Authority, IdentityProvider, Received, Rules, Upstream};
use pillion::provider::secret::{SecretRef, Secrets};
use rustls::ServerConfig;
use tokio::time::{Instant, sleep};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use self::client::{
    Body, Client, Reply, Wire, chunked, full, read_answer, request, within,
};
pub(crate) use self::directory::Directory;
pub(crate) use self::h2_server::{H2Server, content};
pub(crate) use self::hostile::{Hostile, Wrong};
pub(crate) use self::http2::{Http2, request2};
pub(crate) use self::process::{Process, as_user, pillion};
pub(crate) use self::raw::{Peer, Raw};
pub(crate) use self::strict::StrictUpstream;
pub(crate) use self::terminal::Terminal;
pub(crate) use self::tls::tls;

/// The secret of the one client.
pub(crate) const SECRET: &str = "CNRY-client-secret-5f0c";

/// A running proxy, with everything around it. Dropping it stops everything.
pub(crate) struct Stage {
    pub(crate) identity_provider: IdentityProvider,
    pub(crate) upstream: Upstream,
    /// Who signs for both, where they speak TLS.
    pub(crate) authority: Authority,
    pub(crate) directory: Directory,
    pub(crate) running: Running,
    /// The text of its proxy.toml.
    pub(crate) config: String,
}

/// A stage that is being set.
pub(crate) struct Setting {
    rules: Rules,
    top: String,
    provider: String,
    route: String,
    more: String,
    upstream_url: Option<String>,
    provider_url: Option<String>,
    tls: bool,
    http2: bool,
    unresolved: bool,
    guard: Option<Box<Guard>>,
    config_map: bool,
    directory: Directory,
}

type Guard = dyn Fn(&Received) -> bool + Send + Sync;

impl Stage {
    /// One provider and one route, at `/api`, to an upstream that only good tokens enter.
    pub(crate) async fn new() -> Self {
        Self::set().start().await
    }

    /// The same with these lines in its route.
    pub(crate) async fn with_route(lines: &str) -> Self {
        Self::set().route(lines).start().await
    }

    /// The same with these lines in its provider.
    pub(crate) async fn with_provider(lines: &str) -> Self {
        Self::set().provider(lines).start().await
    }

    /// A stage to be set otherwise.
    pub(crate) fn set() -> Setting {
        keep_listening();
        Setting {
            rules: Rules::by_the_book("app", SECRET),
            top: String::new(),
            provider: String::new(),
            route: String::new(),
            more: String::new(),
            upstream_url: None,
            provider_url: None,
            tls: false,
            http2: false,
            unresolved: false,
            guard: None,
            config_map: false,
            directory: Directory::new(),
        }
    }

    /// Where the app calls.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses[0]
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// An app that speaks HTTP/2.
    pub(crate) async fn http2(&self) -> Http2 {
        Http2::connect(self.address()).await
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.address()).await
    }

    /// A GET on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.client().await.get(path).await
    }

    /// A POST on a connection of its own.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.client().await.post(path, body).await
    }

    /// Any request, on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        self.client().await.send(request).await
    }

    /// These bytes, and everything that comes back until the proxy closes the connection.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut wire = self.wire().await;
        wire.write(bytes).await;
        wire.read_to_end().await
    }

    /// A request to the admin listener.
    pub(crate) async fn admin(&self, method: Method, path: &str) -> Reply {
        let mut client = Client::connect(self.running.admin).await;
        client
            .send(request(method, path).body(full("")).unwrap())
            .await
    }

    /// `/status` for programs.
    pub(crate) async fn status(&self) -> serde_json::Value {
        let mut client = Client::connect(self.running.admin).await;
        let get = request(Method::GET, "/status").header("accept", "application/json");
        let reply = client.send(get.body(full("")).unwrap()).await;
        reply.expect_ok().json()
    }

    /// The sum of all series that have these labels: `pillion_requests_total{route="api"}`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let reply = self.admin(Method::GET, "/metrics").await.expect_ok();
        sum(std::str::from_utf8(&reply.body).unwrap(), series)
    }

    /// Waits until a metric has this value: a request is counted when its answer has gone, not before.
    #[track_caller]
    pub(crate) fn expect_metric(&self, series: &str, value: f64) -> impl Future<Output = ()> {
        self.until_metric(series, move |seen| (seen - value).abs() < f64::EPSILON)
    }

    /// Waits until a metric is so.
    #[track_caller]
    pub(crate) fn until_metric(
        &self,
        series: &str,
        is_so: impl Fn(f64) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let seen = self.metric(series).await;
                if is_so(seen) {
                    return;
                }
                assert!(Instant::now() < deadline, "{series} is {seen} at {caller}");
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn until(&self, is_so: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !is_so(self) {
                assert!(Instant::now() < deadline, "never so: {caller}");
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

impl Setting {
    /// Other habits of the identity provider.
    pub(crate) fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    /// Tables other than the provider and the route, and keys above them.
    pub(crate) fn top(mut self, text: &str) -> Self {
        self.top = format!("{}{text}\n", self.top);
        self
    }

    /// Lines of the provider.
    pub(crate) fn provider(mut self, lines: &str) -> Self {
        self.provider = format!("{}{lines}\n", self.provider);
        self
    }

    /// Lines of the route. `path` and `upstream` replace what is there otherwise.
    pub(crate) fn route(mut self, lines: &str) -> Self {
        self.route = format!("{}{lines}\n", self.route);
        self
    }

    /// Further providers and routes.
    pub(crate) fn more(mut self, text: &str) -> Self {
        self.more = format!("{}{text}\n", self.more);
        self
    }

    /// The route goes here, not to the stage's own upstream.
    pub(crate) fn upstream_at(mut self, url: impl Into<String>) -> Self {
        self.upstream_url = Some(url.into());
        self
    }

    /// Tokens are asked for here, not at the stage's own provider.
    pub(crate) fn provider_at(mut self, url: impl Into<String>) -> Self {
        self.provider_url = Some(url.into());
        self
    }

    /// Everybody may enter the upstream.
    pub(crate) fn open(self) -> Self {
        self.guarded(|_| true)
    }

    /// These may enter the upstream.
    pub(crate) fn guarded(
        mut self,
        may_enter: impl Fn(&Received) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.guard = Some(Box::new(may_enter));
        self
    }

    /// Provider and upstream speak TLS, as `login.example` and `api.example`.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The upstream offers HTTP/2 over its TLS.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self.tls()
    }

    /// Nobody on this machine knows where the names of provider and upstream lead.
    pub(crate) fn unresolved(mut self) -> Self {
        self.unresolved = true;
        self
    }

    /// The file is mounted as Kubernetes mounts a ConfigMap: behind two links, of which one is swapped.
    pub(crate) fn config_map(mut self) -> Self {
        self.config_map = true;
        self
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) async fn start(self) -> Stage {
        let authority = Authority::new().unwrap();
        let tls = |name: &str| self.tls.then(|| authority.server_config(&[name]).unwrap());
        let identity_provider = IdentityProvider::start(tls("login.example"), self.rules.clone())
            .await
            .unwrap();
        let upstream_tls = tls("api.example").map(|config| {
            let mut config = ServerConfig::clone(&config);
            if self.http2 {
                config.alpn_protocols.insert(0, b"h2".to_vec());
            }
            Arc::new(config)
        });
        let upstream = match self.guard {
            Some(guard) => Upstream::guarded(upstream_tls, guard).await,
            None => Upstream::guarded_by(upstream_tls, &identity_provider).await,
        };
        let upstream = upstream.unwrap();
        let mut overlay = Overlay {
            secrets: secrets(),
            free_ports: true,
            ..Overlay::default()
        };
        let urls = if self.tls {
            let at = |host: &str, address| ((host.to_owned(), 443), address);
            overlay.trust = vec![authority.certificate_der()];
            if !self.unresolved {
                overlay.resolve = vec![
                    at("login.example", identity_provider.server().address()),
                    at("api.example", upstream.address()),
                ];
            }
            [
                "https://login.example".to_owned(),
                "https://api.example".to_owned(),
            ]
        } else {
            [identity_provider.server().address(), upstream.address()]
                .map(|address| format!("http://{address}"))
        };
        let [provider_url, upstream_url] = urls;
        let provider_url = self
            .provider_url
            .unwrap_or_else(|| format!("{provider_url}/token"));
        let upstream_url = self.upstream_url.unwrap_or(upstream_url);
        let text = config(&self.top, &self.provider, &self.route, &self.more)
            .replace("PROVIDER", &provider_url)
            .replace("UPSTREAM", &upstream_url);
        let path = if self.config_map {
            let file = self.directory.path().join("proxy.toml");
            self.directory.swap_config_map("..1", &text);
            symlink("..data/proxy.toml", &file).unwrap();
            file
        } else {
            self.directory.write("proxy.toml", &text)
        };
        let running = match run::start(&path, overlay, false) {
            Ok(running) => running,
            Err(run::StartError::Config(pillion::config::reload::LoadError::Mistakes(report))) => {
                panic!("{}", report.to_plain())
            }
            Err(error) => panic!("{error}"),
        };
        Stage {
            identity_provider,
            upstream,
            authority,
            directory: self.directory,
            running,
            config: text,
        }
    }
}

/// Somebody listens to what the program tells, from the first word on, and hears nothing. What is said for the first time
/// while nobody listens may be taken for idle talk for ever, also by who begins to listen at that moment, on another thread.
pub(crate) fn keep_listening() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let deaf = dynamic_filter_fn(|_, _| false);
        tracing_subscriber::registry().with(deaf).init();
    });
}

fn config(top: &str, provider: &str, route: &str, more: &str) -> String {
    // What a test says itself is not said twice.
    let unless = |lines: &str, key: &str, line: &str| {
        let says = |text: &str| text.lines().any(|it| it.starts_with(&format!("{key} =")));
        if says(lines) {
            String::new()
        } else {
            format!("{line}\n")
        }
    };
    let id = unless(provider, "client_id", "client_id = \"app\"");
    let without_secret = ["\"none\"", "\"private_key_jwt\"", "tls_client_auth\""];
    let secret = if without_secret.iter().any(|it| provider.contains(it)) {
        String::new()
    } else {
        unless(
            provider,
            "client_secret",
            "client_secret = { env = \"SECRET\" }",
        )
    };
    let path = unless(route, "path", "path = \"/api\"");
    let upstream = unless(route, "upstream", "upstream = \"UPSTREAM\"");
    format!(
        "{top}\n\
         [provider.idp]\ntype = \"oauth2\"\ntoken_endpoint = \"PROVIDER\"\n{id}{secret}{provider}\n\
         [[route]]\nname = \"api\"\nprovider = \"idp\"\n{path}{upstream}{route}\n\
         {more}"
    )
}

fn secrets() -> Secrets {
    Secrets::supplied(|reference| match reference {
        SecretRef::Env(name) if name == "SECRET" => Some(SECRET.to_owned()),
        SecretRef::Env(name) if name == "KEY" => Some("CNRY-long-lived-key".to_owned()),
        _ => None,
    })
}

/// The sum of all series of an exposition that have these labels.
pub(crate) fn sum(exposition: &str, series: &str) -> f64 {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels: Vec<&str> = labels
        .trim_end_matches('}')
        .split(',')
        .filter(|label| !label.is_empty())
        .collect();
    let mut found = false;
    let mut sum = 0.0;
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (this, its) = key.split_once('{').unwrap_or((key, ""));
        if this == name && labels.iter().all(|label| its.contains(label)) {
            found = true;
            sum += value.parse::<f64>().unwrap();
        }
    }
    assert!(found, "no series {series} in\n{exposition}");
    sum
}
