//! The answer on its way back: as the upstream gave it, when it gave it, and never whole if it was not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use pillion::fake::{Authority, Fault};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::stage::{Raw, Stage, full, request, within};

#[tokio::test]
async fn an_answer_to_head_says_how_long_it_would_be_and_has_no_body() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        let head = request(Method::HEAD, "/api/bytes/100").body(full(""));
        let reply = client.send(head.unwrap()).await.expect_ok();
        assert_eq!(reply.field("content-length"), Some("100"));
        assert!(reply.body.is_empty());
        // On the same connection, so nothing was left over.
        assert_eq!(client.get("/api/bytes/7").await.body, "xxxxxxx");
    }
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    for (answer, status, length) in [
        (
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 42\r\n\r\n",
            304,
            Some("42"),
        ),
        (
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
            304,
            None,
        ),
        ("HTTP/1.1 204 No Content\r\netag: \"x\"\r\n\r\n", 204, None),
        (
            "HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\n\r\n",
            200,
            Some("0"),
        ),
    ] {
        let upstream = Raw::answering(answer).await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let mut client = stage.client().await;
        for _ in 0..3 {
            let reply = client.get("/api/").await.expect_status(status);
            assert_eq!(reply.field("content-length"), length, "{answer}");
            assert_eq!(reply.field("etag"), Some("\"x\""));
            assert!(reply.body.is_empty());
        }
        assert_eq!(upstream.connections(), 1, "{answer}");
    }
}

/// A length, a coding or bytes where there can be no body: the next answer is still the next request's own.
#[tokio::test]
async fn what_claims_a_body_where_there_is_none_is_never_the_next_answer() {
    for (method, answer) in [
        (
            Method::GET,
            "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n",
        ),
        (
            Method::GET,
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\nevil"),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        ),
    ] {
        let upstream = Raw::start(move |mut peer| async move {
            while let Some(head) = peer.read_head().await {
                let own = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext";
                let is_first = head.contains("/first");
                peer.write(if is_first { answer } else { own }).await;
            }
        })
        .await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let mut client = stage.client().await;
        for _ in 0..3 {
            let first = request(method.clone(), "/api/first").body(full(""));
            let reply = client.send(first.unwrap()).await;
            assert!([200, 204, 304, 502].contains(&reply.status), "{reply:?}");
            assert!(!reply.body.ends_with(b"evil"), "{answer}: {reply:?}");
            let reply = client.get("/api/next").await.expect_ok();
            assert_eq!(reply.body, "next", "{answer}");
        }
    }
}

#[tokio::test]
async fn an_early_hint_comes_before_the_answer() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Raw::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            while peer.read_head().await.is_some() {
                peer.write(
                    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\n\
                     connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\r\n",
                )
                .await;
                told.notified().await;
                peer.write(
                    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                )
                .await;
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut wire = stage.wire().await;
    for _ in 0..2 {
        wire.write("GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let hint = wire.read_head().await;
        assert_eq!(
            hint,
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\n\r\n"
        );
        go_on.notify_one();
        assert_eq!(wire.read_head().await, "HTTP/1.1 102 Processing\r\n\r\n");
        let head = wire.read_head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(wire.read_bytes(2).await, b"ok");
    }
    // HTTP/1.0 knows no interim answers.
    wire.write("GET /api/x HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await;
    go_on.notify_one();
    let answer = wire.read_to_end().await;
    assert!(
        answer.contains(" 200 OK\r\n") && !answer.contains("103"),
        "{answer}"
    );
}

#[tokio::test]
async fn whoever_waits_for_100_continue_gets_it() {
    let stage = Stage::new().await;
    let mut wire = stage.wire().await;
    wire.write(
        "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
         Connection: close\r\nContent-Length: 5\r\n\r\n",
    )
    .await;
    assert_eq!(wire.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.write("hello").await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"));
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("expect"), None);
}

#[tokio::test]
async fn trailers_come_to_those_who_ask_for_them() {
    let stage = Stage::new().await;
    let asking = request(Method::GET, "/api/trailers")
        .header("te", "trailers")
        .header("connection", "te");
    let reply = stage.send(asking.body(full("")).unwrap()).await.expect_ok();
    assert_eq!(reply.body.len(), 1024);
    assert_eq!(reply.trailers.get("x-checksum").unwrap(), "abc");
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("te"), Some("trailers"));
    let reply = stage.get("/api/trailers").await.expect_ok();
    assert_eq!((reply.body.len(), reply.trailers.len()), (1024, 0));
}

#[tokio::test]
async fn an_answer_streams_as_it_comes() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Raw::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            peer.read_head().await;
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")
                .await;
            for _ in 0..5 {
                told.notified().await;
                peer.write("7\r\ndata: x\r\n").await;
            }
            peer.write("0\r\n\r\n").await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut client = stage.client().await;
    let get = request(Method::GET, "/api/events").body(full(""));
    // The head comes before any of the body.
    let mut answer = client.begin(get.unwrap()).await.unwrap();
    for _ in 0..5 {
        go_on.notify_one();
        let frame = within(answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "data: x");
    }
    assert!(within(answer.frame()).await.is_none());
}

#[tokio::test]
async fn an_upload_streams_as_it_comes() {
    let stage = Stage::new().await;
    let mut wire = stage.wire().await;
    wire.write(
        "POST /api/echo/stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    let mut head = None;
    for number in 0..5 {
        wire.write(format!("5\r\npart{number}\r\n")).await;
        if head.is_none() {
            head = Some(wire.read_head().await);
        }
        assert_eq!(wire.read_until("\r\n").await, "5\r\n");
        assert_eq!(wire.read_until("\r\n").await, format!("part{number}\r\n"));
    }
    wire.write("0\r\n\r\n").await;
    assert_eq!(wire.read_until("\r\n\r\n").await, "0\r\n\r\n");
    assert!(head.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn redirects_cookies_and_errors_pass_as_they_are() {
    let stage = Stage::new().await;
    let reply = stage.post("/api/redirect", "body").await.expect_status(307);
    assert_eq!(reply.field("location"), Some("https://elsewhere.example/"));
    let reply = stage.get("/api/cookies").await.expect_ok();
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["one=1", "two=2"]);
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.upstream.last_request().unwrap().field("cookie"), None);
    for status in [
        201, 299, 400, 402, 403, 404, 407, 418, 422, 429, 451, 500, 502, 503, 504, 599,
    ] {
        let reply = stage.get(&format!("/api/status/{status}")).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.field("proxy-status"), None);
    }
    assert_eq!(stage.upstream.server().requests(), 19);
}

#[tokio::test]
async fn what_belongs_to_the_upstreams_connection_stays_there() {
    let upstream = Raw::answering(
        "HTTP/1.1 200 Fine\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-connection: keep-alive\r\nupgrade: h2c\r\nx-kept: 1\r\nX-Kept: 2\r\nserver: raw\r\n\
         content-length: 2\r\n\r\nok",
    )
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let reply = stage.get("/api/").await.expect_ok();
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(reply.field(gone), None, "{gone}");
    }
    let kept: Vec<_> = reply.headers.get_all("x-kept").iter().collect();
    assert_eq!(kept, ["1", "2"]);
    assert_eq!(reply.field("server"), Some("raw"));
    assert_eq!(reply.body, "ok");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_seen_as_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let upstream = Raw::start(move |mut peer| async move {
            peer.read_head().await;
            peer.write(answer).await;
        })
        .await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let get = request(Method::GET, "/api/").body(full("")).unwrap();
        let seen = stage.client().await.try_send(get).await;
        assert!(seen.is_err(), "{answer}: {seen:?}");
    }
    let stage = Stage::new().await;
    stage.upstream.faults().once(Fault::CutShort);
    let get = request(Method::GET, "/api/").body(full("")).unwrap();
    if let Ok(reply) = stage.client().await.try_send(get).await {
        // It may break off before its head has come.
        reply.expect_problem(502, "upstream-unreachable");
    }
    stage.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn the_end_of_a_tls_stream_is_believed_only_if_it_was_said() {
    for (says_so, is_whole) in [(true, true), (false, false)] {
        let authority = Authority::new().unwrap();
        let tls = authority.server_config(&["127.0.0.1"]).unwrap();
        let upstream = Raw::start_with(Some(TlsAcceptor::from(tls)), move |mut peer| async move {
            peer.read_head().await;
            peer.write("HTTP/1.1 200 OK\r\n\r\nhello").await;
            if says_so {
                peer.finish().await;
            }
        })
        .await;
        let setting = Stage::set();
        let ca = setting
            .directory()
            .write("ca.pem", authority.certificate_pem());
        let stage = setting
            .upstream_at(format!("https://{}", upstream.address))
            .route(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
            .start()
            .await;
        let get = request(Method::GET, "/api/").body(full("")).unwrap();
        let seen = stage.client().await.try_send(get).await;
        assert_eq!(seen.is_ok(), is_whole, "{seen:?}");
    }
}

#[tokio::test]
async fn an_answer_that_stands_still_is_not_waited_for() {
    let upstream = Raw::start(|mut peer| async move {
        peer.read_head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await;
        peer.read_to_end().await;
    })
    .await;
    let stage = Stage::set()
        .upstream_at(upstream.url())
        .route("timeouts = { idle = \"200ms\" }")
        .start()
        .await;
    let get = request(Method::GET, "/api/").body(full("")).unwrap();
    assert!(stage.client().await.try_send(get).await.is_err());
    stage.until(|_| upstream.closed() == 1).await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nCNRY",
        "CNRY\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nCNRYCNRY",
        "HTTP/1.1 200 OK\r\ncontent-length: CNRY\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-bad\0name: CNRY\r\n\r\n",
    ] {
        let upstream = Raw::start(move |mut peer| async move {
            peer.read_head().await;
            peer.write(answer).await;
        })
        .await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let reply = stage.get("/api/").await;
        assert_eq!(reply.status, 502, "{answer}: {reply:?}");
        let reply = reply.expect_problem(502, "upstream-unreachable");
        assert!(!format!("{reply:?}").contains("CNRY"));
    }
}

#[tokio::test]
async fn what_an_upstream_says_too_much_is_nobodys_answer() {
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            let own = if head.starts_with("GET /surplus") {
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nownHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext"
            };
            peer.write(own).await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut client = stage.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("/api/surplus").await.body, "own");
        assert_eq!(client.get("/api/next").await.expect_ok().body, "next");
    }
}

#[tokio::test]
async fn bodies_pass_byte_for_byte_both_ways() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    for length in [0, 1, 8191, 64 * 1024, 64 * 1024 + 1, 10 << 20] {
        let body: Bytes = (0..length).map(|_| fastrand::u8(..)).collect();
        let reply = client.post("/api/echo", body.clone()).await.expect_ok();
        assert!(reply.body == body, "{length}");
        let reply = client.get(&format!("/api/bytes/{length}")).await;
        assert_eq!(reply.body.len(), length);
        assert_eq!(
            reply.field("content-length"),
            Some(length.to_string().as_str())
        );
    }
    let reply = client.get("/api/stream/2000").await.expect_ok();
    assert_eq!(reply.body.len(), 2000 * 1024);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_nothing_behind() {
    let stage = Stage::new().await;
    let mut wire = stage.wire().await;
    wire.write("GET /api/stream/100000?every=5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    wire.read_head().await;
    drop(wire);
    let server = stage.upstream.server();
    stage
        .until(|stage| {
            server.open_connections() == 0 && stage.running.metrics.requests_in_flight() == 0
        })
        .await;

    stage
        .upstream
        .faults()
        .once(Fault::Delay(Duration::from_mins(1)));
    let mut wire = stage.wire().await;
    wire.write("GET /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    stage.until(|_| server.requests() == 2).await;
    drop(wire);
    stage.until(|_| server.open_connections() == 0).await;
    let gone = "pillion_requests_total{route=\"api\",status_class=\"4xx\"}";
    stage.expect_metric(gone, 1.0).await;
}

#[tokio::test]
async fn an_app_of_http_1_0_gets_an_answer_that_ends_with_the_connection() {
    let stage = Stage::new().await;
    let answer = stage.exchange("GET /api/stream/2 HTTP/1.0\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 OK"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(body.len(), 2048);
}
