//! What is secret is in nothing that pillion says, in whatever form; and not in its memory for longer than it has to be.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::header::SET_COOKIE;
use http::{HeaderValue, Method, StatusCode};
use pillion::cli::run::{self, Overlay};
use pillion::fake::{EgressProxy, Fault};
use pillion::provider::secret::{SecretRef, Secrets};
use rcgen::KeyPair;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Http2, Process, SECRET, Setting, Stage, full, request, request2};

/// Each has signs that every encoding writes in its own way.
const PASSWORD: &str = "CNRY-password/+\"<4b1f";
const EGRESS_PASSWORD: &str = "CNRY-egress/+\"<77e1";
const ACCESS: &str = "CNRY-access/+\"<a902";
const SECOND_ACCESS: &str = "CNRY-access/+\"<c3d8";
const REFRESH: &str = "CNRY-refresh/+\"<e01b";
const TENANT: &str = "CNRY-tenant+\"<5d2a";
const OWN_AUTHORIZATION: &str = "CNRY-own/+\"<90aa";
const COOKIE: &str = "CNRY-cookie/+<1c44";
const QUERY: &str = "CNRY-query+~8e21";
const BODY: &str = "CNRY-body/+\"<f7b0";
const ON_A_BAD_LINE: &str = "CNRY-line/+<6a35";

#[tokio::test]
async fn no_secret_is_in_a_log_a_page_or_a_problem_in_any_form_not_even_at_trace() {
    let setting = Stage::set().http2().open();
    let key = KeyPair::generate().unwrap();
    let key_file = setting.directory().write("key.pem", &key.serialize_pem());
    let route = "path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }\non_conflict = \"overwrite\"";
    let stage = setting
        .provider(
            "grant_type = \"password\"\nusername = \"service\"\npassword = { env = \"PASSWORD\" }\n\
             client_auth = \"client_secret_basic\"\ninputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }",
        )
        .route(route)
        .more(&format!(
            "[provider.signed]\ntype = \"oauth2\"\ntoken_endpoint = \"PROVIDER\"\nclient_id = \"app\"\n\
             client_auth = \"private_key_jwt\"\nassertion = {{ key = {{ file = \"{}\" }}, alg = \"ES256\" }}\n\
             [[route]]\nprovider = \"signed\"\npath = \"/signed\"\nupstream = \"UPSTREAM\"\n",
            key_file.display()
        ))
        .start()
        .await;
    let egress = EgressProxy::start().await.unwrap();
    egress.admit("svc", EGRESS_PASSWORD);
    egress.resolve(
        "login.example:443",
        stage.identity_provider.server().address(),
    );
    egress.resolve("api.example:443", stage.upstream.address());
    let ca = stage
        .directory
        .write("ca.pem", stage.authority.certificate_pem());
    let through = format!(
        "egress_proxy = {{ url = \"{}\", username = \"svc\", password = {{ env = \"EGRESS_PASSWORD\" }} }}\n\
         tls = {{ ca = \"{}\" }}\n",
        egress.url(),
        ca.display()
    );
    let config = ["token_endpoint = ", "upstream = "]
        .iter()
        .fold(stage.config.clone(), |config, key| {
            config.replace(key, &format!("{through}{key}"))
        });
    let environment = [("PASSWORD", PASSWORD), ("EGRESS_PASSWORD", EGRESS_PASSWORD)];
    let mut process = Process::start_with(&environment, &config, "[log]\nlevel = \"trace\"").await;

    let mut seen = converse(&stage, &process).await;
    let mut admin = Client::connect(process.admin).await;
    for path in ["/metrics", "/status", "/readyz", "/log", "/nowhere?debug"] {
        seen += &text(&admin.get(path).await.body);
    }
    let page = request(Method::GET, "/status").header("accept", "application/json");
    seen += &text(&admin.send(page.body(full("")).unwrap()).await.body);
    let broken = format!(
        "{}\n[limits]\nwaiters = \"{ON_A_BAD_LINE}\"\n",
        process.config
    );
    process.directory.write("proxy.toml", &broken);
    process.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !text(&admin.get("/metrics").await.body).contains("reload_successful 0") {
        assert!(Instant::now() < deadline, "it is still good");
        sleep(Duration::from_millis(20)).await;
    }
    process.signal("TERM");
    process.end().await;
    seen += &process.rest().await;

    // It has been at work, and at trace.
    for sign in [
        "token fetch failed",
        "\"level\":\"TRACE\"",
        "\"replay\":\"recovered\"",
    ] {
        assert!(seen.contains(sign), "{sign} in {seen}");
    }
    let pem = key.serialize_pem();
    let of_key = pem.lines().nth(1).unwrap();
    let secrets = [
        SECRET,
        PASSWORD,
        EGRESS_PASSWORD,
        ACCESS,
        SECOND_ACCESS,
        REFRESH,
        TENANT,
        OWN_AUTHORIZATION,
        COOKIE,
        QUERY,
        BODY,
        ON_A_BAD_LINE,
        of_key,
    ];
    for secret in secrets {
        for form in forms(secret) {
            assert!(!seen.contains(&form), "{secret} as {form} in {seen}");
        }
    }
}

/// The configuration of a stage for a process that knows neither its names nor its authority.
fn on_its_own(stage: &Stage) -> String {
    let ca = stage
        .directory
        .write("ca.pem", stage.authority.certificate_pem());
    let trust = format!("tls = {{ ca = \"{}\" }}\n", ca.display());
    let config = ["token_endpoint = \"https:", "upstream = \"https:"]
        .iter()
        .fold(stage.config.clone(), |config, key| {
            config.replace(key, &format!("{trust}{key}"))
        });
    let provider = stage.identity_provider.server().address();
    let upstream = stage.upstream.address();
    format!(
        "{config}\n[resolve]\n\"login.example:443\" = \"{provider}\"\n\"api.example:443\" = \"{upstream}\"\n"
    )
}

/// Everything that can be in the way of a request, on both protocols. What the app is told where pillion answers itself.
async fn converse(stage: &Stage, process: &Process) -> String {
    let token = |access: &str| {
        let answer =
            json!({ "access_token": access, "refresh_token": REFRESH, "expires_in": 3600 });
        Fault::json(StatusCode::OK, &answer)
    };
    let echo = format!("{SECRET} {PASSWORD} {REFRESH} {ACCESS} {TENANT}");
    let provider = stage.identity_provider.faults();
    let mut seen = String::new();
    let mut client = Client::connect(process.address).await;
    let app = Http2::connect(process.address).await;
    let tenant = form_urlencoded::byte_serialize(TENANT.as_bytes()).collect::<String>();
    for wrong in [
        Fault::json(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "invalid_scope", "error_description": echo }),
        ),
        Fault::raw("text/html", echo.clone()),
        Fault::raw(
            "application/json",
            format!("{{\"access_token\": \"{ACCESS}"),
        ),
        Fault::json(
            StatusCode::OK,
            &json!({ "access_token": format!("{ACCESS}\r\n") }),
        ),
    ] {
        provider.once(wrong);
        let asked = stage.identity_provider.fetches();
        let deadline = Instant::now() + Duration::from_secs(20);
        // A provider that fails is asked now and then, for whichever tenant.
        for number in 0.. {
            let path = format!("/api/{tenant}{asked}-{number}/x?q={QUERY}");
            let reply = client.get(&path).await;
            assert!(reply.status >= 500, "{reply:?}");
            seen += &format!("{:?}{}", reply.headers, text(&reply.body));
            if stage.identity_provider.fetches() > asked {
                break;
            }
            assert!(Instant::now() < deadline, "never asked again");
            sleep(Duration::from_millis(50)).await;
        }
    }
    provider.always(token(ACCESS));
    let path = format!("/api/{tenant}/x?q={QUERY}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get(&path).await.status != 200 {
        assert!(Instant::now() < deadline, "never well again");
        sleep(Duration::from_millis(50)).await;
    }
    for refused in [false, true] {
        if refused {
            provider.always(token(SECOND_ACCESS));
            stage
                .upstream
                .faults()
                .once(Fault::status(StatusCode::UNAUTHORIZED));
        }
        let post = request(Method::POST, &path)
            .header("authorization", format!("Bearer {OWN_AUTHORIZATION}"))
            .header("cookie", format!("session={COOKIE}"));
        client
            .send(post.body(full(BODY)).unwrap())
            .await
            .expect_ok();
    }
    let post = request2(Method::POST, &path)
        .header("authorization", format!("Bearer {OWN_AUTHORIZATION}"))
        .header("cookie", format!("session={COOKIE}"));
    app.send(post.body(full(BODY)).unwrap()).await.expect_ok();
    client.get(&format!("/signed?{QUERY}")).await.expect_ok();
    let echoing = Fault::json(StatusCode::BAD_GATEWAY, &json!({ "heard": echo }));
    stage.upstream.faults().once(echoing.with_field(
        http::header::WWW_AUTHENTICATE,
        HeaderValue::from_str(&format!("Bearer error=\"{COOKIE}\"")).unwrap(),
    ));
    client.get(&path).await.expect_status(502);
    stage.upstream.faults().once(Fault::Reset);
    for (method, path) in [
        (Method::POST, path.clone()),
        (Method::GET, format!("/nowhere/{tenant}?{QUERY}")),
        (Method::GET, format!("/api/..%2f{tenant}?{QUERY}")),
    ] {
        let asked = request(method, &path).header("cookie", COOKIE);
        let reply = client.send(asked.body(full(BODY)).unwrap()).await;
        assert!(reply.status >= 400, "{reply:?}");
        seen += &format!("{:?}{}", reply.headers, text(&reply.body));
    }
    let last = stage.upstream.requests();
    let carried = format!("Bearer {SECOND_ACCESS}");
    assert!(
        last.iter()
            .any(|it| it.field("authorization") == Some(&carried))
    );
    seen
}

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

/// What a secret looks like where somebody has encoded it.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.to_lowercase()];
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.extend([hex.to_uppercase(), hex]);
    for from in 0..3 {
        // Behind something else in the same base64, its groups begin elsewhere; the last sign may be about what follows.
        let rest = &secret.as_bytes()[from..];
        let whole = &rest[..rest.len() / 3 * 3];
        forms.extend([STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]);
    }
    forms.push(form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string(),
    );
    let escaped = serde_json::to_string(secret).unwrap();
    forms.push(escaped.trim_matches('"').to_owned());
    forms
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "CNRY-x/+\"<";
    let basic = STANDARD.encode(format!("app:{secret}"));
    let query = "a=CNRY-x%2F%2B%22%3C&b";
    let document = json!({ "told": secret }).to_string();
    let hex = "00434e52592d782f2b223c00";
    for said in [secret, &basic, query, &document, hex] {
        assert!(
            forms(secret).iter().any(|form| said.contains(form)),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_panic_with_a_secret_at_hand_is_a_problem_without_it_and_ends_nothing() {
    let stage = Stage::new().await;
    let is_to_panic = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_to_panic);
    let supply = move |_: &SecretRef| {
        assert!(!asked.swap(false, Ordering::Relaxed), "{PASSWORD}");
        Some(SECRET.to_owned())
    };
    let overlay = Overlay {
        secrets: Secrets::supplied(supply),
        free_ports: true,
        ..Overlay::default()
    };
    let path = stage.directory.path().join("proxy.toml");
    let running = run::start(&path, overlay, false).unwrap();
    is_to_panic.store(true, Ordering::Relaxed);
    let mut client = Client::connect(running.addresses[0]).await;
    let mut admin = Client::connect(running.admin).await;
    let reply = client.get("/api/").await;
    assert!(!is_to_panic.load(Ordering::Relaxed), "it has not panicked");
    let mut seen = format!("{:?}{}", reply.headers, text(&reply.body));
    reply.expect_problem(503, "token-unavailable");
    for path in ["/metrics", "/status", "/readyz"] {
        seen += &text(&admin.get(path).await.body);
    }
    for form in forms(PASSWORD) {
        assert!(!seen.contains(&form), "{form} in {seen}");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get("/api/").await.status != 200 {
        assert!(Instant::now() < deadline, "never well again");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_running_proxy_that_is_printed_for_debugging_shows_none() {
    let stage = Stage::set()
        .open()
        .provider("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
        .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
        .start()
        .await;
    let answer = json!({ "access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600 });
    stage
        .identity_provider
        .faults()
        .once(Fault::json(StatusCode::OK, &answer));
    let tenant = percent_encoding::utf8_percent_encode(TENANT, percent_encoding::NON_ALPHANUMERIC);
    stage.get(&format!("/api/{tenant}/")).await.expect_ok();
    let carried = format!("Bearer {ACCESS}");
    let last = stage.upstream.requests().pop().unwrap();
    assert_eq!(last.field("authorization"), Some(carried.as_str()));
    let seen = format!("{:?}{:#?}", stage.running, stage.running);
    for held in ["RouteTable", "Provider", "Token {", "Subject"] {
        assert!(seen.contains(held), "no {held} in {seen}");
    }
    for secret in [SECRET, ACCESS, REFRESH, TENANT] {
        for form in forms(secret) {
            assert!(!seen.contains(&form), "{secret} as {form} in {seen}");
        }
    }
}

/// pillion keeps no cookies: what an upstream sets goes to whoever asked, and comes back only from there.
#[tokio::test]
async fn a_cookie_that_one_tenant_was_given_is_sent_for_nobody_else() {
    for setting in [Stage::set(), Stage::set().http2()] {
        let stage = setting
            .provider("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
            .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
            .start()
            .await;
        let mut client = stage.client().await;
        let set = format!("session={COOKIE}; Path=/");
        let giving = Fault::status(StatusCode::OK)
            .with_field(SET_COOKIE, HeaderValue::from_str(&set).unwrap());
        client.get("/api/one/x").await.expect_ok();
        stage.upstream.faults().once(giving);
        let given = client.get("/api/one/x").await.expect_ok();
        assert_eq!(given.field("set-cookie"), Some(&*set));
        for tenant in ["two", "one"] {
            let reply = client.get(&format!("/api/{tenant}/x")).await.expect_ok();
            assert_eq!(reply.field("set-cookie"), None);
            let seen = stage.upstream.last_request().unwrap();
            assert_eq!(seen.field("cookie"), None, "{seen:?}");
        }
        let own = request(Method::GET, "/api/one/x").header("cookie", COOKIE);
        client.send(own.body(full("")).unwrap()).await.expect_ok();
        let seen = stage.upstream.last_request().unwrap();
        assert_eq!(seen.field("cookie"), Some(COOKIE));
        client.get("/api/two/x").await.expect_ok();
        let seen = stage.upstream.last_request().unwrap();
        assert_eq!(seen.field("cookie"), None, "{seen:?}");
        assert_eq!(
            stage.upstream.server().connections(),
            1,
            "all on one connection"
        );
    }
}

/// Whoever is not root cannot look; where the test is root's, it can.
#[tokio::test]
async fn what_was_replaced_does_not_stay_in_memory() {
    does_not_stay(Stage::set(), 0).await;
}

/// What was decrypted stays where it was until that piece of memory is used again: one copy of a token, as measured.
#[tokio::test]
async fn hardly_does_what_went_through_tls() {
    does_not_stay(Stage::set().tls(), 2).await;
}

/// Of the token before, so many copies are left at the most; of the secret none.
async fn does_not_stay(setting: Setting, most: usize) {
    const OLD: &str = "CNRY-old-secret-71c9d2";
    const OLD_TOKEN: &str = "CNRY-old-token-b56e04";
    const NEW_TOKEN: &str = "CNRY-new-token-08f3aa";
    let secret = setting.directory().write("secret", OLD);
    let stage = setting
        .provider(&format!(
            "client_auth = \"client_secret_post\"\nclient_secret = {{ file = \"{}\" }}",
            secret.display()
        ))
        .open()
        .start()
        .await;
    let token = |text: &str| {
        let answer = json!({ "access_token": text, "expires_in": 3600 });
        Fault::json(StatusCode::OK, &answer)
    };
    stage.identity_provider.faults().always(token(OLD_TOKEN));
    let process = Process::start_with(&[], &on_its_own(&stage), "").await;
    let Some(memory) = Memory::of(&process) else {
        return;
    };
    let mut client = Client::connect(process.address).await;
    // Nothing comes back of what the upstream was sent.
    client.get("/api/status/204").await.expect_status(204);
    assert!(memory.copies(OLD_TOKEN) > 0, "it is in use");
    assert_eq!(memory.copies(OLD), 0, "it was needed for a moment");

    stage.directory.replace("secret", SECRET);
    stage.identity_provider.faults().always(token(NEW_TOKEN));
    let mut admin = Client::connect(process.admin).await;
    admin.post("/tokens/idp/renew", "").await.expect_ok();
    for _ in 0..20 {
        client.get("/api/status/204").await.expect_status(204);
    }
    let last = stage.upstream.last_request().unwrap();
    let carried = format!("Bearer {NEW_TOKEN}");
    assert_eq!(last.field("authorization"), Some(&*carried));
    assert!(memory.copies(NEW_TOKEN) > 0, "it is in use");
    assert_eq!(memory.copies(OLD), 0);
    // What it was read from and written from has been used again by now.
    let left = memory.copies(OLD_TOKEN);
    assert!(left <= most, "{left} copies");
}

/// All that a process can write to.
struct Memory {
    file: File,
    maps: PathBuf,
}

impl Memory {
    /// None where this test may not look into it, either.
    fn of(process: &Process) -> Option<Self> {
        let of_process = PathBuf::from(format!("/proc/{}", process.child.id()));
        match File::open(of_process.join("mem")) {
            Ok(file) => Some(Self {
                file,
                maps: of_process.join("maps"),
            }),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                None
            }
        }
    }

    fn copies(&self, text: &str) -> usize {
        let maps = fs::read_to_string(&self.maps).unwrap();
        let mut copies = 0;
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, access) = (fields.next().unwrap(), fields.next().unwrap());
            if !access.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|it| u64::from_str_radix(it, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            // What is mapped and cannot be read is the system's.
            if self.file.read_exact_at(&mut bytes, from).is_ok() {
                copies += memchr::memmem::find_iter(&bytes, text).count();
            }
        }
        copies
    }
}
