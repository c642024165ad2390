//! How many instructions a request costs, counted by callgrind: a busy machine counts what an idle one does.
//!
//! `cargo bench --bench instructions` counts in the binary that it builds; with `PILLION=path` in another, of which the
//! symbols have been kept. Each figure is printed beside the one in `counts.txt`; more than a tenth above it is an
//! error. `UPDATE_COUNTS=1` records what has been counted.
//!
//! Counted is what the tasks of the proxy do, and of that the difference between many requests and half as many: neither
//! the start nor the seeding of the random numbers, which takes longer than all requests and differs from run to run.

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

use std::collections::BTreeMap;
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

/// What is counted: a name, the request line, the body.
const CASES: [(&str, &str, &str); 4] = [
    ("GET 1 KiB", "GET /plain/bytes/1024", ""),
    ("GET 1 KiB, TLS", "GET /tls/bytes/1024", ""),
    ("GET 1 KiB, a tenant's", "GET /tenant/acme/bytes/1024", ""),
    ("POST 1 KiB", "POST /plain/status/200", "1024"),
];
/// Connections of the app, each used in turn.
const CONNECTIONS: usize = 4;
const REQUESTS: u64 = 2000;
const RECORDED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/counts.txt"
);
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
    fs::write(directory.join("proxy.toml"), config).unwrap();

    let recorded = recorded();
    let (mut text, mut is_too_much) = (String::new(), false);
    println!(
        "{:<24} {:>8} {:>9}",
        "instructions a request", "counted", "recorded"
    );
    for (name, request, body) in CASES {
        let half = count(&binary, &directory, (request, body), REQUESTS / 2).await;
        let whole = count(&binary, &directory, (request, body), REQUESTS).await;
        let counted = (whole - half) / (REQUESTS / 2);
        let before = recorded.get(name).copied();
        println!(
            "{name:<24} {counted:>8} {:>9}",
            before.map_or_else(|| "-".to_owned(), |before| before.to_string())
        );
        is_too_much |= before.is_some_and(|before| counted > before + before / 10);
        writeln!(text, "{counted:>7}  {name}").unwrap();
    }
    fs::remove_dir_all(directory).unwrap();
    if env::var_os("UPDATE_COUNTS").is_some() {
        fs::write(RECORDED, text).unwrap();
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

fn recorded() -> BTreeMap<String, u64> {
    let text = fs::read_to_string(RECORDED).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().split_once("  "));
    lines
        .map(|(count, name)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

/// The instructions of all tasks while a new proxy serves so many requests.
async fn count(binary: &Path, directory: &Path, request: (&str, &str), requests: u64) -> u64 {
    let counts = directory.join("callgrind");
    let mut proxy = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        // The one function by which tokio calls a task, whatever is inlined into it.
        .arg("--toggle-collect=tokio::runtime::task::raw::poll*")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(binary)
        .args(["--config", "proxy.toml"])
        .env("SECRET", SECRET)
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind can be started");
    let stderr = BufReader::new(proxy.stderr.take().unwrap());
    let address = listening(stderr);
    let answered = timeout(PATIENCE, call(address, request, requests)).await;
    stop(&mut proxy);
    answered.expect("every request is answered in time");
    let text = fs::read_to_string(counts).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.unwrap().parse().unwrap();
    assert!(
        total > 0,
        "{binary:?} has no symbols: nothing has been counted"
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

async fn call(proxy: SocketAddr, (line, body): (&str, &str), requests: u64) {
    let body = "x".repeat(body.parse().unwrap_or(0));
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
