//! Which answers say that the token is no good, as the route has it; and what is looked at is passed on untouched.

use std::fmt::Write as _;

use http::{HeaderName, Method, StatusCode};
use pillion::fake::{Fault, Stitch};
use serde_json::{Value, json};

use crate::stage::{Raw, Reply, Stage, full, request};

const RULES: &str = "unauthorized = [
  { status = 401 },
  { status = 403, header = \"X-Auth\", equals = [\"expired\", \"revoked\"] },
  { status = 200, json = \"/extensions/code\", equals = [\"UNAUTHENTICATED\"] },
  { status = 200, json = \"/errors/*/extensions/code\", equals = [\"UNAUTHENTICATED\", 16] },
]";

async fn with_rules() -> Stage {
    Stage::set().route(RULES).open().start().await
}

/// A stage whose upstream says these bytes to everything.
async fn saying(answer: impl Into<String>) -> (Stage, Raw) {
    let answer: String = answer.into();
    let raw = Raw::start(move |mut peer| {
        let answer = answer.clone();
        async move {
            while let Some(head) = peer.read_head().await {
                peer.read_content(&head).await;
                peer.write(&answer).await;
            }
        }
    })
    .await;
    let stage = Stage::set().route(RULES).upstream_at(raw.url());
    (stage.start().await, raw)
}

async fn meet(stage: &Stage, fault: Fault) -> Reply {
    stage.upstream.faults().once(fault);
    stage.post("/api/graphql", "the query").await
}

fn json_fault(document: &Value) -> Fault {
    Fault::json(StatusCode::OK, document)
}

fn unauthenticated() -> Value {
    json!({
        "errors": [{"message": "UNAUTHENTICATED: Token is expired or malformed"}],
        "extensions": {"code": "UNAUTHENTICATED"},
    })
}

fn expect_renewed(stage: &Stage, times: usize) {
    assert_eq!(stage.identity_provider.fetches(), 1 + times);
}

async fn expect_action(stage: &Stage, action: &str, count: f64) {
    let series = format!("pillion_unauthorized_total{{route=\"api\",action=\"{action}\"}}");
    stage.expect_metric(&series, count).await;
}

#[tokio::test]
async fn a_200_that_says_unauthenticated_is_renewed_and_replayed() {
    for document in [
        unauthenticated(),
        json!({"errors": [{"extensions": {"code": "OTHER"}}, {"extensions": {"code": 16}}]}),
        json!({"errors": [{"extensions": {"code": "UNAUTHENTICATED"}}], "data": null}),
    ] {
        let stage = with_rules().await;
        let reply = meet(&stage, json_fault(&document)).await.expect_ok();
        assert_eq!(reply.json()["body_length"], 9);
        expect_renewed(&stage, 1);
        let sent = stage.upstream.requests();
        assert_eq!(sent.len(), 2);
        assert_ne!(
            sent[0].field("authorization"),
            sent[1].field("authorization")
        );
        expect_action(&stage, "replayed", 1.0).await;
    }
}

#[tokio::test]
async fn what_no_rule_matches_is_the_answer() {
    let stage = with_rules().await;
    for document in [
        json!({"errors": [{"extensions": {"code": "BAD_USER_INPUT"}}]}),
        json!({"data": {"code": "UNAUTHENTICATED"}}),
        json!(["UNAUTHENTICATED"]),
        json!(null),
    ] {
        let reply = meet(&stage, json_fault(&document)).await.expect_ok();
        assert_eq!(reply.json(), document);
    }
    let created = Fault::json(StatusCode::CREATED, &unauthenticated());
    meet(&stage, created).await.expect_status(201);
    expect_renewed(&stage, 0);
}

#[tokio::test]
async fn a_route_without_rules_looks_into_nothing() {
    let stage = Stage::set().open().start().await;
    let reply = meet(&stage, json_fault(&unauthenticated())).await;
    assert_eq!(reply.expect_ok().json(), unauthenticated());
    expect_renewed(&stage, 0);
}

#[tokio::test]
async fn a_header_can_say_so() {
    let stage = with_rules().await;
    let says = |value: &str| {
        let name = HeaderName::from_static("x-auth");
        Fault::status(StatusCode::FORBIDDEN).with_field(name, value.parse().unwrap())
    };
    meet(&stage, says("no-such-permission"))
        .await
        .expect_status(403);
    meet(&stage, Fault::status(StatusCode::FORBIDDEN))
        .await
        .expect_status(403);
    expect_renewed(&stage, 0);
    meet(&stage, says("revoked")).await.expect_ok();
    expect_renewed(&stage, 1);
}

#[tokio::test]
async fn without_a_rule_for_it_a_401_is_the_apps_to_see() {
    let stage = Stage::set()
        .route("unauthorized = []")
        .guarded(|_| false)
        .start()
        .await;
    stage.get("/api/").await.expect_status(401);
    assert_eq!(stage.upstream.requests().len(), 1);
    expect_renewed(&stage, 0);
}

#[tokio::test]
async fn an_answer_with_data_renews_and_is_not_asked_for_again() {
    let stage = with_rules().await;
    let mut document = unauthenticated();
    document["data"] = json!({"payment": {"id": "1"}, "refund": null});
    let reply = meet(&stage, json_fault(&document)).await.expect_ok();
    assert_eq!(reply.json(), document);
    assert_eq!(stage.upstream.requests().len(), 1);
    expect_action(&stage, "not_replayable", 1.0).await;
    stage
        .until(|stage| stage.identity_provider.fetches() == 2)
        .await;
}

#[tokio::test]
async fn a_missing_scope_is_counted_and_costs_no_fetch() {
    let stage = with_rules().await;
    let document = json!({
        "errors": [{"message": "Token is missing the following scope: balances",
            "extensions": {"code": "FORBIDDEN", "missingScopes": ["balances"]}}],
        "data": {"node": {"id": "1", "currentBalance": null}},
    });
    let reply = meet(&stage, json_fault(&document)).await.expect_ok();
    assert_eq!(reply.json(), document);
    expect_action(&stage, "ignored", 1.0).await;
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"balances\"";
    let forbidden = Fault::status(StatusCode::FORBIDDEN)
        .with_field(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap());
    meet(&stage, forbidden).await.expect_status(403);
    expect_action(&stage, "ignored", 2.0).await;
    expect_renewed(&stage, 0);
}

#[tokio::test]
async fn an_answer_that_stays_so_after_the_replay_is_the_answer() {
    let stage = with_rules().await;
    stage
        .upstream
        .faults()
        .always(json_fault(&unauthenticated()));
    for _ in 0..5 {
        let reply = stage.post("/api/graphql", "the query").await.expect_ok();
        assert_eq!(reply.json(), unauthenticated());
    }
    assert!(stage.identity_provider.fetches() <= 2);
    let series = "pillion_replays_total{route=\"api\",outcome=\"still_unauthorized\"}";
    stage.expect_metric(series, 1.0).await;
}

#[tokio::test]
async fn only_json_that_is_not_encoded_is_looked_into() {
    let body = unauthenticated().to_string();
    for (head, renewed) in [
        (
            "content-type: application/graphql-response+json; charset=utf-8\r\n",
            true,
        ),
        (
            "content-type: application/json\r\ncontent-encoding: identity\r\n",
            true,
        ),
        (
            "content-type: application/json\r\ncontent-encoding: gzip\r\n",
            false,
        ),
        ("content-type: text/html\r\n", false),
        ("content-type: text/event-stream\r\n", false),
        ("", false),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\n\r\n{body}");
        let (stage, raw) = saying(answer).await;
        let reply = stage.get("/api/").await.expect_ok();
        assert_eq!(reply.body, body, "{head}");
        assert_eq!(
            reply.field("content-length"),
            Some(length.to_string().as_str())
        );
        assert_eq!(
            stage.identity_provider.fetches(),
            1 + usize::from(renewed),
            "{head}"
        );
        assert_eq!(raw.requests(), 1 + usize::from(renewed), "{head}");
    }
}

#[tokio::test]
async fn a_body_beyond_64_kib_is_passed_on_byte_for_byte_and_not_judged() {
    let mut document = unauthenticated();
    document["padding"] = "x".repeat(100 << 10).into();
    let body = document.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for piece in body.as_bytes().chunks(9001) {
        let piece = std::str::from_utf8(piece).unwrap();
        write!(chunked, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
    }
    chunked.push_str("0\r\n\r\n");
    let declared = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    for answer in [chunked, declared] {
        let (stage, raw) = saying(answer).await;
        let reply = stage.get("/api/").await.expect_ok();
        assert!(reply.body == body);
        assert_eq!((raw.requests(), stage.identity_provider.fetches()), (1, 1));
    }
}

#[tokio::test]
async fn trailers_of_an_answer_that_was_looked_into_come_through() {
    let body = "{\"data\": {\"a\": 1}}";
    let (first, second) = body.split_at(5);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nx-sum: abc\r\n\r\n",
        first.len(),
        second.len(),
    );
    let (stage, _raw) = saying(answer).await;
    let asked = request(Method::GET, "/api/").header("te", "trailers");
    let reply = stage.send(asked.body(full("")).unwrap()).await.expect_ok();
    assert_eq!(reply.body, body);
    assert_eq!(reply.trailers["x-sum"], "abc");
    assert_eq!(reply.field("content-length"), None);
}

#[tokio::test]
async fn an_answer_that_breaks_off_while_it_is_looked_into_breaks_off_for_the_app_too() {
    let raw = Raw::start(|mut peer| async move {
        if peer.read_head().await.is_some() {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
            peer.write(head).await;
            peer.write("{\"data\": ").await;
        }
    })
    .await;
    let stage = Stage::set()
        .route(RULES)
        .upstream_at(raw.url())
        .start()
        .await;
    let answer = stage
        .exchange("GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert!(answer.contains("content-length: 1000"), "{answer}");
    assert!(answer.ends_with("{\"data\": "), "{answer}");
}

#[tokio::test]
async fn a_connection_whose_answer_was_looked_into_is_used_again() {
    let one_worker = Stage::set().top("[listen]\nworkers = 1").route(RULES);
    let stage = one_worker.open().start().await;
    for _ in 0..5 {
        meet(&stage, json_fault(&json!({"data": {}})))
            .await
            .expect_ok();
    }
    assert_eq!(stage.upstream.server().connections(), 1);
}

/// A stage between the app and Stitch.
async fn before_stitch(stitch: &Stitch) -> Stage {
    let setting = Stage::set();
    let secret = setting.directory().write("secret", stitch.client_secret());
    let [token_endpoint, api] = [stitch.secure_server(), stitch.api_server()]
        .map(|server| format!("http://{}", server.address()));
    let provider = format!(
        "client_id = \"{}\"\nclient_secret = {{ file = \"{}\" }}\nclient_auth = \"client_secret_post\"\n\
         scope = [\"client_paymentrequest\"]\nparams = {{ audience = \"{}\" }}",
        stitch.client_id(),
        secret.display(),
        Stitch::TOKEN_ENDPOINT,
    );
    setting
        .provider(&provider)
        .provider_at(format!("{token_endpoint}/connect/token"))
        .upstream_at(api)
        .route(RULES)
        .start()
        .await
}

async fn mutate(stage: &Stage, mutation: &str) -> Value {
    let query = json!({"query": format!("mutation {{ {mutation} }}")}).to_string();
    let asked = request(Method::POST, "/api/graphql").header("content-type", "application/json");
    let reply = stage.send(asked.body(full(query)).unwrap()).await;
    reply.expect_ok().json()
}

#[tokio::test]
async fn stitch_revokes_a_token_in_a_200_and_the_payment_is_made_once() {
    let stitch = Stitch::start(None).await.unwrap();
    stitch.answer_unauthenticated_with(StatusCode::OK);
    let stage = before_stitch(&stitch).await;
    let payment = "clientPaymentInitiationRequestCreate";
    assert!(mutate(&stage, payment).await["data"][payment].is_object());
    stitch.token_endpoint().revoke_all();
    assert!(mutate(&stage, payment).await["data"][payment].is_object());
    assert_eq!(stitch.mutations(), 2);
    assert_eq!(stitch.token_endpoint().fetches(), 2);
}

#[tokio::test]
async fn stitch_misses_a_scope_and_no_token_is_fetched_for_it() {
    let stitch = Stitch::start(None).await.unwrap();
    let stage = before_stitch(&stitch).await;
    for _ in 0..3 {
        let answer = mutate(&stage, "clientRefundInitiate").await;
        let missing = &answer["errors"][0]["extensions"]["missingScopes"];
        assert_eq!(*missing, json!(["client_refund"]));
    }
    assert_eq!(stitch.token_endpoint().fetches(), 1);
    assert_eq!(stitch.mutations(), 0);
    expect_action(&stage, "ignored", 3.0).await;
}

#[tokio::test]
async fn a_403_that_means_expired_is_renewed_and_replayed_where_the_route_says_so() {
    let rule = "unauthorized = [{ status = 401 }, { status = 403, json = \"/detail\", equals = [\"Token has expired\"] }]";
    let stage = Stage::with_route(rule).await;
    for (detail, status, fetches) in [
        ("Token has expired", 200, 2),
        ("You do not have permission", 403, 2),
    ] {
        let forbidden = Fault::json(StatusCode::FORBIDDEN, &json!({ "detail": detail }));
        meet(&stage, forbidden).await.expect_status(status);
        assert_eq!(stage.identity_provider.fetches(), fetches, "{detail}");
    }
}
