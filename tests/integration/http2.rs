//! Apps that speak HTTP/2: everything that holds for HTTP/1.1 holds for them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pillion::fake::{Authority, Fault};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::stage::frames::{self, Frames};
use crate::stage::{
    Client, Directory, Http2, Process, Stage, chunked, full, request2, tls, within,
};

#[tokio::test]
async fn an_app_that_begins_with_http2_is_served_in_http2() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    let seen = app.get("/api/a?b=c").await.expect_ok().json();
    assert_eq!(seen["target"], "/a?b=c");
    let fields = seen["headers"].to_string();
    assert!(fields.contains(r#"["authorization","Bearer "#), "{fields}");
    assert!(!fields.contains(r#""connection""#), "{fields}");
    stage
        .expect_metric("pillion_requests_total{status_class=\"2xx\"}", 1.0)
        .await;
}

#[tokio::test]
async fn bodies_of_every_size_come_whole_in_both_directions() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    for length in [0, 1, 1023, 16_384, 16_385, 65_535, 65_536, 1 << 20] {
        let body: Bytes = (0..length).map(|_| fastrand::u8(..)).collect();
        let reply = app.post("/api/echo", body.clone()).await.expect_ok();
        assert!(reply.body == body, "{length}");
        let streamed = request2(Method::POST, "/api/echo/stream")
            .body(chunked(&[body.clone(), body.clone()], None))
            .unwrap();
        let reply = app.send(streamed).await.expect_ok();
        assert_eq!(reply.body.len(), 2 * length);
    }
}

#[tokio::test]
async fn requests_overlap_on_one_connection_and_share_one_token() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    let calls = (0..100).map(|number| {
        let app = app.clone();
        tokio::spawn(async move { app.post("/api/echo", number.to_string()).await })
    });
    for (number, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let reply = call.await.unwrap().expect_ok();
        assert_eq!(reply.body, number.to_string());
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    stage.expect_metric("pillion_requests_in_flight", 0.0).await;
}

#[tokio::test]
async fn a_slow_reader_does_not_stop_the_others_on_its_connection() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    // More than any window holds, and nobody reads it.
    let mut slow = Vec::new();
    for _ in 0..5 {
        let request = request2(Method::GET, "/api/bytes/4000000");
        slow.push(app.begin(request.body(full("")).unwrap()).await.unwrap());
    }
    let reply = app.get("/api/bytes/100000").await.expect_ok();
    assert_eq!(reply.body.len(), 100_000);
}

#[tokio::test]
async fn a_slow_upload_does_not_stop_the_others_on_its_connection() {
    let stage = Stage::new().await;
    stage.upstream.faults().once(Fault::Hang);
    let app = stage.http2().await;
    let held = app.clone();
    let held = tokio::spawn(async move {
        let body = full(vec![0; 4_000_000]);
        let request = request2(Method::POST, "/api/held").body(body).unwrap();
        held.try_send(request).await.ok();
    });
    stage
        .until(|stage| stage.upstream.server().requests() == 1)
        .await;
    let reply = app.post("/api/echo", vec![1; 1_000_000]).await.expect_ok();
    assert_eq!(reply.body.len(), 1_000_000);
    held.abort();
}

#[tokio::test]
async fn what_no_upstream_may_see_is_refused_in_http2_too() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    for (method, path, status) in [
        ("GET", "/api/../x", 400),
        ("GET", "/api/%2e%2e/x", 400),
        ("GET", "/api/a%2fb", 400),
        ("GET", "/nowhere", 404),
        ("TRACE", "/api/", 405),
    ] {
        let request = request2(method.parse().unwrap(), path);
        let reply = app.send(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(reply.field("proxy-status").is_some());
        assert_eq!(reply.field("connection"), None);
    }
    for (name, value, status) in [
        ("host", "elsewhere.example", 400),
        ("host", "localhost:1", 400),
        ("origin", "https://evil.example", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        let request = request2(Method::GET, "/api/").header(name, value);
        let reply = app.send(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, status, "{name}: {value}");
    }
    let foreign = http::Request::get("http://evil.example/api/");
    let reply = app.send(foreign.body(full("")).unwrap()).await;
    reply.expect_problem(403, "forbidden-caller");
    assert_eq!(stage.upstream.server().requests(), 0);
    let connect = http::Request::connect("localhost:80");
    let reply = app.send(connect.body(full("")).unwrap()).await;
    assert_eq!(reply.status, 405);
    let same = request2(Method::GET, "/api/").header("host", "localhost");
    app.send(same.body(full("")).unwrap()).await.expect_ok();
}

/// How a head of the test's own is answered: the status, or the code of the reset.
async fn answer_to(stage: &Stage, fields: &[(&str, &str)]) -> Result<u16, u32> {
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let flags = frames::END_STREAM | frames::END_HEADERS;
    let head = frames::head(fields);
    frames.send(frames::HEADERS, flags, 1, &head).await.unwrap();
    loop {
        let frame = seen.next().await.unwrap();
        match frame.kind {
            frames::RST_STREAM => return Err(frame.code(0)),
            frames::GOAWAY => return Err(frame.code(4)),
            // The first field is the status, one of the few that are an index (RFC 7541 appendix A).
            frames::HEADERS => {
                return Ok(match frame.payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    other => panic!("{other:#x}"),
                });
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn heads_that_no_honest_client_sends_are_refused() {
    let stage = Stage::new().await;
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/api/"),
        ];
        fields.extend(more);
        fields
    };
    const PROTOCOL_ERROR: u32 = 1;
    assert_eq!(answer_to(&stage, &with(&[])).await, Ok(200));
    for malformed in [
        ("connection", "authorization"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        (":path", "/twice"),
        ("content-length", "1"),
    ] {
        let answer = answer_to(&stage, &with(&[malformed])).await;
        assert_eq!(answer, Err(PROTOCOL_ERROR), "{malformed:?}");
    }
    for doubtful in [
        [("content-length", "0"), ("content-length", "0")],
        [("content-length", "+0"), ("x-a", "")],
    ] {
        let answer = answer_to(&stage, &with(&doubtful)).await;
        let refused = [Ok(400), Err(PROTOCOL_ERROR)];
        assert!(refused.contains(&answer), "{doubtful:?} {answer:?}");
    }
    let user = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a@localhost"),
        (":path", "/api/"),
    ];
    assert_eq!(answer_to(&stage, &user).await, Ok(400));
    let asterisk = [
        (":method", "OPTIONS"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "*"),
    ];
    assert_eq!(answer_to(&stage, &asterisk).await, Ok(400));
    assert_eq!(stage.upstream.server().requests(), 1);
}

#[tokio::test]
async fn an_app_that_asks_for_an_upgrade_to_http2_is_answered_in_http1() {
    let stage = Stage::new().await;
    let answer = stage
        .exchange(
            "GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("h2c"), "{answer}");
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_field_for_the_upstream() {
    let stage = Stage::new().await;
    let request = request2(Method::GET, "/api/")
        .header("cookie", "a=1")
        .header("cookie", "b=2; c=3");
    let app = stage.http2().await;
    app.send(request.body(full("")).unwrap()).await.expect_ok();
    let seen = stage.upstream.requests().pop().unwrap();
    assert_eq!(seen.field("cookie"), Some("a=1; b=2; c=3"));
}

#[tokio::test]
async fn answers_without_a_body_say_what_it_would_have_been() {
    let stage = Stage::set().open().start().await;
    let app = stage.http2().await;
    let head = request2(Method::HEAD, "/api/bytes/5000");
    let reply = app.send(head.body(full("")).unwrap()).await.expect_ok();
    assert_eq!(
        (reply.field("content-length"), reply.body.len()),
        (Some("5000"), 0)
    );
    for status in [204, 304] {
        let reply = app.get(&format!("/api/status/{status}")).await;
        reply.expect_status(status);
    }
    let reply = app.get("/api/bytes/5000").await.expect_ok();
    assert_eq!(reply.field("content-length"), Some("5000"));
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    let asking = request2(Method::GET, "/api/trailers").header("te", "trailers");
    let reply = app.send(asking.body(full("")).unwrap()).await.expect_ok();
    assert_eq!(reply.trailers["x-checksum"], "abc");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "abc".parse().unwrap());
    trailers.insert("authorization", "Bearer evil".parse().unwrap());
    let request = request2(Method::POST, "/api/").header("trailer", "x-sum");
    let body = chunked(&["a".into(), "b".into()], Some(trailers));
    let seen = app.send(request.body(body).unwrap()).await.expect_ok();
    assert_eq!(seen.json()["trailers"].to_string(), r#"[["x-sum","abc"]]"#);
}

#[tokio::test]
async fn a_401_is_renewed_and_the_body_sent_again() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    app.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    let reply = app.post("/api/echo", "again").await.expect_ok();
    assert_eq!(reply.body, "again");
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn an_event_is_seen_before_its_stream_ends() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    let request = request2(Method::GET, "/api/stream/2?every=600000");
    let mut answer = app.begin(request.body(full("")).unwrap()).await.unwrap();
    let first = within(http_body_util::BodyExt::frame(answer.body_mut())).await;
    assert_eq!(first.unwrap().unwrap().data_ref().unwrap().len(), 1024);
}

#[tokio::test]
async fn a_request_that_its_app_resets_is_counted_and_given_up() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    app.get("/api/").await.expect_ok();
    stage.upstream.faults().once(Fault::Hang);
    let given_up = app.clone();
    let given_up = tokio::spawn(async move { given_up.get("/api/slow").await });
    stage
        .until(|stage| stage.upstream.server().requests() == 2)
        .await;
    given_up.abort();
    stage
        .expect_metric("pillion_requests_total{status_class=\"4xx\"}", 1.0)
        .await;
    stage
        .until(|stage| stage.upstream.server().open_connections() == 0)
        .await;
    app.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so_and_the_others_go_on() {
    let stage = Stage::new().await;
    let app = stage.http2().await;
    for length in [15_000, 17_000, 40_000] {
        let large = request2(Method::GET, "/api/").header("x-large", "x".repeat(length));
        let reply = app.send(large.body(full("")).unwrap()).await;
        assert_eq!(reply.status, if length < 16_000 { 200 } else { 431 });
    }
    app.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn the_preface_may_come_in_pieces_and_must_come_in_time() {
    let stage = Stage::set()
        .top("[limits]\nheader_timeout = \"300ms\"")
        .start()
        .await;
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for byte in preface {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut first = [0; 9];
    within(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first))
        .await
        .unwrap();
    assert_eq!(first[3], frames::SETTINGS);
    // The same first letter, and another protocol.
    let mut wire = stage.wire().await;
    for piece in ["P", "R", "OPFIND /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        wire.write(piece).await;
    }
    assert!(wire.read_head().await.starts_with("HTTP/1.1 200"));
    for beginning in ["PRI * HTTP/2.0\r\n", ""] {
        assert_eq!(stage.exchange(beginning).await, "", "{beginning:?}");
    }
}

#[tokio::test]
async fn a_connection_is_told_to_go_and_what_is_under_way_on_it_finishes() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "drain_delay = \"300ms\"").await;
    let app = Http2::connect(process.address).await;
    let idle = Http2::connect(process.address).await;
    for app in [&app, &idle] {
        app.get("/api/").await.expect_ok();
    }
    let slow = Fault::Delay(Duration::from_millis(800));
    stage.upstream.faults().once(slow);
    let under_way = app.clone();
    let under_way = tokio::spawn(async move { under_way.get("/api/slow").await });
    stage
        .until(|stage| stage.upstream.server().requests() == 3)
        .await;
    process.signal("TERM");
    process.line("stopping").await;
    let new = Http2::connect(process.address).await;
    new.get("/api/").await.expect_ok();
    under_way.await.unwrap().expect_ok();
    assert_eq!(process.end().await, Some(0));
}

#[tokio::test]
async fn an_app_may_call_over_tls_and_chooses_its_protocol_there() {
    let authority = Authority::new().unwrap();
    let directory = Directory::new();
    let (chain, key) = written(&authority, &directory);
    let lines = format!("[listen]\ntls = {{ cert = \"{chain}\", key = \"{key}\" }}");
    let stage = Stage::set().top(&lines).start().await;
    let root = authority.certificate_der();
    let app = Http2::connect_tls(stage.address(), "localhost", root.clone()).await;
    app.get("/api/").await.expect_ok();
    let big = app.get("/api/bytes/3000000").await.expect_ok();
    assert_eq!(big.body.len(), 3_000_000);
    let mut app = Client::connect_tls(stage.address(), "localhost", root.clone()).await;
    let echoed = app.post("/api/echo", vec![7; 500_000]).await.expect_ok();
    assert_eq!(echoed.body.len(), 500_000);
    // A rotated certificate is shown without a restart, and one that cannot be used is not.
    let renewed = Authority::new().unwrap();
    written(&renewed, &directory);
    let new_root = renewed.certificate_der();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    let address = stage.address();
    while tls(address, "localhost", new_root.clone(), &["h2"])
        .await
        .is_err()
    {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.get("/api/").await.expect_ok();
    let plain = stage
        .exchange("GET /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
}

/// A certificate for localhost and its key, in files.
fn written(authority: &Authority, directory: &Directory) -> (String, String) {
    let certificate = authority.server_certificate(&["localhost"]).unwrap();
    let chain = directory.write("tls.crt", &certificate.certificate_pem);
    let key = directory.write("tls.key", &certificate.key_pem);
    (chain.display().to_string(), key.display().to_string())
}
