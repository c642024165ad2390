//! A 401 of the upstream: one renewal, one replay, byte for byte; or the 401 itself, untouched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{HeaderValue, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::{HeaderName, Method, StatusCode};
use pillion::fake::Fault;
use tokio::io::AsyncWriteExt as _;

use crate::stage::{Raw, Reply, Stage, Wire, chunked, full, read_answer, request};

#[tokio::test]
async fn a_revoked_token_is_replaced_and_the_caller_does_not_notice() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    stage.post("/api/", "body").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
    assert_eq!(stage.upstream.refusals(), 1);
    expect_action(&stage, "replayed", 1).await;
    expect_replays(&stage, "recovered", 1).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_everything_costs_two_fetches_and_its_401_comes_through() {
    let stage = Stage::set().guarded(|_| false).start().await;
    for number in 0..20 {
        expect_upstreams_own(&stage.post(&format!("/api/{number}"), "body").await);
    }
    let more = (20..50).map(|number| {
        let stage = &stage;
        async move { stage.get(&format!("/api/{number}")).await }
    });
    for reply in join_all(more).await {
        expect_upstreams_own(&reply);
    }
    assert!(stage.identity_provider.fetches() <= 2);
    let mut attempts: BTreeMap<String, usize> = BTreeMap::new();
    for request in stage.upstream.requests() {
        *attempts.entry(request.target).or_default() += 1;
    }
    assert_eq!(attempts.len(), 50);
    let replays = attempts.values().filter(|attempts| **attempts == 2).count();
    assert!(attempts.values().all(|attempts| *attempts <= 2));
    expect_replays(&stage, "still_unauthorized", replays).await;
    expect_action(&stage, "guarded", 50 - replays).await;
}

#[tokio::test]
async fn a_thousand_refusals_at_once_cost_one_renewal_and_everybody_gets_an_answer() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    let mut held = Vec::new();
    for number in 0..1000 {
        held.push(Held::begin(&stage, number, Body::declared(b"0123456789")).await);
    }
    finish(&stage, held, 1000).await;
    assert_eq!(stage.identity_provider.fetches(), 2);
    assert_eq!(stage.upstream.refusals(), 1000);
    assert_eq!(stage.upstream.server().requests(), 1 + 2 * 1000);
    expect_replays(&stage, "recovered", 1000).await;
    let renewed = "pillion_unauthorized_total{action=\"replayed\"}";
    let newer = "pillion_unauthorized_total{action=\"newer_generation\"}";
    let sum = stage.metric(renewed).await + stage.metric(newer).await;
    assert_eq!(sum, 1000.0);
}

#[tokio::test]
async fn a_newer_token_is_used_without_a_fetch() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    let held = Held::begin(&stage, 1, Body::declared(b"late")).await;
    stage
        .until(|stage| stage.upstream.server().requests() == 2)
        .await;
    stage.get("/api/first").await.expect_ok();
    finish(&stage, vec![held], 1).await;
    assert_eq!(stage.identity_provider.fetches(), 2);
    expect_action(&stage, "newer_generation", 1).await;
    expect_action(&stage, "replayed", 1).await;
    expect_replays(&stage, "recovered", 2).await;
}

#[tokio::test]
async fn a_replay_repeats_every_byte() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.upstream.forget_requests();
    stage.identity_provider.revoke_all();
    let mut bodies = vec![
        Body::declared(&[7]),
        Body::declared(&random(64 * 1024)),
        Body::chunked(&[], ""),
        Body::chunked(&[], "x-sum: 1\r\n"),
        Body::chunked(&[random(64 * 1024)], "x-sum: 2\r\n"),
    ];
    for _ in 0..295 {
        let length = fastrand::usize(1..=3000) * fastrand::usize(1..=21);
        bodies.push(if fastrand::bool() {
            Body::declared(&random(length))
        } else {
            let mut pieces = Vec::new();
            let mut left = length;
            while left > 0 {
                let piece = fastrand::usize(1..=left);
                left -= piece;
                pieces.push(random(piece));
            }
            let trailers = ["", "x-sum: abc\r\nx-more: d e\r\n"][fastrand::usize(..2)];
            Body::chunked(&pieces, trailers)
        });
    }
    let count = bodies.len();
    let mut held = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        held.push(Held::begin(&stage, number, body.clone()).await);
    }
    finish(&stage, held, count).await;
    assert_eq!(stage.identity_provider.fetches(), 2);
    let mut attempts: BTreeMap<usize, usize> = BTreeMap::new();
    for received in stage.upstream.requests() {
        let number: usize = received.path()[1..].parse().unwrap();
        let sent = &bodies[number];
        assert!(received.body == sent.content, "body {number}");
        let trailers = received.trailers.iter();
        let trailers: String = trailers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        assert_eq!(trailers, sent.trailers, "trailers of {number}");
        *attempts.entry(number).or_default() += 1;
    }
    assert_eq!(attempts.len(), count);
    assert!(attempts.values().all(|attempts| *attempts == 2));
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_replayed_but_the_next_request_is_good() {
    let over = vec![b'x'; 64 * 1024 + 1];
    let bodies = || {
        [
            ("", full(over.clone())),
            ("", chunked(&[Bytes::from(over.clone())], None)),
            ("replay_limit = \"1KiB\"", full(vec![b'x'; 1025])),
            ("replay_limit = \"0KiB\"", full("x")),
            ("replay = \"never\"", full("x")),
            ("replay = \"never\"", full("")),
        ]
    };
    join_all(bodies().map(|(lines, body)| async move {
        let stage = Stage::with_route(lines).await;
        stage.get("/api/").await.expect_ok();
        stage.identity_provider.revoke_all();
        let post = request(Method::POST, "/api/big").body(body).unwrap();
        expect_upstreams_own(&stage.send(post).await);
        stage.get("/api/next").await.expect_ok();
        assert_eq!(stage.identity_provider.fetches(), 2, "{lines}");
        assert_eq!(stage.upstream.server().requests(), 3, "{lines}");
        expect_action(&stage, "not_replayable", 1).await;
        expect_replays(&stage, "recovered", 0).await;
    }))
    .await;
}

#[tokio::test]
async fn bodies_are_kept_within_the_budget_of_the_process() {
    let stage = Stage::set()
        .top("[limits]\nreplay_budget = \"100KiB\"")
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    // Given back whenever a request is over.
    for _ in 0..5 {
        stage.post("/api/", random(60_000)).await.expect_ok();
    }
    stage.identity_provider.revoke_all();
    let body = Body::declared(&random(60_000));
    let mut held = Vec::new();
    for number in 0..2 {
        held.push(Held::all_but_one_byte(&stage, number, body.clone()).await);
    }
    let mut answers = Vec::new();
    stage
        .until(|stage| stage.upstream.server().requests() == 8)
        .await;
    for held in held {
        answers.push(held.end().await[..12].to_owned());
    }
    // Which of them had its body kept, if either, is up to chance; both is too much.
    assert!(answers.contains(&"HTTP/1.1 401".to_owned()), "{answers:?}");
    stage.post("/api/", random(60_000)).await.expect_ok();
}

#[tokio::test]
async fn nothing_but_a_refusal_of_the_token_is_replayed() {
    let answer = |status: u16| Fault::status(StatusCode::from_u16(status).unwrap());
    let challenge = |status, name: HeaderName, value| {
        answer(status).with_field(name, HeaderValue::from_static(value))
    };
    let scope = "Bearer error=\"insufficient_scope\", scope=\"write\"";
    let table = [
        (answer(400), 400),
        (answer(403), 403),
        (
            challenge(403, WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""),
            403,
        ),
        (challenge(407, PROXY_AUTHENTICATE, "Basic realm=\"x\""), 407),
        (answer(429), 429),
        (answer(500), 500),
        (answer(503), 503),
        (
            Fault::raw(
                "application/json",
                r#"{"status":401,"errors":[{"code":401}]}"#,
            ),
            200,
        ),
        (challenge(401, WWW_AUTHENTICATE, scope), 401),
        (
            challenge(401, WWW_AUTHENTICATE, "DPoP error=\"use_dpop_nonce\""),
            401,
        ),
        (Fault::Reset, 502),
    ];
    join_all(table.map(|(fault, status)| async move {
        let stage = Stage::new().await;
        stage.upstream.faults().once(fault.clone());
        let reply = stage.post("/api/", "body").await;
        assert_eq!(reply.status, status, "{fault:?}");
        assert_eq!(stage.upstream.server().requests(), 1, "{fault:?}");
        assert_eq!(stage.identity_provider.fetches(), 1, "{fault:?}");
        expect_action(&stage, "ignored", usize::from(status == 401)).await;
        expect_action(&stage, "replayed", 0).await;
    }))
    .await;
}

#[tokio::test]
async fn a_credential_that_the_app_brought_itself_is_not_renewed() {
    let stage = Stage::with_route("on_conflict = \"keep\"").await;
    let post = request(Method::POST, "/api/").header("authorization", "Bearer mine");
    expect_upstreams_own(&stage.send(post.body(full("body")).unwrap()).await);
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("authorization"), Some("Bearer mine"));
    assert_eq!(stage.upstream.server().requests(), 1);
    assert!(stage.identity_provider.fetches() <= 1);
    expect_action(&stage, "ignored", 1).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_small_upload_is_replayed() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    stage.upstream.refuse_early(true);
    let body = random(1000);
    let mut wire = stage.wire().await;
    let head = "POST /api/up HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n";
    wire.write(head).await;
    wire.write(&body[..500]).await;
    stage
        .until(|stage| stage.upstream.server().requests() == 3)
        .await;
    wire.write(&body[500..]).await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(stage.upstream.last_request().unwrap().body == body);
    expect_replays(&stage, "recovered", 1).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_big_upload_comes_through_with_its_body() {
    let upstream = Raw::start(|mut peer| async move {
        let head = peer.read_head().await.unwrap();
        if head.starts_with("GET") {
            peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
            return;
        }
        peer.read_bytes(100_000).await;
        // And closes, with a reset: it has read less than it was sent.
        peer.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nmine")
            .await;
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let (read, mut write) = stage.wire().await.stream.into_split();
    let upload = tokio::spawn(async move {
        let length = 10 << 20;
        let head = format!(
            "POST /api/up HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        // The proxy may stop reading when it has answered.
        if write.write_all(head.as_bytes()).await.is_ok() {
            write.write_all(&vec![b'x'; length]).await.ok();
        }
        write
    });
    let answer = read_answer(read).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nmine"), "{answer}");
    upload.abort();
    stage.get("/api/next").await.expect_status(204);
    stage
        .until(|stage| stage.running.metrics.requests_in_flight() == 0)
        .await;
    assert_eq!(stage.identity_provider.fetches(), 2);
    assert_eq!(upstream.requests(), 2);
    expect_action(&stage, "not_replayable", 1).await;
}

/// While the 401 is read to its end, nothing of the upload may go where the 401 comes from: it would be missing in the replay.
#[tokio::test]
async fn an_upload_goes_on_where_the_replay_is() {
    let big: Vec<u8> = (0..200_000)
        .map(|_| fastrand::alphanumeric() as u8)
        .collect();
    for (body, first) in [
        (Body::declared(&big), 0),
        (Body::declared(&big[..60_000]), 30_000),
        (
            Body::chunked(&[big[..50_000].to_vec(), big[50_000..].to_vec()], ""),
            40_000,
        ),
    ] {
        let upstream = Raw::start(move |mut peer| async move {
            let head = peer.read_head().await.unwrap();
            if peer.heads() == 1 {
                peer.read_bytes(first).await;
                // The end of this answer never comes; meanwhile, all that is sent is taken.
                peer.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\n")
                    .await;
                peer.read_to_end().await;
                return;
            }
            let content = peer.read_content(&head).await;
            let length = content.len();
            peer.write(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            ))
            .await;
            peer.write(content).await;
        })
        .await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let mut wire = stage.wire().await;
        let framing = &body.framing;
        wire.write(format!(
            "POST /api/up HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{framing}\r\n\r\n"
        ))
        .await;
        wire.write(&body.wire[..first]).await;
        stage
            .until(|stage| stage.identity_provider.fetches() == 2)
            .await;
        wire.write(&body.wire[first..]).await;
        let answer = wire.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with(std::str::from_utf8(&body.content).unwrap()));
        expect_replays(&stage, "recovered", 1).await;
    }
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_401_as_it_was() {
    let faults = [
        Fault::status(StatusCode::SERVICE_UNAVAILABLE),
        Fault::Unauthorized,
        Fault::Reset,
        Fault::raw("text/html", "<html>CNRY</html>"),
    ];
    join_all(faults.map(|fault| async move {
        let stage = Stage::new().await;
        stage.get("/api/").await.expect_ok();
        stage.identity_provider.revoke_all();
        stage.identity_provider.faults().always(fault.clone());
        for _ in 0..3 {
            expect_upstreams_own(&stage.post("/api/", "body").await);
        }
        assert_eq!(stage.identity_provider.fetches(), 2, "{fault:?}");
        assert_eq!(stage.upstream.server().requests(), 4, "{fault:?}");
        expect_action(&stage, "ignored", 3).await;
        expect_replays(&stage, "recovered", 0).await;
    }))
    .await;
}

#[tokio::test]
async fn the_same_token_again_is_no_reason_to_replay() {
    let stage = Stage::set().guarded(|_| false).start().await;
    stage.identity_provider.amend_answers(|answer| {
        answer.insert("access_token".to_owned(), "always-the-same".into());
    });
    expect_upstreams_own(&stage.get("/api/").await);
    assert_eq!(stage.upstream.server().requests(), 1);
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_replay_that_breaks_off_is_an_error_and_counted() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    stage.upstream.faults().once(Fault::Reset);
    let reply = stage.post("/api/", "body").await;
    reply.expect_problem(502, "upstream-unreachable");
    assert_eq!(stage.upstream.server().requests(), 3);
    expect_replays(&stage, "error", 1).await;
}

/// The upstream's 401 in every detail.
#[track_caller]
fn expect_upstreams_own(reply: &Reply) {
    assert_eq!(reply.status, 401, "{reply:?}");
    assert!(
        reply
            .field("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm=\"upstream\"")
    );
    assert_eq!(reply.field("content-type"), Some("application/json"));
    assert_eq!(reply.field("proxy-status"), None);
    assert_eq!(reply.body, r#"{"error":"invalid_token"}"#);
}

async fn expect_action(stage: &Stage, action: &str, times: usize) {
    let series = format!("pillion_unauthorized_total{{action=\"{action}\"}}");
    stage.expect_metric(&series, times as f64).await;
}

async fn expect_replays(stage: &Stage, outcome: &str, times: usize) {
    let series = format!("pillion_replays_total{{outcome=\"{outcome}\"}}");
    stage.expect_metric(&series, times as f64).await;
}

fn random(length: usize) -> Vec<u8> {
    (0..length).map(|_| fastrand::u8(..)).collect()
}

/// A body as it goes over the wire.
#[derive(Clone)]
struct Body {
    framing: String,
    wire: Vec<u8>,
    content: Vec<u8>,
    trailers: &'static str,
}

impl Body {
    fn declared(content: &[u8]) -> Self {
        Self {
            framing: format!("content-length: {}", content.len()),
            wire: content.to_vec(),
            content: content.to_vec(),
            trailers: "",
        }
    }

    fn chunked(pieces: &[Vec<u8>], trailers: &'static str) -> Self {
        let mut wire = Vec::new();
        for piece in pieces {
            wire.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            wire.extend(piece);
            wire.extend(b"\r\n");
        }
        wire.extend(format!("0\r\n{trailers}\r\n").into_bytes());
        // Trailers that nobody announced are dropped on the way, which RFC 9110 §6.5.1 allows.
        let announced = match trailers {
            "" => "",
            _ => "\r\ntrailer: x-sum, x-more",
        };
        Self {
            framing: format!("transfer-encoding: chunked{announced}"),
            wire,
            content: pieces.concat(),
            trailers,
        }
    }
}

/// A request whose end the test holds back, so that all are under way with the same token.
struct Held {
    wire: Wire,
    rest: Vec<u8>,
}

impl Held {
    async fn begin(stage: &Stage, number: usize, body: Body) -> Self {
        let split = fastrand::usize(0..body.wire.len());
        Self::begin_to(split, stage, number, body).await
    }

    async fn all_but_one_byte(stage: &Stage, number: usize, body: Body) -> Self {
        Self::begin_to(body.wire.len() - 1, stage, number, body).await
    }

    async fn begin_to(split: usize, stage: &Stage, number: usize, mut body: Body) -> Self {
        let mut wire = stage.wire().await;
        let mut head = format!("POST /api/{number} HTTP/1.1\r\nhost: localhost\r\n");
        write!(head, "connection: close\r\n{}\r\n\r\n", body.framing).unwrap();
        let rest = body.wire.split_off(split);
        wire.write([head.into_bytes(), body.wire].concat()).await;
        Self { wire, rest }
    }

    async fn end(mut self) -> String {
        self.wire.write(&self.rest).await;
        self.wire.read_to_end().await
    }
}

/// Lets go of all requests when the upstream has the heads of them all.
async fn finish(stage: &Stage, held: Vec<Held>, count: usize) {
    let before = stage.upstream.server().requests();
    let expected = before.max(1 + count);
    stage
        .until(|stage| stage.upstream.server().requests() >= expected)
        .await;
    tokio::time::timeout(Duration::from_secs(30), async {
        for answer in join_all(held.into_iter().map(Held::end)).await {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    })
    .await
    .unwrap();
}
