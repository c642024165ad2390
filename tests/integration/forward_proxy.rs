//! An app that takes pillion for its HTTP proxy (`HTTP_PROXY`): it sends the whole URL (RFC 9112 §3.2.2).

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use pillion::fake::Upstream;

use crate::stage::{Stage, within};

const BANK: &str = "host = \"api.bank.example\"\npath = \"/\"";

#[tokio::test]
async fn the_host_of_the_whole_url_decides_the_route_and_the_route_the_upstream() {
    let elsewhere = Upstream::open(None).await.unwrap();
    let more = "[[route]]\nname = \"other\"\nhost = \"other.example\"\nprovider = \"idp\"\nupstream = \"UPSTREAM/other\"\n";
    let stage = Stage::set().route(BANK).more(more).start().await;
    let own = stage.upstream.address().to_string();
    for (target, host, seen) in [
        (
            "http://api.bank.example/x?y=1",
            "api.bank.example",
            "/x?y=1",
        ),
        ("http://api.bank.example", "api.bank.example", "/"),
        ("http://API.Bank.Example:80/x", "api.bank.example:80", "/x"),
        ("https://api.bank.example/x", "api.bank.example", "/x"),
        // A Host that says something else is replaced by the URL's authority.
        ("http://api.bank.example/x", "localhost", "/x"),
        ("http://api.bank.example/x", "other.example", "/x"),
        ("http://api.bank.example/x", "evil.example", "/x"),
        ("http://other.example/x", "api.bank.example", "/other/x"),
        ("/x", "other.example", "/other/x"),
    ] {
        let answer = ask(&stage, target, host).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        let request = stage.upstream.last_request().unwrap();
        assert_eq!(request.target, seen, "{target} {host}");
        let hosts: Vec<&str> = request.values("host").collect();
        assert_eq!(hosts, [own.as_str()], "{target} {host}");
        assert_eq!(request.values("authorization").count(), 1);
    }
    let seen = stage.upstream.server().requests();
    let evil = format!("http://{}/x", elsewhere.address());
    for (target, host, status) in [
        ("http://evil.example/x", "api.bank.example", 403),
        (evil.as_str(), "api.bank.example", 404),
        ("http://api.bank.example.evil.example/x", "localhost", 403),
        ("http://localhost/x", "api.bank.example", 404),
        (
            "http://evil.example@api.bank.example/x",
            "api.bank.example",
            400,
        ),
        (
            "http://api.bank.example@evil.example/x",
            "api.bank.example",
            400,
        ),
        ("http://api.bank.example/x/../y", "api.bank.example", 400),
        ("http://api.bank.example//x", "api.bank.example", 400),
        ("http://api.bank.example/%2e%2e/y", "api.bank.example", 400),
        ("http://api.bank.example/x#y", "api.bank.example", 400),
        (
            "http://api.bank.example/x",
            "api.bank.example\r\nHost: api.bank.example",
            400,
        ),
        ("http://api.bank.example/x", "a@api.bank.example", 400),
    ] {
        let answer = ask(&stage, target, host).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{target} {host}: {answer}");
    }
    assert_eq!(stage.upstream.server().requests(), seen);
    assert_eq!(elsewhere.server().connections(), 0);
}

#[tokio::test]
async fn whoever_asks_for_a_tunnel_is_told_what_to_do_instead() {
    let stage = Stage::set().route(BANK).start().await;
    for host in ["api.bank.example:443", "evil.example:443", "localhost:443"] {
        let answer = stage
            .exchange(format!(
                "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n\x16\x03\x01"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(
            answer.contains("urn:pillion:problem:bad-request"),
            "{answer}"
        );
        assert!(
            answer.contains("call the `http://` URL through it"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
    assert_eq!(stage.upstream.server().connections(), 0);
}

/// As an app does that was written for the bank, and has heard of pillion by its environment only.
#[tokio::test]
async fn an_app_with_http_proxy_in_its_environment_calls_the_bank_through_pillion() {
    let stage = Stage::set().route(BANK).start().await;
    let script = "import urllib.request\n\
        print(urllib.request.urlopen('http://api.bank.example/accounts').status)\n";
    assert_eq!(python(stage.address(), script).await, "200\n");
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.target, "/accounts");
    assert!(seen.field("authorization").is_some());
    assert_eq!(seen.field("proxy-connection"), None);

    let script = "import urllib.request\n\
        try:\n    urllib.request.urlopen('https://api.bank.example/accounts')\n\
        except OSError as error:\n    print(error)\n";
    let told = python(stage.address(), script).await;
    assert!(told.contains("405"), "{told}");
    assert_eq!(stage.upstream.server().requests(), 1);
}

async fn ask(stage: &Stage, target: &str, host: &str) -> String {
    stage
        .exchange(format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await
}

async fn python(proxy: SocketAddr, script: &str) -> String {
    let proxy = format!("http://{proxy}");
    let mut python = Command::new("python3");
    python.args(["-c", script]).env_remove("no_proxy");
    python.env("http_proxy", &proxy).env("https_proxy", &proxy);
    let python = python.stdout(Stdio::piped()).spawn().unwrap();
    let ended = tokio::task::spawn_blocking(|| python.wait_with_output());
    let output = within(ended).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
