//! What `pillion explain` tells is what the proxy does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{HeaderMap, Request};
use pillion::cli::explain::ask::Ask;
use pillion::proxy::UNMATCHED;
use pillion::proxy::explain::{Course, Explanation, Forwarded};

use crate::stage::{Reply, SECRET, Stage, full, pillion};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `golden/explain/NAME.console`: a command, what it says, and its exit code if that is not 0.
///
/// `UPDATE_GOLDEN=1 cargo test` writes all but the command anew.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how a person asks for new golden files"
)]
fn every_explanation_is_told_as_in_its_golden_file() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in goldens() {
        let golden = fs::read_to_string(&path).unwrap();
        let command = golden.lines().next().unwrap();
        let told = transcript(command);
        if update {
            fs::write(&path, &told).unwrap();
        } else if golden != told {
            wrong.push(told);
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes these:\n\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_explanation_is_wider_than_a_hundred_columns_or_shows_what_is_nobodys_business() {
    for path in goldens() {
        let golden = fs::read_to_string(&path).unwrap();
        let (_, told) = golden.split_once('\n').unwrap();
        let unshown = told.replace("CNRY_KEY", "");
        assert!(!unshown.contains("CNRY"), "{golden}");
        let explained = told.lines().filter(|line| !line.starts_with("pillion:"));
        let widest = explained.map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{golden}");
    }
}

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("tests/golden/explain");
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut goldens: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "console"))
        .collect();
    goldens.sort();
    assert!(goldens.len() >= 15);
    goldens
}

/// A command as one types it into a shell, and what it says: without the environment, so without any secret.
fn transcript(command: &str) -> String {
    let arguments = words(command.strip_prefix("$ pillion ").unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(arguments)
        .current_dir(ROOT)
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let mut told = format!("{command}\n{}{}", text(output.stdout), text(output.stderr));
    match output.status.code() {
        Some(0) => {}
        Some(code) => told.push_str(&format!("[exit {code}]\n")),
        None => told.push_str(&format!("[{}]\n", output.status)),
    }
    told
}

/// Words between spaces; what is in single quotes is one.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for (index, word) in part.split(' ').enumerate() {
            if index > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(word);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A request that is asked about: method, URL, fields, content.
type Asked = (
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
);

const JSON: &str = "Content-Type: application/json";
const OWN: &str = "Authorization: Basic CNRY";

const ASKED: [Asked; 36] = [
    ("GET", "/api", &[], None),
    ("GET", "/api/", &[], None),
    ("POST", "/api/a/b?x=1&y=%20", &[JSON], Some("{}")),
    ("DELETE", "/api/a;v=1", &[OWN, "Cookie: a=b"], None),
    ("GET", "/api/a", &["Connection: X-Mine", "X-Mine: 1"], None),
    (
        "GET",
        "/api/a",
        &["Expect: x", "Proxy-Authorization: x"],
        None,
    ),
    ("GET", "/api/a", &["X_Team: others"], None),
    ("GET", "http://127.0.0.1/api/a", &[], None),
    ("GET", "http://pillion.internal/api/a", &[], None),
    ("GET", "http://elsewhere.example/api/a", &[], None),
    ("GET", "/api/a", &["Host: elsewhere.example"], None),
    (
        "GET",
        "/api/a",
        &["Host: localhost", "Host: localhost"],
        None,
    ),
    ("GET", "/api/a", &["Origin: https://evil.example"], None),
    ("GET", "/api/a", &["Origin: http://localhost:3000"], None),
    ("GET", "/api/a", &["Sec-Fetch-Site: cross-site"], None),
    ("TRACE", "/api/a", &[], None),
    ("GET", "/api/../own", &[], None),
    ("GET", "/api/%2e%2e/own", &[], None),
    ("GET", "/api//a", &[], None),
    ("GET", "/%61pi/a", &[], None),
    ("GET", "/api/a#b", &[], None),
    ("GET", "/apis", &[], None),
    ("GET", "/", &[], None),
    ("GET", "/own/x", &[OWN], None),
    ("GET", "/own/x", &[], None),
    ("GET", "/strict/x", &[OWN], None),
    ("GET", "/strict/x", &[], None),
    ("GET", "/of/7/x?card=pc_1&page=2", &["X-Tenant: t"], None),
    ("GET", "/of/7/x?card=pc_1", &[], None),
    ("GET", "/of/7/x?card=pc_1&card=pc_2", &["X-Tenant: t"], None),
    ("GET", "/of/1000/x?card=pc_1", &["X-Tenant: t"], None),
    ("PUT", "/narrow/x", &[], None),
    ("GET", "/narrow/x", &["Host: narrow.internal"], None),
    ("GET", "/token", &[], None),
    ("GET", "/token/x", &[], None),
    ("PUT", "/token", &[], None),
];

const MORE: &str = r#"
[provider.tenant]
type = "oauth2"
token_endpoint = "PROVIDER"
client_id = "app"
client_secret = { env = "SECRET" }
inputs = ["tenant"]
params = { tenant = "{input.tenant}" }

[provider.handed]
type = "oauth2"
token_endpoint = "PROVIDER"
client_id = "app"
client_secret = { env = "SECRET" }
hand_out = true

[[route]]
name = "own"
path = "/own"
upstream = "UPSTREAM"
provider = "idp"
on_conflict = "keep"

[[route]]
name = "strict"
path = "/strict"
upstream = "UPSTREAM"
provider = "idp"
on_conflict = "reject"

[[route]]
name = "of"
path = "/of/{number}"
upstream = "UPSTREAM/base"
provider = "tenant"
inputs = { tenant = "{header.x-tenant}", card = "{query.card}", number = "{path.number}" }
headers = { Authorization = "Token {token}", X-Card = "{input.card}-{input.number|int(1..999)}" }

[[route]]
name = "narrow"
path = "/narrow"
host = "narrow.internal"
methods = ["GET"]
upstream = "UPSTREAM"
provider = "idp"

[[route]]
name = "token"
path = "/token"
provider = "handed"
hand_out = true
"#;

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let stage = Stage::set()
        .open()
        .top("[listen]\nhosts = [\"pillion.internal\"]\n")
        .route("headers = { Authorization = \"Bearer {token}\", X-Team = \"payments\" }\nremove = [\"Cookie\"]")
        .more(MORE)
        .start()
        .await;
    let mut counts = std::collections::BTreeMap::new();
    for asked in ASKED {
        let explanation = explain(&stage, asked).await;
        let before = stage.upstream.server().requests();
        let (status, body) = send(&stage, asked).await;
        let reached = stage.upstream.server().requests() - before;
        match &explanation.course {
            Err(error) => {
                assert_eq!((error.status().as_u16(), reached), (status, 0), "{asked:?}");
                assert!(body.contains(&error.problem_type()), "{asked:?}: {body}");
                // What to do about it follows.
                let told = json(&error.to_string());
                let told = told.trim_end_matches('"');
                assert!(body.contains(told), "{asked:?}: {body}");
            }
            Ok(Course::HandOut { .. }) => {
                assert_eq!((status, reached), (200, 0), "{asked:?}: {body}");
                assert!(body.contains("\"access_token\""), "{asked:?}");
            }
            Ok(Course::Onward(forwarded)) => {
                assert_eq!((status, reached), (200, 1), "{asked:?}: {body}");
                assert_is_forwarded(&stage, forwarded, asked);
            }
        }
        let route = explanation.route.as_ref().map_or(UNMATCHED, |it| &it.name);
        let count = counts.entry(route.to_owned()).or_insert(0.0);
        *count += 1.0;
        let series = format!("pillion_requests_total{{route=\"{route}\"}}");
        stage.expect_metric(&series, *count).await;
    }
    let seen: Vec<_> = counts.keys().map(String::as_str).collect();
    assert_eq!(
        seen,
        ["api", "narrow", "of", "own", "strict", "token", UNMATCHED]
    );
}

#[tokio::test]
async fn whether_a_request_is_sent_once_more_is_explained_as_it_happens() {
    let body = "x".repeat(16);
    for (lines, body, is_replayed) in [
        ("", None, true),
        ("replay_limit = \"16B\"", Some(&body[..]), true),
        ("replay_limit = \"15B\"", Some(&body[..]), false),
        ("replay = \"never\"", None, false),
        ("replay = \"never\"", Some(&body[..]), false),
    ] {
        let stage = Stage::with_route(lines).await;
        stage.get("/api/first").await.expect_ok();
        let ask = Ask::parse("POST", "/api/x", &[], body).unwrap();
        let Course::Onward(forwarded) = explain_ask(&stage, &ask).await.course.unwrap() else {
            panic!("it is forwarded");
        };
        stage.identity_provider.revoke_all();
        let post = Request::post("/api/x").header("host", "localhost");
        let reply: Reply = stage
            .send(
                post.body(full(body.unwrap_or_default().to_owned()))
                    .unwrap(),
            )
            .await;
        assert_eq!(forwarded.is_replayable, is_replayed, "{lines} {body:?}");
        assert_eq!(reply.status == 200, is_replayed, "{lines} {body:?}");
    }
}

#[tokio::test]
async fn neither_the_network_nor_a_secret_is_needed_to_explain() {
    let stage = Stage::new().await;
    let path = stage.directory.write("explained.toml", &stage.config);
    let output = pillion()
        .env_remove("SECRET")
        .args(["explain", "GET", "/api/x", "-c"])
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && told.contains("Bearer ****"),
        "{told}"
    );
    assert!(!told.contains(SECRET));
    assert_eq!(stage.identity_provider.server().requests(), 0);
    assert_eq!(stage.upstream.server().requests(), 0);
}

async fn explain(stage: &Stage, (method, url, fields, body): Asked) -> Explanation {
    let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
    explain_ask(stage, &Ask::parse(method, url, &fields, body).unwrap()).await
}

async fn explain_ask(stage: &Stage, ask: &Ask) -> Explanation {
    let plan = stage.running.proxy.plan();
    ask.explain(&plan, &stage.running.addresses, 1024 * 1024)
        .await
}

/// The same request, byte for byte, through the proxy: the status and the content of its answer.
async fn send(stage: &Stage, (method, url, fields, body): Asked) -> (u16, String) {
    let (host, target) = match url.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap()),
        None => ("localhost", url),
    };
    let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    let mut line = |line: &str| head.extend([line, "\r\n"]);
    fields.iter().for_each(|field| line(field));
    if !fields.iter().any(|field| field.starts_with("Host:")) {
        line(&format!("Host: {host}"));
    }
    if let Some(body) = body {
        line(&format!("Content-Length: {}", body.len()));
    }
    line("");
    let answer = stage.exchange(head + body.unwrap_or_default()).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn assert_is_forwarded(stage: &Stage, forwarded: &Forwarded, asked: Asked) {
    let received = stage.upstream.last_request().unwrap();
    assert_eq!(received.method.as_str(), asked.0);
    assert_eq!(received.target, forwarded.target.to_string(), "{asked:?}");
    let mut names: Vec<&str> = received
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.retain(|name| *name != "content-length");
    names.sort_unstable();
    let mut explained: Vec<&str> = forwarded.head.keys().map(|name| name.as_str()).collect();
    explained.retain(|name| *name != "content-length");
    explained.sort_unstable();
    assert_eq!(names, explained, "{asked:?}");
    for name in names {
        let (sent, told) = (received.field(name).unwrap(), value(&forwarded.head, name));
        let (before, after) = told.split_once("****").unwrap_or((&told, ""));
        let is_so = sent.starts_with(before) && sent.ends_with(after);
        assert!(is_so, "{asked:?}: {name}: {sent:?}, not {told:?}");
        assert!(told.contains("****") || sent == told, "{name}: {sent:?}");
    }
}

fn value(head: &HeaderMap, name: &str) -> String {
    String::from_utf8(head[name].as_bytes().to_vec()).unwrap()
}

/// A text as it stands in JSON.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
