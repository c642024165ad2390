//! Apps that speak HTTP/2: everything that holds for HTTP/1.1 holds for them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pillion::fake::{Authority, Fault};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::stage::frames::{self, Frames};
use crate::stage::{
    Client, Directory, Http2, Process, Raw, Stage, chunked, full, request2, tls, within,
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
    // More than any stream's window holds, and nobody reads it.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let request = request2(Method::GET, "/api/bytes/4000000");
        slow.push(app.begin(request.body(full("")).unwrap()).await.unwrap());
    }
    let reply = app.get("/api/bytes/100000").await.expect_ok();
    assert_eq!(reply.body.len(), 100_000);
}

#[tokio::test]
async fn an_upstream_that_reads_slowly_does_not_stop_the_others_on_a_connection() {
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            if head.contains("/held") {
                std::future::pending::<()>().await;
            }
            let length = peer.read_content(&head).await.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nx-length: {length}\r\ncontent-length: 0\r\n\r\n");
            peer.write(answer).await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let app = stage.http2().await;
    let mut held = Vec::new();
    for number in 0..20 {
        let app = app.clone();
        held.push(tokio::spawn(async move {
            let request = request2(Method::POST, "/api/held");
            app.try_send(request.body(full(vec![0; 10_000_000])).unwrap())
                .await
                .ok();
        }));
        stage.until(|_| upstream.requests() > number).await;
    }
    let reply = app.post("/api/", vec![1; 1_000_000]).await.expect_ok();
    assert_eq!(reply.field("x-length"), Some("1000000"));
    for held in held {
        held.abort();
    }
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
async fn an_answer_says_when_it_came() {
    let upstream = Raw::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let app = stage.http2().await;
    for path in ["/api/", "/nowhere"] {
        let reply = app.get(path).await;
        let date = reply.field("date").unwrap();
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    }
    let dated = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 0\r\n\r\n";
    let upstream = Raw::answering(dated).await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let reply = stage.http2().await.get("/api/").await.expect_ok();
    assert_eq!(reply.field("date"), Some("then"));
}

/// It need not send the rest, and is not told that anything went wrong (RFC 9113 §8.1).
#[tokio::test]
async fn an_app_that_is_answered_before_it_has_said_everything_may_stop() {
    let stage = Stage::new().await;
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let post = frames::head(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/nowhere"),
    ]);
    let flags = frames::END_HEADERS;
    frames.send(frames::HEADERS, flags, 1, &post).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let frame = seen.next().await.unwrap();
        if frame.stream == 1 {
            kinds.push(frame.kind);
        }
        if frame.kind == frames::RST_STREAM {
            assert_eq!(frame.code(0), 0);
            break;
        }
    }
    assert_eq!(kinds, [frames::HEADERS, frames::DATA, frames::RST_STREAM]);
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
    for (length, fields) in [
        (15_000, 1),
        (100, 101),
        (17_000, 1),
        (30_000, 1),
        (40_000, 1),
    ] {
        let mut large = request2(Method::GET, "/api/").header("x-large", "x".repeat(length));
        for number in 1..fields {
            large = large.header(format!("x-{number}"), "");
        }
        let reply = app.send(large.body(full("")).unwrap()).await;
        match (length, fields) {
            (15_000, _) => drop(reply.expect_ok()),
            // Of this one too much was read already.
            (40_000, _) => drop(reply.expect_status(431)),
            (_, _) => drop(reply.expect_problem(431, "bad-request")),
        }
    }
    app.get("/api/").await.expect_ok();
}

/// A reader of HTTP/1.1 behind us would see another value (RFC 9113 §8.2.1).
#[tokio::test]
async fn white_space_around_a_value_is_a_400() {
    let stage = Stage::new().await;
    for value in [" a", "a ", "\ta", "a\t", " "] {
        let get = request2(Method::GET, "/api/").header("x-field", value);
        let reply = stage.http2().await.send(get.body(full("")).unwrap()).await;
        reply.expect_problem(400, "bad-request");
    }
    assert!(stage.upstream.requests().is_empty());
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
    assert_eq!(stage.exchange("").await, "");
    let late = stage.exchange("PRI * HTTP/2.0\r\n").await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
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

/// A GET and its reset, so many times; whether all of it could be sent.
async fn resets(frames: &mut Frames, count: u32) -> bool {
    let get = frames::get("/api/", &[]);
    let flags = frames::END_STREAM | frames::END_HEADERS;
    for number in 0..count {
        let stream = 2 * number + 1;
        let mut both = frames::frame(frames::HEADERS, flags, stream, &get);
        both.extend(frames::frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        if frames.write(&both).await.is_err() {
            return false;
        }
    }
    true
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn a_caller_that_resets_what_it_asks_for_is_shown_the_door() {
    let stage = Stage::new().await;
    let other = stage.http2().await;
    other.get("/api/").await.expect_ok();
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let attack = tokio::spawn(async move { resets(&mut frames, 10_000).await });
    assert_eq!(seen.end().await, Some(ENHANCE_YOUR_CALM));
    attack.await.unwrap();
    other.get("/api/").await.expect_ok();
    // What was begun of it is given up, and did not flood the upstream.
    stage.expect_metric("pillion_requests_in_flight", 0.0).await;
    assert!(stage.upstream.server().requests() < 1000);
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let stage = Stage::new().await;
    let other = stage.http2().await;
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let get = frames::get("/api/", &[]);
    frames.send(frames::HEADERS, 0, 1, &get).await.unwrap();
    let field = frames::head(&[("x-flood", &"x".repeat(1000))]);
    let attack = tokio::spawn(async move {
        for _ in 0..100_000 {
            if frames
                .send(frames::CONTINUATION, 0, 1, &field)
                .await
                .is_err()
            {
                return;
            }
        }
        panic!("100 MB were taken");
    });
    assert!(seen.end().await.is_some());
    attack.await.unwrap();
    other.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn a_flood_of_empty_pieces_is_cut_off() {
    let stage = Stage::new().await;
    let other = stage.http2().await;
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let mut post = vec![(":method", "POST"), (":scheme", "http")];
    post.extend([(":authority", "localhost"), (":path", "/api/")]);
    let post = frames::head(&post);
    let flags = frames::END_HEADERS;
    frames.send(frames::HEADERS, flags, 1, &post).await.unwrap();
    let attack = tokio::spawn(async move {
        for _ in 0..1_000_000 {
            if frames.send(frames::DATA, 0, 1, &[]).await.is_err() {
                return;
            }
        }
        panic!("a million pieces were taken");
    });
    assert_eq!(seen.end().await, Some(ENHANCE_YOUR_CALM));
    attack.await.unwrap();
    other.get("/api/").await.expect_ok();
}

/// Frames that want to be answered, from a caller that does not read the answers: in the end nothing more is taken.
async fn flood(stage: &Stage, kind: u8, payload: &'static [u8]) {
    let other = stage.http2().await;
    let (mut frames, seen) = Frames::connect(stage.address()).await;
    let many: Vec<u8> = (0..1000)
        .flat_map(|_| frames::frame(kind, 0, 0, payload))
        .collect();
    let attack = tokio::spawn(async move {
        for _ in 0..20_000 {
            let written = tokio::time::timeout(Duration::from_secs(1), frames.write(&many)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
        panic!("twenty million frames were taken");
    });
    other.get("/api/").await.expect_ok();
    attack.await.unwrap();
    other.get("/api/").await.expect_ok();
    drop(seen);
}

#[tokio::test]
async fn a_flood_of_pings_is_not_taken_without_end() {
    flood(&Stage::new().await, frames::PING, &[0; 8]).await;
}

#[tokio::test]
async fn a_flood_of_settings_is_not_taken_without_end() {
    flood(&Stage::new().await, frames::SETTINGS, &[]).await;
}

/// Ten thousand requests with a mistake in each, for which pillion has to reset the stream (MadeYouReset).
async fn mistakes(stage: &Stage, mistake: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let other = stage.http2().await;
    other.get("/api/").await.expect_ok();
    let (mut frames, mut seen) = Frames::connect(stage.address()).await;
    let reading = tokio::spawn(async move { seen.end().await });
    for number in 0..10_000 {
        if frames.write(&mistake(2 * number + 1)).await.is_err() {
            break;
        }
    }
    drop(frames);
    let end = reading.await.unwrap();
    other.get("/api/").await.expect_ok();
    stage.expect_metric("pillion_requests_in_flight", 0.0).await;
    end
}

#[tokio::test]
async fn mistakes_that_have_to_be_reset_are_not_made_for_a_living() {
    let stage = Stage::new().await;
    let promised = frames::get("/api/", &[("content-length", "1")]);
    let flags = frames::END_STREAM | frames::END_HEADERS;
    let broken = |stream| frames::frame(frames::HEADERS, flags, stream, &promised);
    let end = mistakes(&stage, broken).await;
    assert_eq!(end, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn windows_that_overflow_harm_nobody_else() {
    let stage = Stage::new().await;
    let get = frames::get("/api/", &[]);
    let flags = frames::END_STREAM | frames::END_HEADERS;
    let most = (u32::MAX >> 1).to_be_bytes();
    mistakes(&stage, |stream| {
        let mut both = frames::frame(frames::HEADERS, flags, stream, &get);
        both.extend(frames::frame(frames::WINDOW_UPDATE, 0, stream, &most));
        both
    })
    .await;
}
