//! How many instructions a request costs, counted by callgrind: a busy machine counts what an idle one does.
//!
//! `cargo bench --bench instructions` counts in the binary that it builds; with `PILLION=path` in another, of which the
//! symbols have been kept. Each figure is printed beside the one in `counts.txt`; more than a tenth above it is an
//! error. `UPDATE_COUNTS=1` records what has been counted: of the binary that `.ci/build-static` builds, as CI counts it.
//!
//! Counted is what the tasks of the proxy do, or one part of it, and of that the difference between many requests and half
//! as many: neither the start nor the seeding of the random numbers, which takes longer than all requests and differs from
//! run to run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a count that cannot go on may panic"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "how a person names a binary, and asks for new counts"
)]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use pillion::fake::{Authority, IdentityProvider, Rules, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[path = "../callgrind/mod.rs"]
mod callgrind;

/// What is counted.
struct Case {
    name: &'static str,
    /// The functions that are counted, with all that they call, as callgrind is told of them.
    functions: &'static [&'static str],
    /// Routes that are tried before.
    other_routes: usize,
    request: &'static str,
    body_bytes: usize,
}

const CASES: [Case; 9] = [
    Case::of("GET 1 KiB", ALL, "GET /plain/bytes/1024"),
    Case::of("GET 1 KiB, TLS", ALL, "GET /tls/bytes/1024"),
    Case::of("GET 1 KiB, a tenant's", ALL, TENANT),
    Case {
        body_bytes: 1024,
        ..Case::of("POST 1 KiB", ALL, "POST /plain/status/200")
    },
    Case::of("a route of 3", ROUTE, TENANT),
    Case {
        other_routes: 997,
        ..Case::of("a route of 1,000", ROUTE, TENANT)
    },
    Case::of("a fresh token", TOKEN, "GET /plain/bytes/1024"),
    Case::of("a fresh token, a tenant's", TOKEN, TENANT),
    Case::of("a head rewritten", HEAD, "GET /plain/bytes/1024"),
];

impl Case {
    const fn of(
        name: &'static str,
        functions: &'static [&'static str],
        request: &'static str,
    ) -> Self {
        Self {
            name,
            functions,
            other_routes: 0,
            request,
            body_bytes: 0,
        }
    }
}

const TENANT: &str = "GET /tenant/acme/bytes/1024";
/// The one function by which tokio calls a task, whatever is inlined into it.
const ALL: &[&str] = &["tokio::runtime::task::raw::poll*"];
const ROUTE: &[&str] = &["pillion::proxy::route::RouteTable::find"];
const TOKEN: &[&str] = &["pillion::token::Tokens::get::{{closure}}"];
/// What is not for the upstream is taken off, and what the route sets is put on.
const HEAD: &[&str] = &[
    "pillion::proxy::attach::Attach::strip",
    "pillion::proxy::attach::Writing::write",
];
/// Connections of the app, each used in turn.
const CONNECTIONS: usize = 4;
const REQUESTS: u64 = 2000;
/// An answer under callgrind takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let binary = env::var("PILLION").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pillion").to_owned());
    let binary = fs::canonicalize(binary).expect("PILLION names a binary");
    let directory = env::temp_dir().join(format!("pillion-instructions-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let authority = Authority::new().unwrap();
    let identity_provider = IdentityProvider::start(None, Rules::by_the_book("app", SECRET))
        .await
        .unwrap();
    let plain = Upstream::guarded_by(None, &identity_provider)
        .await
        .unwrap();
    let certificate = authority.server_config(&["127.0.0.1"]).unwrap();
    let tls = Upstream::guarded_by(Some(certificate), &identity_provider)
        .await
        .unwrap();
    let ca = directory.join("ca.pem");
    fs::write(&ca, authority.certificate_pem()).unwrap();
    let config = CONFIG
        .replace(
            "PROVIDER",
            &identity_provider.server().address().to_string(),
        )
        .replace("PLAIN", &plain.address().to_string())
        .replace("TLS", &tls.address().to_string())
        .replace("CA", ca.to_str().unwrap());
    for routes in BTreeSet::from(CASES.map(|case| case.other_routes)) {
        fs::write(
            directory.join(file_name(routes)),
            with_routes(&config, routes),
        )
        .unwrap();
    }

    let recorded = callgrind::recorded();
    let (mut text, mut is_too_much) = (String::new(), false);
    println!(
        "{:<26} {:>8} {:>9}",
        "instructions a request", "counted", "recorded"
    );
    for case in &CASES {
        let name = case.name;
        let half = count(&binary, &directory, case, REQUESTS / 2).await;
        let whole = count(&binary, &directory, case, REQUESTS).await;
        let counted = (whole - half) / (REQUESTS / 2);
        let before = recorded.get(name).copied();
        println!(
            "{name:<26} {counted:>8} {:>9}",
            before.map_or_else(|| "-".to_owned(), |before| before.to_string())
        );
        is_too_much |= before.is_some_and(|before| counted > before + before / 10);
        writeln!(text, "{counted:>7}  {name}").unwrap();
    }
    fs::remove_dir_all(directory).unwrap();
    if env::var_os("UPDATE_COUNTS").is_some() {
        fs::write(callgrind::RECORDED, text).unwrap();
        return ExitCode::SUCCESS;
    }
    if is_too_much {
        println!(
            "more than a tenth above what is recorded; if it has to be, UPDATE_COUNTS=1 records it"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The instructions of a case's functions while a new proxy serves so many of its requests.
async fn count(binary: &Path, directory: &Path, case: &Case, requests: u64) -> u64 {
    let counts = directory.join("callgrind");
    let mut proxy = callgrind::command(binary, case.functions, &counts)
        .args(["--config", &file_name(case.other_routes)])
        .env("SECRET", SECRET)
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind can be started");
    let stderr = BufReader::new(proxy.stderr.take().unwrap());
    let address = listening(stderr);
    let answered = timeout(PATIENCE, call(address, case, requests)).await;
    stop(&mut proxy);
    answered.expect("every request is answered in time");
    let total = callgrind::instructions(&fs::read_to_string(counts).unwrap());
    // A part is 0 where the compiler has made it one with its caller.
    assert!(
        total > 0 || case.functions != ALL,
        "{binary:?} has no symbol for what is counted: {:?}",
        case.functions
    );
    total
}

/// Where it says that it listens. What it says later is read, too, so that it never waits for a reader.
fn listening(log: impl BufRead + Send + 'static) -> SocketAddr {
    let mut lines = log.lines().map_while(Result::ok);
    let ready = lines
        .find(|line| line.contains("\"ready\""))
        .expect("it starts");
    std::thread::spawn(move || lines.for_each(drop));
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let addresses = ready.get("listening").and_then(|it| it.as_str()).unwrap();
    addresses.trim_matches(['[', ']']).parse().unwrap()
}

async fn call(proxy: SocketAddr, case: &Case, requests: u64) {
    let line = case.request;
    let body = "x".repeat(case.body_bytes);
    let mut head =
        format!("{line} HTTP/1.1\r\nhost: localhost\r\nuser-agent: app/1.0\r\naccept: */*\r\n");
    if !body.is_empty() {
        write!(head, "content-length: {}\r\n", body.len()).unwrap();
    }
    let request = format!("{head}\r\n{body}");
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(TcpStream::connect(proxy).await.unwrap());
    }
    for number in 0..requests {
        let index = usize::try_from(number).unwrap() % CONNECTIONS;
        let connection = connections.get_mut(index).unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        read_answer(connection).await;
    }
}

async fn read_answer(connection: &mut TcpStream) {
    let mut answer = Vec::new();
    loop {
        assert!(connection.read_buf(&mut answer).await.unwrap() > 0);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return;
        }
    }
}

// Asked to stop, because callgrind writes what it has counted when the program ends.
fn stop(proxy: &mut Child) {
    let id = proxy.id().to_string();
    Command::new("kill").arg(id).status().unwrap();
    proxy.wait().unwrap();
}

fn file_name(other_routes: usize) -> String {
    format!("{other_routes}.toml")
}

/// The configuration with so many routes before its own.
fn with_routes(config: &str, others: usize) -> String {
    let (head, routes) = config.split_once("[[route]]").unwrap();
    let others = (0..others).fold(String::new(), |mut others, number| {
        let route = OTHER_ROUTE.replace("NUMBER", &number.to_string());
        write!(others, "{route}").unwrap();
        others
    });
    format!("{head}{others}[[route]]{routes}")
}

const SECRET: &str = "secret";

const CONFIG: &str = r#"
[listen]
address = "127.0.0.1:0"
workers = 1
drain_delay = "0s"
drain_timeout = "1s"

[admin]
address = "127.0.0.1:0"

[provider.idp]
type = "oauth2"
token_endpoint = "http://PROVIDER/token"
client_id = "app"
client_secret = { env = "SECRET" }

[provider.tenants]
type = "oauth2"
token_endpoint = "http://PROVIDER/token"
client_id = "app"
client_secret = { env = "SECRET" }
inputs = ["tenant"]
params = { tenant = "{input.tenant}" }

[[route]]
path = "/plain"
upstream = "http://PLAIN"
provider = "idp"

[[route]]
path = "/tls"
upstream = "https://TLS"
tls = { ca = "CA" }
provider = "idp"

[[route]]
path = "/tenant/{tenant}"
upstream = "http://PLAIN"
provider = "tenants"
inputs = { tenant = "{path.tenant}" }
"#;

const OTHER_ROUTE: &str = r#"
[[route]]
path = "/other/NUMBER"
upstream = "http://127.0.0.1:9"
provider = "idp"

"#;
