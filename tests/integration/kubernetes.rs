//! pillion gets into pods: by `pillion inject`, and by the webhook over TLS.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes `golden/kubernetes/*.injected.yaml` anew; `tests/kubernetes` compares the chart with them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use pillion::kubernetes::admin;
use pillion::kubernetes::patch::Add;
use pillion::kubernetes::sidecar::Sidecar;
use pillion::kubernetes::webhook::{self, serve};
use pillion::kubernetes::yaml;
use pillion::metrics::reviews::Reviews;
use pillion::net::listen::Listener;
use pillion::net::tls_listen::{TlsListenError, TlsListener};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::stage::{Body, Client, Directory, full, pillion, request, within};

const PODS: [&str; 5] = ["default", "annotated", "container", "injected", "workloads"];

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubernetes");
    folder.join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap()
}

/// What `pillion inject` makes of a text.
fn inject(text: &str, arguments: &[&str]) -> Output {
    let mut child = pillion()
        .args(["inject", "-f", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how a person asks for new golden files"
)]
fn every_manifest_is_injected_as_its_golden_file_shows() {
    for pod in PODS {
        let output = inject(&read(&format!("{pod}.pod.yaml")), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let name = format!("{pod}.injected.yaml");
        let injected = text(output.stdout);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden(&name), &injected).unwrap();
        }
        assert_eq!(injected, read(&name), "{pod}");
    }
}

#[test]
fn what_has_pillion_stays_as_it_is_to_the_byte() {
    for pod in PODS {
        let injected = read(&format!("{pod}.injected.yaml"));
        assert_eq!(text(inject(&injected, &[]).stdout), injected, "{pod}");
    }
}

#[test]
fn arguments_say_what_annotations_do_not() {
    let arguments = [
        "--secret=forage=forage-2026",
        "--image=images.example/p:1",
        "--config-map=mine",
    ];
    let output = inject(&read("default.pod.yaml"), &arguments);
    let pod = &yaml::values(&text(output.stdout)).unwrap()[0];
    let container = &pod["spec"]["initContainers"][0];
    assert_eq!(container["image"], "images.example/p:1");
    assert_eq!(
        container["volumeMounts"][1]["mountPath"],
        "/run/secrets/forage"
    );
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], "mine");
    assert_eq!(
        pod["spec"]["volumes"][1]["secret"]["secretName"],
        "forage-2026"
    );
}

#[test]
fn what_cannot_be_injected_is_told_with_its_place_and_nothing_is_printed() {
    let pod = read("default.pod.yaml");
    let misspelt = pod.replace(
        "  labels:",
        "  annotations: { pillion.dev/secret: x }\n  labels:",
    );
    let alias = "x: &all\n  - name: app\nkind: Pod\nspec:\n  initContainers: *all\n  containers: [{ name: app }]\n";
    for (text_in, told) in [
        ("a: [", "line 2"),
        (
            &misspelt,
            "Pod `shop`: unknown annotation `pillion.dev/secret`: did you mean `pillion.dev/secrets`?",
        ),
        ("kind: Pod\nspec: {}\n", "there are no containers"),
        (
            alias,
            "line 2: `/spec/initContainers/0` cannot be added to here",
        ),
    ] {
        let output = inject(text_in, &[]);
        assert_eq!(output.status.code(), Some(1), "{text_in}");
        let stderr = text(output.stderr);
        assert!(stderr.contains(told), "{stderr}");
        assert!(output.stdout.is_empty());
    }
    let nothing = inject("kind: ConfigMap\n", &[]);
    assert_eq!(text(nothing.stdout), "kind: ConfigMap\n");
    assert!(text(nothing.stderr).contains("nothing here makes pods"));
    let missing = pillion()
        .args(["inject", "-f", "/nowhere.yaml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

/// A webhook, and who it is.
struct Webhook {
    address: SocketAddr,
    admin: SocketAddr,
    root: CertificateDer<'static>,
    directory: Directory,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// Writes a new certificate and its key, and gives the certificate.
fn certify(directory: &Directory) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    directory.replace("tls.key", &signing_key.serialize_pem());
    directory.replace("tls.crt", &cert.pem());
    cert.der().clone()
}

impl Webhook {
    fn start() -> Self {
        let directory = Directory::new();
        let root = certify(&directory);
        let path = |name| directory.path().join(name);
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let listener = TlsListener::bind(anywhere, &path("tls.crt"), &path("tls.key")).unwrap();
        let (stop, stopping) = watch::channel(false);
        let webhook = webhook::Webhook {
            defaults: Sidecar::default(),
            reviews: Reviews::new().unwrap(),
        };
        let plain = Listener::bind(anywhere).unwrap();
        let admin = plain.address();
        tokio::spawn(admin::serve(plain, webhook.reviews.clone()));
        Self {
            address: listener.address(),
            admin,
            root,
            directory,
            stop,
            serving: tokio::spawn(serve(listener, webhook, stopping)),
        }
    }

    /// What a scraper finds in a series.
    async fn scraped(&self, series: &str) -> f64 {
        let reply = Client::connect(self.admin).await.get("/metrics").await;
        let text = String::from_utf8(reply.expect_ok().body.to_vec()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series));
        let value = value.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
        value.trim().parse().unwrap()
    }

    async fn client(&self) -> Client {
        Client::connect_tls(self.address, "localhost", self.root.clone()).await
    }

    async fn review(&self, pod: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": { "uid": "u-1", "operation": "CREATE", "object": pod },
        });
        let reply = self.client().await.send(post(&review.to_string())).await;
        let answer: Value = serde_json::from_slice(&reply.expect_ok().body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }
}

fn post(body: &str) -> Request<Body> {
    request(Method::POST, "/mutate?timeout=5s")
        .header("content-type", "application/json")
        .body(full(body.to_owned()))
        .unwrap()
}

/// The pod with a response's patch, as an API server carries it out.
fn patched(mut pod: Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    let adds: Vec<Add> = patch
        .into_iter()
        .map(|step| {
            assert_eq!(step["op"], "add");
            let path = step["path"].as_str().unwrap().to_owned();
            Add {
                path,
                value: step["value"].clone(),
            }
        })
        .collect();
    pillion::kubernetes::patch::apply(&mut pod, &adds);
    pod
}

#[tokio::test]
async fn the_webhook_makes_the_same_pod_as_inject() {
    let webhook = Webhook::start();
    for pod in ["default", "annotated", "container"] {
        let one = |name: &str| {
            yaml::values(&read(&format!("{pod}.{name}.yaml")))
                .unwrap()
                .remove(0)
        };
        let response = webhook.review(&one("pod")).await;
        let injected = patched(one("pod"), &response);
        assert_eq!(injected, one("injected"), "{pod}");
        let again = webhook.review(&injected).await;
        assert_eq!(again, json!({ "uid": "u-1", "allowed": true }), "{pod}");
    }
}

#[tokio::test]
async fn a_pod_that_did_not_ask_for_it_stays_as_it_is() {
    let webhook = Webhook::start();
    for labels in [
        json!({}),
        json!({ "pillion.dev/inject": "false" }),
        Value::Null,
    ] {
        let pod = json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app" }] } });
        let response = webhook.review(&pod).await;
        assert_eq!(response, json!({ "uid": "u-1", "allowed": true }));
    }
}

#[tokio::test]
async fn a_pod_whose_annotations_make_no_sense_is_refused_with_what_to_write() {
    let webhook = Webhook::start();
    let mut pod = yaml::values(&read("default.pod.yaml")).unwrap().remove(0);
    pod["metadata"]["annotations"] = json!({ "pillion.dev/mode": "native" });
    let response = webhook.review(&pod).await;
    assert_eq!(response["allowed"], false);
    let told = "pillion: annotation `pillion.dev/mode` is `native`: write sidecar or container";
    assert_eq!(response["status"], json!({ "code": 400, "message": told }));
}

#[tokio::test]
async fn what_is_no_review_is_told_what_it_lacks() {
    let webhook = Webhook::start();
    let old = r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}"#;
    let without = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#;
    let huge = " ".repeat((8 << 20) + 1);
    for (request, status, told) in [
        (post("{"), 400, "this is no AdmissionReview"),
        (
            post(old),
            400,
            "expected an AdmissionReview of admission.k8s.io/v1, and this is a `AdmissionReview` of `admission.k8s.io/v1beta1`",
        ),
        (post(without), 400, "holds no `request`"),
        (post(&huge), 413, "at most 8 MiB"),
        (
            request(Method::POST, "/mutate").body(full("{}")).unwrap(),
            415,
            "application/json",
        ),
        (
            request(Method::GET, "/mutate").body(full("")).unwrap(),
            405,
            "use POST",
        ),
        (
            request(Method::GET, "/").body(full("")).unwrap(),
            404,
            "/mutate",
        ),
        (
            request(Method::GET, "/livez").body(full("")).unwrap(),
            200,
            "ok",
        ),
        (
            request(Method::GET, "/readyz").body(full("")).unwrap(),
            200,
            "ok",
        ),
    ] {
        let reply = webhook
            .client()
            .await
            .send(request)
            .await
            .expect_status(status);
        let said = String::from_utf8_lossy(&reply.body);
        assert!(said.contains(told), "{said}");
    }
}

#[tokio::test]
async fn a_certificate_that_rotates_is_served_and_a_broken_one_is_not() {
    let mut webhook = Webhook::start();
    let mut kept = webhook.client().await;
    // Another's key: half of a rotation.
    let other = Directory::new();
    certify(&other);
    let key = std::fs::read_to_string(other.path().join("tls.key")).unwrap();
    webhook.directory.replace("tls.key", &key);
    webhook.client().await.get("/livez").await.expect_ok();
    webhook.root = certify(&webhook.directory);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !is_trusted(&webhook).await {
        assert!(tokio::time::Instant::now() < deadline, "it is not served");
    }
    webhook.client().await.get("/livez").await.expect_ok();
    kept.get("/livez").await.expect_ok();
    let reloads = "pillion_webhook_certificate_reloads_total";
    assert!(
        webhook
            .scraped(&format!(r#"{reloads}{{outcome="ok"}}"#))
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn what_became_of_reviews_can_be_scraped() {
    let webhook = Webhook::start();
    let reviews =
        |outcome: &str| format!(r#"pillion_webhook_reviews_total{{outcome="{outcome}"}}"#);
    let outcomes = ["patched", "unchanged", "refused", "failed"];
    for outcome in outcomes {
        assert_eq!(webhook.scraped(&reviews(outcome)).await, 0.0, "{outcome}");
    }
    let pod = yaml::values(&read("default.pod.yaml")).unwrap().remove(0);
    let mut misspelt = pod.clone();
    misspelt["metadata"]["annotations"] = json!({ "pillion.dev/mode": "native" });
    for _ in 0..3 {
        webhook.review(&pod).await;
    }
    for _ in 0..2 {
        webhook.review(&json!({ "metadata": {}, "spec": {} })).await;
    }
    webhook.review(&misspelt).await;
    for broken in ["{", "[]", "1", ""] {
        let reply = webhook.client().await.send(post(broken)).await;
        reply.expect_status(400);
    }
    for (outcome, count) in outcomes.into_iter().zip([3.0, 2.0, 1.0, 4.0]) {
        assert_eq!(webhook.scraped(&reviews(outcome)).await, count, "{outcome}");
    }
    let took = "pillion_webhook_review_duration_seconds_count";
    assert_eq!(webhook.scraped(took).await, 10.0);
}

#[tokio::test]
async fn when_its_certificate_expires_can_be_scraped_and_that_it_was_not_loaded() {
    let webhook = Webhook::start();
    let expiration = "pillion_webhook_certificate_expiration_timestamp_seconds";
    let at_first = webhook.scraped(expiration).await;
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_after = date_time_ymd(2031, 5, 1);
    let key = KeyPair::generate().unwrap();
    let renewed = parameters.self_signed(&key).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let failed = r#"pillion_webhook_certificate_reloads_total{outcome="error"}"#;
    webhook.directory.replace("tls.crt", &renewed.pem());
    while webhook.scraped(failed).await < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "it is not told");
    }
    assert_eq!(webhook.scraped(expiration).await, at_first);
    webhook.directory.replace("tls.key", &key.serialize_pem());
    while webhook.scraped(expiration).await != 1_935_360_000.0 {
        assert!(tokio::time::Instant::now() < deadline, "it is not loaded");
    }
    let loaded = r#"pillion_webhook_certificate_reloads_total{outcome="ok"}"#;
    assert_eq!(webhook.scraped(loaded).await, 1.0);
}

#[tokio::test]
async fn its_admin_listener_is_for_probes_and_scrapers_only() {
    let webhook = Webhook::start();
    let mut client = Client::connect(webhook.admin).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        client.get(path).await.expect_ok();
    }
    for path in ["/mutate", "/quitquitquit", "/"] {
        client.get(path).await.expect_status(404);
    }
    let posted = request(Method::POST, "/metrics").body(full("")).unwrap();
    client.send(posted).await.expect_status(405);
}

/// Whether a new connection finds the certificate that was written last.
async fn is_trusted(webhook: &Webhook) -> bool {
    let (address, root) = (webhook.address, webhook.root.clone());
    let connecting = tokio::spawn(async move {
        Client::connect_tls(address, "localhost", root).await;
    });
    connecting.await.is_ok()
}

#[tokio::test]
async fn without_a_good_certificate_it_does_not_start() {
    let directory = Directory::new();
    let path = |name| directory.path().join(name);
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let bind = || TlsListener::bind(anywhere, &path("tls.crt"), &path("tls.key"));
    assert!(matches!(bind(), Err(TlsListenError::Identity(_))));
    certify(&directory);
    bind().unwrap();
    directory.write("tls.crt", "nonsense");
    let told = bind().unwrap_err().to_string();
    assert!(told.contains("holds no certificate in PEM"), "{told}");
}

#[tokio::test]
async fn asked_to_stop_it_finishes_what_is_under_way() {
    let webhook = Webhook::start();
    let mut client = webhook.client().await;
    client.get("/livez").await.expect_ok();
    webhook.stop.send(true).unwrap();
    within(webhook.serving).await.unwrap();
}

#[tokio::test]
async fn the_program_goes_on_accepting_for_a_while_and_ends_with_0() {
    let directory = Directory::new();
    let root = certify(&directory);
    let mut child = pillion()
        .args(["webhook", "--listen=127.0.0.1:0", "--drain-delay=1s"])
        .arg("--admin=127.0.0.1:0")
        .arg("--cert")
        .arg(directory.path().join("tls.crt"))
        .arg("--key")
        .arg(directory.path().join("tls.key"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let address = |name: &str| -> SocketAddr { ready[name].as_str().unwrap().parse().unwrap() };
    let mut scraper = Client::connect(address("admin")).await;
    scraper.get("/readyz").await.expect_ok();
    let kill = format!("kill -TERM {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    line.clear();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("stopping"), "{line}");
    let mut client = Client::connect_tls(address("listening"), "localhost", root).await;
    client.get("/readyz").await.expect_ok();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
}
