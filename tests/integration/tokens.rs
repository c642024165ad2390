//! Tokens: fetched once for everybody, renewed in time, never sent when they are dead.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use pillion::fake::{ClientAuth, Fault, Upstream};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Raw, Reply, SECRET, Stage};

#[tokio::test]
async fn a_thousand_cold_requests_cost_one_fetch() {
    let stage = Stage::new().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    stage.identity_provider.faults().once(slow);
    for status in statuses(all(&stage, 1000)).await {
        assert_eq!(status, 200);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    stage
        .expect_metric("pillion_token_fetches_total", 1.0)
        .await;
    let counted = "pillion_requests_total{route=\"api\",status_class=\"2xx\"}";
    stage.expect_metric(counted, 1000.0).await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_takes_no_token_away_from_others() {
    let stage = Stage::new().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    stage.identity_provider.faults().once(slow);
    let mut leader = stage.wire().await;
    leader
        .write("GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    stage
        .until(|stage| stage.identity_provider.fetches() == 1)
        .await;
    let others = all(&stage, 200);
    sleep(Duration::from_millis(50)).await;
    leader.reset();
    for status in statuses(others).await {
        assert_eq!(status, 200);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn waiters_share_one_failure() {
    let stage = Stage::new().await;
    let refused = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().always(refused);
    for status in statuses(all(&stage, 50)).await {
        assert_eq!(status, 503);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    assert_eq!(stage.upstream.server().requests(), 0);
}

#[tokio::test]
async fn an_answer_without_a_token_is_malformed_and_the_next_one_is_used() {
    let ok = StatusCode::OK;
    let answers = [
        Fault::raw("text/html", "<html>CNRY firewall</html>"),
        Fault::raw("application/json", ""),
        Fault::raw("application/json", r#"{"access_token":"CNRY"#),
        Fault::status(StatusCode::NO_CONTENT),
        Fault::json(ok, &json!({})),
        Fault::json(ok, &json!(["CNRY"])),
        Fault::json(ok, &json!({ "access_token": "" })),
        Fault::json(ok, &json!({ "access_token": null })),
        Fault::json(ok, &json!({ "access_token": 7 })),
        Fault::json(ok, &json!({ "access_token": "CNRY", "token_type": "mac" })),
        Fault::json(ok, &json!({ "access_token": "CNRY", "token_type": 1 })),
        Fault::json(ok, &json!({ "error": "CNRY" })),
        Fault::raw("application/json", vec![b' '; 100_000]),
    ];
    join_all(answers.map(|answer| async move {
        let stage = Stage::new().await;
        stage.identity_provider.faults().once(answer.clone());
        let reply = stage.get("/api/").await;
        assert_silent(&reply.expect_problem(502, "token-malformed"));
        recover(&stage, Duration::from_secs(3)).await;
        assert_eq!(stage.identity_provider.fetches(), 2, "{answer:?}");
        let counted = "pillion_token_fetches_total{outcome=\"malformed\"}";
        stage.expect_metric(counted, 1.0).await;
    }))
    .await;
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_refused_and_nothing_of_it_gets_through() {
    let tokens = [
        "CNRY\r\nX-Evil: 1",
        "CNRY\n",
        "CNRY\0",
        "CNRY CNRY",
        "CNRY\u{e9}",
        "CNRY\u{7f}",
        "\tCNRY",
    ];
    join_all(tokens.map(|token| async move {
        let stage = Stage::new().await;
        stage.identity_provider.amend_answers(move |answer| {
            answer.insert("access_token".to_owned(), token.into());
        });
        for _ in 0..3 {
            assert_silent(&stage.get("/api/").await);
        }
        assert_eq!(stage.upstream.server().requests(), 0, "{token:?}");
        assert_eq!(stage.identity_provider.fetches(), 1);
    }))
    .await;
}

#[tokio::test]
async fn whatever_a_token_says_of_its_life_it_is_fetched_once_a_second_at_most() {
    let lives: [Option<Value>; 14] = [
        None,
        Some(json!("3600")),
        Some(json!(3599.5)),
        Some(json!("3600abc")),
        Some(json!(0)),
        Some(json!("0")),
        Some(json!(1)),
        Some(json!(-5)),
        Some(json!(1e17)),
        Some(json!(null)),
        Some(json!("NaN")),
        Some(json!(1e308)),
        Some(json!(true)),
        Some(json!({ "seconds": 5 })),
    ];
    join_all(lives.map(|life| async move {
        let stage = Stage::new().await;
        let said = life.clone();
        stage.identity_provider.amend_answers(move |answer| {
            answer.remove("expires_in");
            answer.extend(said.clone().map(|said| ("expires_in".to_owned(), said)));
        });
        let mut client = stage.client().await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2200) {
            client.get("/api/").await.expect_ok();
            sleep(Duration::from_millis(10)).await;
        }
        let times = stage.identity_provider.fetch_times();
        for (before, time) in (0..).zip(&times) {
            // The first may have been a long time on its way, but none begins sooner.
            assert!(
                *time - began >= Duration::from_secs(before),
                "{life:?}: {times:?}"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn a_due_token_is_renewed_behind_the_requests_and_nobody_waits_for_it() {
    let stage = Stage::set()
        .rules(|rules| rules.lifetime = Duration::from_secs(3))
        .start()
        .await;
    let slow = Fault::Delay(Duration::from_millis(100));
    stage.identity_provider.faults().always(slow);
    let mut client = stage.client().await;
    let began = Instant::now();
    // Where this test is kept from its requests, a token may end between two of them; the next one waits, and rightly.
    let mut delays = 0;
    while began.elapsed() < Duration::from_secs(5) {
        let called = Instant::now();
        client.get("/api/").await.expect_ok();
        sleep(Duration::from_millis(10)).await;
        delays += u32::from(called.elapsed() > Duration::from_millis(200));
    }
    assert!(stage.identity_provider.fetches() >= 3);
    assert_eq!(stage.upstream.refusals(), 0);
    let waits = "pillion_token_wait_duration_seconds_count";
    let waited = stage.metric(waits).await;
    assert!(
        (1.0..=f64::from(1 + delays)).contains(&waited),
        "{waited} waited, {delays} were delayed"
    );
    let fetches = "pillion_token_fetches_total{outcome=\"ok\",provider=\"idp\"";
    let scheduled = stage
        .metric(&format!("{fetches},reason=\"scheduled\"}}"))
        .await;
    assert!(
        scheduled + f64::from(delays) >= 2.0,
        "{scheduled} behind the requests, {delays} were delayed"
    );
}

#[tokio::test]
async fn an_outage_is_invisible_while_the_token_is_good_and_a_dead_token_is_never_sent() {
    let stage = Stage::set()
        .rules(|rules| rules.lifetime = Duration::from_secs(3))
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    let began = Instant::now();
    stage.identity_provider.server().leave().await.unwrap();
    let mut client = stage.client().await;
    let mut statuses = Vec::new();
    while began.elapsed() < Duration::from_secs(3) {
        let reply = client.get("/api/").await;
        if began.elapsed() < Duration::from_millis(1800) {
            assert_eq!(reply.status, 200, "at {:?}", began.elapsed());
        }
        if reply.status != 200 {
            assert!(reply.field("retry-after").is_some(), "{reply:?}");
            statuses.push(reply.expect_problem(503, "token-unavailable").status);
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!statuses.is_empty());
    assert_eq!(
        stage.upstream.refusals(),
        0,
        "the upstream saw a dead token"
    );

    stage.identity_provider.server().come_back().await.unwrap();
    let fetches = stage.identity_provider.fetches();
    recover(&stage, Duration::from_secs(3)).await;
    assert_eq!(stage.identity_provider.fetches(), fetches + 1);
}

#[tokio::test]
async fn what_a_failing_provider_means_to_the_app_is_one_table() {
    let unavailable = (503, "token-unavailable");
    let answer = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        Fault::json(
            status,
            &json!({ "error": "CNRY", "error_description": "CNRY" }),
        )
    };
    let refusal = |code: &str| {
        let body = json!({ "error": code, "error_description": "CNRY" });
        Fault::json(StatusCode::BAD_REQUEST, &body)
    };
    let after = |value| answer(429).with_field(RETRY_AFTER, HeaderValue::from_static(value));
    let table = [
        (Fault::Unauthorized, "", (502, "token-refused"), None),
        (answer(401), "", (502, "token-refused"), None),
        (answer(403), "", (502, "token-refused"), None),
        (refusal("invalid_client"), "", (502, "token-refused"), None),
        (refusal("invalid_scope"), "", (502, "token-refused"), None),
        (
            refusal("unauthorized_client"),
            "",
            (502, "token-refused"),
            None,
        ),
        (answer(404), "", (502, "token-malformed"), None),
        (answer(500), "", unavailable, Some("1")),
        (answer(503), "", unavailable, Some("1")),
        (answer(408), "", unavailable, Some("1")),
        (answer(429), "", unavailable, Some("1")),
        (after("7"), "", unavailable, Some("7")),
        (Fault::Reset, "", unavailable, Some("1")),
        (Fault::CutShort, "", unavailable, Some("1")),
        (
            Fault::Hang,
            "timeout = \"100ms\"",
            (504, "token-timeout"),
            None,
        ),
        (
            Fault::Hang,
            "token_wait = \"100ms\"",
            (504, "token-timeout"),
            None,
        ),
    ];
    join_all(
        table.map(|(fault, lines, (status, kind), wait)| async move {
            let stage = Stage::with_provider(lines).await;
            stage.identity_provider.faults().always(fault.clone());
            let reply = stage.get("/api/").await.expect_problem(status, kind);
            assert_eq!(reply.field("retry-after"), wait, "{fault:?}");
            assert_silent(&reply);
            // And again, while it is left alone.
            let reply = stage.get("/api/").await;
            assert!(matches!(reply.status, 503 | 504), "{fault:?} {reply:?}");
            assert_silent(&reply);
            assert_eq!(stage.identity_provider.fetches(), 1, "{fault:?}");
            assert_eq!(stage.upstream.server().requests(), 0, "{fault:?}");
        }),
    )
    .await;
}

#[tokio::test]
async fn an_absent_provider_and_an_absent_secret_have_their_problems() {
    let stage = Stage::new().await;
    stage.identity_provider.server().leave().await.unwrap();
    let reply = stage.get("/api/").await;
    let reply = reply.expect_problem(503, "token-unavailable");
    assert_eq!(reply.field("retry-after"), Some("1"));

    let stage = Stage::with_provider("client_secret = { env = \"PILLION_TEST_UNSET\" }").await;
    let reply = stage
        .get("/api/")
        .await
        .expect_problem(502, "token-refused");
    assert!(
        reply.json()["detail"]
            .as_str()
            .unwrap()
            .contains("PILLION_TEST_UNSET")
    );
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let stage = Stage::new().await;
    let began = Instant::now();
    let throttled = Fault::status(StatusCode::TOO_MANY_REQUESTS)
        .with_field(RETRY_AFTER, HeaderValue::from_static("2"));
    stage.identity_provider.faults().once(throttled);
    stage
        .get("/api/")
        .await
        .expect_problem(503, "token-unavailable");
    recover(&stage, Duration::from_secs(4)).await;
    assert!(began.elapsed() > Duration::from_millis(1900));
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_redirecting_token_endpoint_is_not_followed() {
    let elsewhere = Upstream::open(None).await.unwrap();
    let location = HeaderValue::from_str(&format!("http://{}/token", elsewhere.address()));
    let location = location.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let stage = Stage::new().await;
        let redirect = Fault::status(StatusCode::from_u16(status).unwrap())
            .with_field(LOCATION, location.clone());
        stage.identity_provider.faults().once(redirect);
        stage
            .get("/api/")
            .await
            .expect_problem(502, "token-malformed");
    }
    assert_eq!(elsewhere.server().connections(), 0);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_overwrites_nothing() {
    let provider = Raw::start(|mut peer| async move {
        let nth = peer.read_head().await.map(|_| peer.heads());
        let token = if nth == Some(1) {
            sleep(Duration::from_millis(1500)).await;
            "late"
        } else {
            "newer"
        };
        let document = json!({ "access_token": token, "expires_in": 3600 }).to_string();
        let length = document.len();
        peer.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{document}"
        ))
        .await;
        peer.read_to_end().await;
    })
    .await;
    let stage = Stage::set()
        .open()
        .provider("timeout = \"200ms\"")
        .provider_at(format!("{}/token", provider.url()))
        .start()
        .await;
    stage
        .get("/api/")
        .await
        .expect_problem(504, "token-timeout");
    recover(&stage, Duration::from_secs(3)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(700) {
        stage.get("/api/").await.expect_ok();
        sleep(Duration::from_millis(10)).await;
    }
    for request in stage.upstream.requests() {
        assert_eq!(request.field("authorization"), Some("Bearer newer"));
    }
}

#[tokio::test]
async fn the_client_proves_who_it_is_in_the_way_that_the_file_says() {
    let secret = "p%+/:@ &=\u{fc}~*";
    for (way, fake) in [
        ("client_secret_basic", ClientAuth::ClientSecretBasic),
        ("client_secret_post", ClientAuth::ClientSecretPost),
        ("none", ClientAuth::None),
    ] {
        let setting = Stage::set();
        let file = setting.directory().write("secret", &format!("{secret}\n"));
        let lines = match fake {
            ClientAuth::None => String::new(),
            _ => format!("client_secret = {{ file = \"{}\" }}\n", file.display()),
        };
        let stage = setting
            .rules(|rules| {
                rules.client_auth = fake;
                rules.client_id = "me:and you+1".to_owned();
                rules.client_secret = secret.to_owned();
            })
            .provider(&format!(
                "client_id = \"me:and you+1\"\nclient_auth = \"{way}\"\n{lines}"
            ))
            .start()
            .await;
        stage.get("/api/").await.expect_ok();
        assert_eq!(stage.identity_provider.granted(), 1, "{way}");
    }
}

#[tokio::test]
async fn scope_and_params_arrive_as_they_are_written() {
    let stage = Stage::set()
        .rules(|rules| rules.audience = Some("https://api.example/a b?c=d&e".to_owned()))
        .provider("scope = [\"write\", \"read\"]")
        .provider("params = { audience = \"https://api.example/a b?c=d&e\", resource = \"x+y\" }")
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    let request = stage.identity_provider.last_request().unwrap();
    let mut form = request.form();
    form.sort();
    let expected = [
        ("audience", "https://api.example/a b?c=d&e"),
        ("grant_type", "client_credentials"),
        ("resource", "x+y"),
        ("scope", "read write"),
    ];
    assert_eq!(
        form,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(request.field("accept"), Some("application/json"));
    assert_eq!(request.field("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_rotated_secret_is_used_by_the_next_fetch() {
    let setting = Stage::set();
    let file = setting.directory().write("secret", SECRET);
    let lines = format!("client_secret = {{ file = \"{}\" }}", file.display());
    let stage = setting.provider(&lines).start().await;
    stage.get("/api/").await.expect_ok();

    stage.directory.write("secret", "rotated\n");
    let renewal = stage.admin(Method::POST, "/tokens/idp/renew").await;
    assert_eq!(renewal.status, 502, "the provider does not know it yet");
    let request = stage.identity_provider.last_request().unwrap();
    let credentials = request.field("authorization").unwrap();
    let credentials = STANDARD.decode(&credentials["Basic ".len()..]).unwrap();
    assert_eq!(credentials, b"app:rotated");
    stage.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn a_corrected_secret_is_tried_at_once() {
    let setting = Stage::set();
    let file = setting.directory().write("secret", "wrong");
    let lines = format!("client_secret = {{ file = \"{}\" }}", file.display());
    let stage = setting.provider(&lines).start().await;
    let refused = stage.get("/api/").await;
    refused.expect_problem(502, "token-refused");
    for _ in 0..3 {
        assert_eq!(stage.get("/api/").await.status / 100, 5);
    }
    assert_eq!(
        stage.identity_provider.fetches(),
        1,
        "it would be refused again"
    );
    stage.directory.replace("secret", SECRET);
    recover(&stage, Duration::from_secs(3)).await;
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn each_subject_has_a_token_of_its_own() {
    let stage = Stage::set()
        .provider("inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }")
        .route("path = \"/api/{merchant}\"\ninputs = { merchant = \"{path.merchant}\" }")
        .start()
        .await;
    let mut tokens = Vec::new();
    for merchant in ["1", "2", "1", "2", "a%20b"] {
        stage.get(&format!("/api/{merchant}/x")).await.expect_ok();
        let request = stage.upstream.last_request().unwrap();
        tokens.push(request.field("authorization").unwrap().to_owned());
    }
    assert_eq!(stage.identity_provider.fetches(), 3);
    assert_eq!(tokens[0], tokens[2]);
    assert_eq!(tokens[1], tokens[3]);
    assert_ne!(tokens[0], tokens[1]);
    let form = stage.identity_provider.last_request().unwrap().form();
    assert!(form.contains(&("merchant".to_owned(), "a b".to_owned())));
}

#[tokio::test]
async fn a_static_key_goes_where_the_route_says() {
    let more = "[provider.key]\ntype = \"static\"\nsecret = { env = \"KEY\" }\n\
        [[route]]\npath = \"/key\"\nprovider = \"key\"\nupstream = \"UPSTREAM\"\n\
        headers = { Authorization = \"Basic {token|basic}\", X-Api-Key = \"{token}\" }\n";
    let stage = Stage::set().open().more(more).start().await;
    stage.get("/key/").await.expect_ok();
    let request = stage.upstream.last_request().unwrap();
    assert_eq!(request.field("x-api-key"), Some("CNRY-long-lived-key"));
    let basic = format!("Basic {}", STANDARD.encode("CNRY-long-lived-key:"));
    assert_eq!(request.field("authorization"), Some(basic.as_str()));
}

#[tokio::test]
async fn too_many_waiters_are_told_so() {
    let stage = Stage::set().top("[limits]\nwaiters = 5").start().await;
    stage
        .identity_provider
        .faults()
        .once(Fault::Delay(Duration::from_millis(300)));
    let mut statuses = statuses(all(&stage, 20)).await;
    statuses.sort_unstable();
    let mut expected = vec![200; 5];
    expected.extend([503; 15]);
    assert_eq!(statuses, expected);
    let refusals = stage.upstream.refusals();
    assert_eq!((stage.identity_provider.fetches(), refusals), (1, 0));
}

/// So many requests at once, each on a connection of its own.
fn all(stage: &Stage, count: usize) -> JoinSet<Reply> {
    let address = stage.address();
    (0..count)
        .map(|_| async move { Client::connect(address).await.get("/api/").await })
        .collect()
}

async fn statuses(replies: JoinSet<Reply>) -> Vec<u16> {
    let replies = replies.join_all().await;
    replies.iter().map(|reply| reply.status).collect()
}

/// Asks until there is a good answer.
async fn recover(stage: &Stage, limit: Duration) {
    let mut client = stage.client().await;
    let began = Instant::now();
    while client.get("/api/").await.status != 200 {
        assert!(began.elapsed() < limit, "not after {limit:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing that a provider said, and no 401 of pillion's own.
#[track_caller]
fn assert_silent(reply: &Reply) {
    assert_ne!(reply.status, 401);
    let text = format!("{reply:?}");
    assert!(!text.contains("CNRY"), "{text}");
    assert_eq!(
        reply.field(CONTENT_TYPE.as_str()),
        Some("application/problem+json")
    );
}
