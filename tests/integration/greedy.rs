//! Callers that take their time, take too much, or take nothing: each is told why, and costs the others nothing.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::stage::{Raw, Stage, chunked, full, request, within};

/// What pillion says on a connection that it then closes: a problem document like any other.
#[track_caller]
fn expect_refusal(answer: &str, status: u16, kind: &str) -> Value {
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for field in [
        "content-type: application/problem+json",
        "cache-control: no-store",
        "connection: close",
        "proxy-status: pillion; error=http_request_error",
        &format!("content-length: {}", body.len()),
    ] {
        assert_eq!(head.matches(field).count(), 1, "{field}: {answer}");
    }
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["type"], format!("urn:pillion:problem:{kind}"));
    assert_eq!(document["status"], status);
    document
}

#[tokio::test]
async fn a_head_that_is_refused_is_told_why_in_a_problem_document() {
    let stage = Stage::new().await;
    let get = |path: &str, fields: &str| {
        format!("GET /api/{path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
    };
    let fields =
        |count: usize| -> String { (0..count).map(|it| format!("x-{it}: 1\r\n")).collect() };
    let long = |bytes: usize| "x".repeat(bytes);
    for (head, status) in [
        (get("", &fields(100)), 431),
        (get("", &format!("x-long: {}\r\n", long(64 << 10))), 431),
        (get("", &format!("x-long: {}\r\n", long(417 << 10))), 431),
        (get(&long(65_535), ""), 431),
        (get("", "no colon\r\n"), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /api/ HTTP/7.0\r\n\r\n".to_owned(), 400),
    ] {
        let answer = stage.exchange(&head).await;
        expect_refusal(&answer, status, "bad-request");

        // Nor does it matter that the connection has been of use before.
        let mut wire = stage.wire().await;
        wire.write("GET /api/status/204 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert!(wire.read_head().await.starts_with("HTTP/1.1 204 "));
        wire.write(&head).await;
        expect_refusal(&wire.read_to_end().await, status, "bad-request");
    }
    stage.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn the_largest_head_that_is_allowed_passes() {
    let stage = Stage::new().await;
    let long = "x".repeat(60 << 10);
    let mut get = request(Method::GET, "/api/").header("x-long", &long);
    for number in 0..97 {
        get = get.header(format!("x-{number}"), "1");
    }
    stage.send(get.body(full("")).unwrap()).await.expect_ok();
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("x-long").map(str::len), Some(long.len()));
}

/// What an upstream says is never taken for the proxy's own words.
#[tokio::test]
async fn an_upstreams_bare_refusal_passes_as_it_is() {
    let upstream = Raw::answering(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
         date: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n",
    )
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut wire = stage.wire().await;
    for last in ["", "", "Connection: close\r\n"] {
        let get = format!("GET /api/ HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        // Part of the next head may have come already.
        wire.write(get).await;
        let head = wire.read_head().await;
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(!head.contains("problem"), "{head}");
        assert!(head.contains("content-length: 0\r\n"), "{head}");
    }
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_told_so() {
    let stage = Stage::set()
        .top("[limits]\nheader_timeout = \"200ms\"")
        .start()
        .await;
    for part in ["G", "GET /api/x HTTP/1.1\r\nHost: loc"] {
        let answer = stage.exchange(part).await;
        expect_refusal(&answer, 408, "request-timeout");
    }
    assert_eq!(
        stage.exchange("").await,
        "",
        "who says nothing is told nothing"
    );
}

#[tokio::test]
async fn a_body_that_stands_still_is_a_408_whoever_reads_it() {
    let more = "[[route]]\nname = \"tokens\"\npath = \"/tokens\"\nprovider = \"idp\"\nhand_out = true\n\
        inputs = { tenant = \"{body./tenant}\" }\n";
    let setting = Stage::set()
        .top("[limits]\nbody_idle = \"200ms\"")
        .provider(
            "hand_out = true\ninputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }",
        );
    let stage = setting
        .route("inputs = { tenant = \"one\" }\ntimeouts = { response = \"100ms\" }")
        .more(more)
        .start()
        .await;
    for path in ["/api/x", "/tokens"] {
        for framing in [
            "Content-Length: 10\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            let answer = stage
                .exchange(format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}"
                ))
                .await;
            expect_refusal(&answer, 408, "request-timeout");
        }
    }
    assert!(stage.upstream.requests().is_empty(), "never as a whole");
}

#[tokio::test]
async fn an_upstream_that_reads_no_further_is_a_504() {
    let upstream = Raw::start(|mut peer| async move {
        peer.read_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let stage = Stage::set()
        .upstream_at(upstream.url())
        .route("timeouts = { response = \"300ms\" }")
        .start()
        .await;
    // More than the sockets' buffers hold.
    let pieces = vec![Bytes::from(vec![0; 1 << 20]); 64];
    let post = request(Method::POST, "/api/").body(chunked(&pieces, None));
    let reply = stage.send(post.unwrap()).await;
    reply.expect_problem(504, "upstream-timeout");
}

/// Nor does it hold the upload when it has answered already.
#[tokio::test]
async fn an_upstream_that_answers_and_reads_no_further_lets_the_caller_go() {
    let upstream = Raw::start(|mut peer| async move {
        peer.read_head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let stage = Stage::set()
        .upstream_at(upstream.url())
        .top("[limits]\nbody_idle = \"300ms\"")
        .route("timeouts = { idle = \"300ms\" }")
        .start()
        .await;
    let mut wire = stage.wire().await;
    wire.write("POST /api/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    let piece = vec![0; 1 << 16];
    wire.write(&piece).await;
    assert!(wire.read_head().await.starts_with("HTTP/1.1 200 "));
    let upload = async { while wire.stream.write_all(&piece).await.is_ok() {} };
    within(upload).await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_its_answer_is_given_up() {
    let stage = Stage::with_route("timeouts = { idle = \"300ms\" }").await;
    let mut wire = stage.wire().await;
    wire.write("GET /api/bytes/100000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    wire.read_head().await;
    let server = stage.upstream.server();
    stage
        .until(|stage| {
            server.open_connections() == 0 && stage.running.metrics.requests_in_flight() == 0
        })
        .await;
    // Reset: the system keeps nothing for it, and what has come is not the whole.
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut wire.stream, &mut rest);
    let ended = within(read).await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_caller_that_reads_slowly_but_reads_gets_everything() {
    let stage = Stage::with_route("timeouts = { idle = \"500ms\" }").await;
    let mut client = stage.client().await;
    let get = request(Method::GET, "/api/bytes/30000000").body(full(""));
    let mut answer = client.begin(get.unwrap()).await.unwrap();
    let (mut read, mut pauses) = (0, 0);
    while let Some(frame) = within(answer.frame()).await {
        read += frame.unwrap().into_data().unwrap().len();
        if read / 3_000_000 > pauses {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!((read, pauses), (30_000_000, 10));
}

/// Closed with bytes unread, a connection is reset, and the answer with it (RFC 9112 §9.6).
#[tokio::test]
async fn a_caller_that_still_sends_when_it_is_refused_reads_why() {
    let stage = Stage::new().await;
    let mut wire = stage.wire().await;
    wire.write(
        "POST /api/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    )
    .await;
    let long = vec![b'x'; 64 << 10];
    for _ in 0..8 {
        // It may be over before all has been said.
        wire.stream.write_all(&long).await.ok();
    }
    expect_refusal(&wire.read_to_end().await, 400, "bad-request");
}
