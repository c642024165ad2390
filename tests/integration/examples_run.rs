//! The configurations in `examples/`, run as they are beside the systems that they are for: what the
//! `curl` in a file's header asks is answered, with a token that the API takes.

use std::collections::HashMap;
use std::fs;
use std::hash::RandomState;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use pillion::cli::run::{self, Overlay, Running};
use pillion::clock::Moment;
use pillion::config;
use pillion::config::compile::{Surroundings, compile};
use pillion::fake::{Authority, ClientKey, Fault, Kind, Other};
use pillion::metrics::Metrics;
use pillion::provider::secret::{SecretRef, Secrets};
use pillion::token::status::TokenStatus;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Reply, full, request};

/// One key for all: it takes its time to make.
static KEY: LazyLock<ClientKey> = LazyLock::new(|| ClientKey::rsa().unwrap());

/// One that no system knows.
static STRANGER: LazyLock<ClientKey> = LazyLock::new(|| ClientKey::rsa().unwrap());

/// What is in the places that a file names.
type Kept = Arc<Mutex<HashMap<String, String>>>;

/// An example that runs, beside its system.
struct Example {
    kept: Kept,
    authority: Authority,
    other: Other,
    running: Running,
    /// The comment at the top of the file.
    header: String,
}

impl Example {
    /// Runs `examples/{folder}/proxy.toml`. `secrets` says what is in each place that the file names:
    /// the system's own `{credential}`s, or the client's `{key}` and `{certificate}`.
    async fn start(kind: Kind, folder: &str, secrets: &[(&str, &str)]) -> Self {
        let authority = Authority::new().unwrap();
        let other = Other::start(kind, Some(&authority), Some(&KEY.certificate_pem))
            .await
            .unwrap();
        let path = examples().join(folder).join("proxy.toml");
        let header = header(&fs::read_to_string(&path).unwrap());
        for (place, _) in secrets {
            assert!(header.contains(place), "{place} is not in the header");
        }
        let kept = Kept::default();
        let supply = Arc::clone(&kept);
        let resolve = other.resolve().into_iter().map(|(name, address)| {
            let (host, port) = name.rsplit_once(':').unwrap();
            ((host.to_owned(), port.parse().unwrap()), address)
        });
        let overlay = Overlay {
            secrets: Secrets::supplied(move |reference| {
                let kept = supply.lock().unwrap();
                match reference {
                    SecretRef::Env(name) => kept.get(name).cloned(),
                    SecretRef::File(path) => kept.get(path.to_str()?).cloned(),
                }
            }),
            resolve: resolve.collect(),
            trust: vec![authority.certificate_der()],
            free_ports: true,
            ..Overlay::default()
        };
        keep(&kept, &other, secrets);
        let running = run::start(&path, overlay, false).unwrap();
        Self {
            kept,
            authority,
            other,
            running,
            header,
        }
    }

    /// From now on this is in the places.
    fn keep(&self, secrets: &[(&str, &str)]) {
        keep(&self.kept, &self.other, secrets);
    }

    /// Sends what the header's `curl` sends.
    async fn curl(&self, target: &str) -> Reply {
        let url = format!("http://localhost:8080{target}");
        let mut curls = self.header.lines().filter(|line| line.contains("curl "));
        let is_this = |line: &str| line.split([' ', '\'']).any(|word| word == url);
        assert!(curls.any(is_this), "{url} is not in the header");
        self.get(target).await
    }

    async fn get(&self, target: &str) -> Reply {
        let mut client = Client::connect(self.running.addresses[0]).await;
        client.get(target).await
    }

    /// The API sees `path`, and takes the token.
    async fn carries(&self, target: &str, path: &str) {
        let page = self.curl(target).await.expect_ok().json();
        assert_eq!(page, json!({ "made_up": true, "path": path }));
    }

    /// The token that a route hands out, in an answer of RFC 6749 §5.1.
    fn handed_out(reply: &Reply) -> String {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        let answer = reply.json();
        assert_eq!(answer["token_type"], "Bearer");
        assert!(answer["expires_in"].as_u64().is_some_and(|left| left > 200));
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// The one token that was fetched.
    fn status(&self) -> TokenStatus {
        let plan = self.running.proxy.plan();
        let states = plan
            .providers
            .iter()
            .map(|tokens| tokens.status(&RandomState::new(), Moment::now()));
        let mut fetched = states
            .flat_map(|provider| provider.tokens)
            .filter(|token| token.expires_in_seconds.is_some());
        fetched.next_back().unwrap()
    }

    /// What the API itself says to these fields.
    async fn ask_api(&self, host: &str, field: (&str, &str)) -> Reply {
        let asked = request(Method::GET, "/anything").header(field.0, field.1);
        let mut asked = asked.body(full("")).unwrap();
        asked.headers_mut().insert("host", host.parse().unwrap());
        let address = self.other.server().address();
        let mut client = Client::connect_tls(address, host, self.authority.certificate_der()).await;
        client.send(asked).await
    }
}

fn keep(kept: &Kept, other: &Other, secrets: &[(&str, &str)]) {
    let filled = secrets
        .iter()
        .map(|(place, text)| ((*place).to_owned(), fill(other, text)));
    kept.lock().unwrap().extend(filled);
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The folders of `examples/`, and what is in each.
fn files() -> Vec<(String, String)> {
    let folders = fs::read_dir(examples()).unwrap().map(Result::unwrap);
    let read = folders.map(|folder| {
        let text = fs::read_to_string(folder.path().join("proxy.toml")).unwrap();
        (folder.file_name().into_string().unwrap(), text)
    });
    read.collect()
}

fn header(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

fn fill(other: &Other, text: &str) -> String {
    let stranger = format!("{}{}", STRANGER.key_pem, STRANGER.certificate_pem);
    let own = [
        ("stranger", stranger.as_str()),
        ("key", KEY.key_pem.as_str()),
        ("certificate", &KEY.certificate_pem),
    ];
    let known = own.into_iter().chain(other.credentials().iter().copied());
    known.fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

#[test]
fn no_example_holds_a_mistake() {
    let files = files();
    assert!(files.len() >= 14);
    for (folder, text) in files {
        let (Ok((_, report)) | Err(report)) = config::read("proxy.toml", &text);
        assert!(report.is_empty(), "{folder}: {}", report.to_plain());
    }
}

#[tokio::test]
async fn every_example_compiles() {
    for (folder, text) in files() {
        let (file, report) = config::read("proxy.toml", &text).unwrap();
        let surroundings = Surroundings {
            metrics: Metrics::new(1).unwrap(),
            runtime: Handle::current(),
            secrets: Secrets::default(),
            resolve: HashMap::new(),
            trust: Vec::new(),
        };
        if let Err(report) = compile(&file, report, &surroundings, None) {
            panic!("{folder}: {}", report.to_plain());
        }
    }
}

#[test]
fn every_example_is_run_here() {
    for (folder, _) in files() {
        let run = format!(", \"{folder}\", &secrets");
        assert!(include_str!("examples_run.rs").contains(&run), "{folder}");
    }
}

/// The token is fetched once, used twice, and renewed once when the system has forgotten it. It is
/// over when the system says. To a stranger the system gives none, and the app is told so.
async fn lives(kind: Kind, folder: &str, secrets: &[(&str, &str)], (target, path): (&str, &str)) {
    let example = Example::start(kind, folder, secrets).await;
    let other = &example.other;
    other.set_lifetime(Duration::from_secs(1000));
    example.carries(target, path).await;
    example.carries(target, path).await;
    assert_eq!((other.fetches(), other.api_requests().len()), (1, 2));
    let life = match kind {
        Kind::Salesforce => 7200.0, // these two do not say
        Kind::Xoms => 86_400.0,
        _ => 1000.0,
    };
    let left = example.status().expires_in_seconds.unwrap();
    assert!((life - 20.0..=life).contains(&left), "{left}");
    other.revoke_all();
    example.carries(target, path).await;
    assert_eq!((other.fetches(), other.api_requests().len()), (2, 4));
    example.carries(target, path).await;
    assert_eq!((other.fetches(), other.granted()), (2, 2));
    stranger(kind, folder, secrets, target).await;
}

async fn stranger(kind: Kind, folder: &str, secrets: &[(&str, &str)], target: &str) {
    let wrong = secrets.iter().map(|(place, text)| {
        let is_key = text.starts_with("{key}");
        (*place, if is_key { "{stranger}" } else { "wrong" })
    });
    let example = Example::start(kind, folder, &wrong.collect::<Vec<_>>()).await;
    let fetches = if kind == Kind::GitHub { 2 } else { 1 }; // the second with a new JWT
    let reply = example.curl(target).await;
    reply.expect_problem(502, "token-refused");
    assert_eq!(
        (example.other.fetches(), example.other.granted()),
        (fetches, 0)
    );
    assert_eq!(example.other.api_requests().len(), 0);
    heals(&example, secrets, target).await;
}

/// A refusal is not asked for again until the secret is another one; then at once, not when its back-off of a minute ends.
async fn heals(example: &Example, secrets: &[(&str, &str)], target: &str) {
    let fetches = example.other.fetches();
    assert_eq!(example.curl(target).await.status / 100, 5);
    assert_eq!(example.other.fetches(), fetches);
    example.keep(secrets);
    let deadline = Instant::now() + Duration::from_secs(20);
    while example.curl(target).await.status != 200 {
        assert!(Instant::now() < deadline, "still refused");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(example.other.granted(), 1);
}

#[tokio::test]
async fn aeropay() {
    let secrets = [
        ("AEROPAY_KEY", "{api_key}"),
        ("AEROPAY_SECRET", "{api_secret}"),
    ];
    let call = ("/aeropay/merchant", "/merchant");
    lives(Kind::Aeropay, "aeropay", &secrets, call).await;
}

#[tokio::test]
async fn auth0() {
    let secrets = [("AUTH0_CLIENT_SECRET", "{client_secret}")];
    let call = ("/api/orders", "/orders");
    lives(Kind::Auth0, "auth0", &secrets, call).await;
}

#[tokio::test]
async fn docusign() {
    let secrets = [("/run/secrets/docusign/key.pem", "{key}")];
    let call = (
        "/docusign/restapi/v2.1/accounts/made-up/envelopes",
        "/restapi/v2.1/accounts/made-up/envelopes",
    );
    lives(Kind::Docusign, "docusign", &secrets, call).await;
}

#[tokio::test]
async fn the_app_is_told_that_a_user_of_docusign_has_to_consent() {
    let secrets = [("/run/secrets/docusign/key.pem", "{key}")];
    let example = Example::start(Kind::Docusign, "docusign", &secrets).await;
    let answer = json!({ "error": "consent_required" });
    let answer = Fault::json(StatusCode::BAD_REQUEST, &answer);
    example.other.faults().always(answer);
    let reply = example
        .curl("/docusign/restapi/v2.1/accounts/made-up/envelopes")
        .await
        .expect_problem(502, "token-refused");
    let detail = reply.json()["detail"].to_string();
    assert!(detail.contains("consent_required"), "{detail}");
}

#[tokio::test]
async fn entra() {
    let secrets = [("/run/secrets/entra/client.pem", "{key}{certificate}")];
    let call = ("/graph/v1.0/users", "/v1.0/users");
    lives(Kind::Entra, "entra-certificate", &secrets, call).await;
}

#[tokio::test]
async fn a_token_of_entra_is_renewed_when_refresh_in_says_so() {
    let secrets = [("/run/secrets/entra/client.pem", "{key}{certificate}")];
    let example = Example::start(Kind::Entra, "entra-certificate", &secrets).await;
    let (target, path) = ("/graph/v1.0/users", "/v1.0/users");
    example.carries(target, path).await;
    let half = 86_399.0 / 2.0;
    let renews_in = example.status().renews_in_seconds.unwrap();
    assert!((half - 20.0..=half).contains(&renews_in), "{renews_in}");

    let example = Example::start(Kind::Entra, "entra-certificate", &secrets).await;
    example.other.set_refresh_in(Duration::from_secs(1));
    example.carries(target, path).await;
    let deadline = Instant::now() + Duration::from_secs(40);
    while example.other.granted() < 2 {
        assert!(Instant::now() < deadline, "never renewed");
        sleep(Duration::from_millis(20)).await;
        example.carries(target, path).await;
    }
    let left = example.status().expires_in_seconds.unwrap();
    assert!(
        left > 86_000.0,
        "the first one was far from its end: {left}"
    );
}

#[tokio::test]
async fn github() {
    let secrets = [("/run/secrets/github/app.pem", "{key}")];
    let call = (
        "/github/42/installation/repositories",
        "/installation/repositories",
    );
    lives(Kind::GitHub, "github-app", &secrets, call).await;
}

#[tokio::test]
async fn every_installation_of_a_github_app_has_a_token_of_its_own() {
    let secrets = [("/run/secrets/github/app.pem", "{key}")];
    let example = Example::start(Kind::GitHub, "github-app", &secrets).await;
    for installation in [42, 43, 42] {
        let target = format!("/github/{installation}/installation/repositories");
        example.get(&target).await.expect_ok();
    }
    let fetched = example.other.requests();
    let fetched: Vec<_> = fetched.iter().map(|it| it.path()).collect();
    assert_eq!(
        fetched,
        [42, 43].map(|it| format!("/app/installations/{it}/access_tokens"))
    );
}

#[tokio::test]
async fn google() {
    let secrets = [("/run/secrets/google/key.pem", "{key}")];
    let call = ("/storage/storage/v1/b?project=made-up", "/storage/v1/b");
    lives(Kind::Google, "google-service-account", &secrets, call).await;
}

#[tokio::test]
async fn marqeta_hands_out_a_new_token_each_time_and_each_is_good_once() {
    let secrets = [(
        "/run/secrets/marqeta/login",
        "{application_token}:{admin_token}",
    )];
    let example = Example::start(Kind::Marqeta, "marqeta", &secrets).await;
    let other = &example.other;
    for fetches in [1, 2] {
        let token = Example::handed_out(&example.curl("/tokens/marqeta/card-1").await);
        assert_eq!(other.fetches(), fetches);
        let login = format!("{}:{token}", other.credential("application_token"));
        let login = format!("Basic {}", STANDARD.encode(login));
        for status in [200, 401] {
            let field = ("authorization", login.as_str());
            let reply = example.ask_api("sandbox-api.marqeta.com", field).await;
            reply.expect_status(status);
        }
    }
}

#[tokio::test]
async fn salesforce() {
    let secrets = [("/run/secrets/salesforce/key.pem", "{key}")];
    let call = (
        "/salesforce/services/data/v60.0/sobjects",
        "/services/data/v60.0/sobjects",
    );
    lives(Kind::Salesforce, "salesforce", &secrets, call).await;
}

#[tokio::test]
async fn shopify() {
    let secrets = [("SHOPIFY_CLIENT_SECRET", "{client_secret}")];
    let call = (
        "/shopify/admin/api/2025-07/shop.json",
        "/admin/api/2025-07/shop.json",
    );
    lives(Kind::Shopify, "shopify", &secrets, call).await;
}

#[tokio::test]
async fn square() {
    let secrets = [
        ("SQUARE_CLIENT_SECRET", "{client_secret}"),
        ("/run/secrets/square/refresh_token", "{refresh_token}"),
    ];
    let call = ("/square/v2/locations", "/v2/locations");
    lives(Kind::Square, "square", &secrets, call).await;
}

#[tokio::test]
async fn a_token_of_square_is_renewed_within_the_week() {
    let secrets = [
        ("SQUARE_CLIENT_SECRET", "{client_secret}"),
        ("/run/secrets/square/refresh_token", "{refresh_token}"),
    ];
    let example = Example::start(Kind::Square, "square", &secrets).await;
    example
        .carries("/square/v2/locations", "/v2/locations")
        .await;
    let token = example.status();
    let week = 7.0 * 86_400.0;
    let left = token.expires_in_seconds.unwrap();
    assert!((week - 20.0..=week).contains(&left), "{left}");
    assert!(token.renews_in_seconds.is_some_and(|soon| soon < week));
}

#[tokio::test]
async fn sumup() {
    let secrets = [("SUMUP_API_KEY", "{api_key}")];
    let call = ("/sumup/MC0001/v0.1/me", "/v0.1/me");
    lives(Kind::SumUp, "sumup", &secrets, call).await;
}

#[tokio::test]
async fn sumup_hands_out_the_token_that_it_carries() {
    let secrets = [("SUMUP_API_KEY", "{api_key}")];
    let example = Example::start(Kind::SumUp, "sumup", &secrets).await;
    let tokens = [(); 2].map(|()| example.curl("/tokens/sumup/MC0001"));
    for reply in tokens {
        let bearer = format!("Bearer {}", Example::handed_out(&reply.await));
        let field = ("authorization", bearer.as_str());
        example.ask_api("api.sumup.com", field).await.expect_ok();
        example.carries("/sumup/MC0001/v0.1/me", "/v0.1/me").await;
        let carried = example.other.api_requests().pop().unwrap();
        assert_eq!(carried.field("authorization"), Some(bearer.as_str()));
    }
    assert_eq!(example.other.fetches(), 1);
}

#[tokio::test]
async fn vault() {
    let secrets = [("/run/secrets/vault/secret_id", "{secret_id}")];
    let call = ("/vault/v1/secret/data/made-up", "/v1/secret/data/made-up");
    lives(Kind::Vault, "vault-approle", &secrets, call).await;
}

#[tokio::test]
async fn vipps() {
    let secrets = [
        ("VIPPS_CLIENT_ID", "{client_id}"),
        ("VIPPS_CLIENT_SECRET", "{client_secret}"),
        ("VIPPS_SUBSCRIPTION_KEY", "{Ocp-Apim-Subscription-Key}"),
    ];
    let call = (
        "/vipps/epayment/v1/payments/made-up",
        "/epayment/v1/payments/made-up",
    );
    lives(Kind::Vipps, "vipps", &secrets, call).await;
}

#[tokio::test]
async fn xoms() {
    let secrets = [
        ("XOMS_USERNAME", "{username}"),
        ("XOMS_PASSWORD", "{password}"),
    ];
    let call = ("/xoms/rest/segment/all", "/rest/segment/all");
    lives(Kind::Xoms, "xoms", &secrets, call).await;
}
