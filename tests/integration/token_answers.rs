//! What a token endpoint's answer says besides the token: how long it lives, when the next one is wanted, and that it is
//! of no use to ask again.

use std::hash::RandomState;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use pillion::clock::Moment;
use pillion::fake::Fault;
use pillion::token::status::TokenStatus;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::stage::{SECRET, Stage};

/// The one token of a stage whose identity provider answers so, once.
async fn fetched(provider: &str, answer: &Value) -> TokenStatus {
    let answer = Fault::json(StatusCode::OK, answer).with_field(
        HeaderName::from_static("x-expires-in"),
        HeaderValue::from_static("700"),
    );
    let stage = Stage::set().open().provider(provider).start().await;
    stage.identity_provider.faults().once(answer);
    stage.get("/api/").await.expect_ok();
    let plan = stage.running.proxy.plan();
    let status = plan.providers[0].status(&RandomState::new(), Moment::now());
    status.tokens[0].clone()
}

#[tokio::test]
async fn the_first_place_of_an_oauth2_providers_expiry_that_says_a_lifetime_counts() {
    let all = "expiry = [{ json = \"/in_ms\", unit = \"ms\" }, { json = \"/in_min\", unit = \"min\" }, \
               { json = \"/end\", unit = \"rfc3339\" }, { header = \"X-Expires-In\" }, { after = \"10m\" }]";
    let prefixed = "expiry = [{ jwt = true, strip_prefix = \"_\" }]";
    // {"exp":4102444800}, the first moment of 2100
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";
    for (provider, answer, seconds) in [
        (all, json!({ "in_ms": 90_000, "in_min": 5 }), 90.0),
        (all, json!({ "in_ms": null, "in_min": "5" }), 300.0),
        (all, json!({ "end": "soon", "expires_in": 60 }), 700.0),
        // A list that says nothing leaves what the standard says; `after` comes last.
        (
            "expiry = [{ json = \"/no\" }]",
            json!({ "expires_in": 80 }),
            80.0,
        ),
        (
            "expiry = [{ after = \"10m\" }]",
            json!({ "expires_in": 80 }),
            80.0,
        ),
        ("expiry = [{ after = \"10m\" }]", json!({}), 600.0),
        ("", json!({ "expires_in": "80" }), 80.0),
        ("", json!({}), 300.0),
        // Beyond what is believed.
        (
            prefixed,
            json!({ "access_token": format!("live_{jwt}") }),
            86_400.0,
        ),
        (prefixed, json!({ "expires_in": 80 }), 80.0),
    ] {
        let mut answer = answer;
        if answer.get("access_token").is_none() {
            answer["access_token"] = "opaque".into();
        }
        let left = fetched(provider, &answer).await.expires_in_seconds.unwrap();
        assert!(
            (seconds - 20.0..=seconds).contains(&left),
            "{answer} {left}"
        );
    }
}

#[tokio::test]
async fn an_input_can_be_the_lifetime_that_was_asked_for() {
    let stage = Stage::set()
        .open()
        .provider("inputs = [\"minutes\"]\nparams = { minutes = \"{input.minutes}\" }\nexpiry = [{ input = \"minutes\", unit = \"min\" }]")
        .route("path = \"/api/{minutes}\"\ninputs = { minutes = \"{path.minutes}\" }")
        .start()
        .await;
    let answer = Fault::json(StatusCode::OK, &json!({ "access_token": "t" }));
    stage.identity_provider.faults().once(answer);
    stage.get("/api/20").await.expect_ok();
    let plan = stage.running.proxy.plan();
    let status = plan.providers[0].status(&RandomState::new(), Moment::now());
    let left = status.tokens[0].expires_in_seconds.unwrap();
    assert!((1180.0..=1200.0).contains(&left), "{left}");
}

#[tokio::test]
async fn an_oauth2_provider_may_say_when_the_next_token_is_wanted() {
    let lines = "soft_expiry = [{ json = \"/refresh_in\" }]";
    let answer = json!({ "access_token": "t", "expires_in": 3600, "refresh_in": 900 });
    let status = fetched(lines, &answer).await;
    let renews_in = status.renews_in_seconds.unwrap();
    assert!((880.0..=900.0).contains(&renews_in), "{renews_in}");
    assert!(status.expires_in_seconds.is_some_and(|left| left > 3500.0));
}

#[tokio::test]
async fn an_oauth2_provider_may_say_in_the_body_how_long_to_stay_away() {
    let stage = Stage::with_provider("retry_after = \"/wait\"").await;
    let throttled = Fault::json(StatusCode::TOO_MANY_REQUESTS, &json!({ "wait": 7 }));
    stage.identity_provider.faults().once(throttled);
    let reply = stage.get("/api/").await;
    reply.expect_problem(503, "token-unavailable");
    let reply = stage.get("/api/").await;
    let retry_after = reply.field("retry-after").unwrap().parse::<u64>().unwrap();
    assert!((5..=7).contains(&retry_after), "{retry_after}");
    assert_eq!(stage.identity_provider.fetches(), 1);
}

/// A provider of each type, whose answers are the identity provider's faults.
fn provider(kind: &str, refused: &str) -> String {
    let own = match kind {
        "oauth2" => {
            "token_endpoint = \"PROVIDER\"\nclient_id = \"app\"\nclient_secret = { env = \"SECRET\" }"
        }
        "http" => "url = \"PROVIDER\"\ntoken = \"/access_token\"",
        _ => "url = \"PROVIDER\"\nquery = \"mutation { mint }\"\ntoken = \"/data/mint\"",
    };
    format!(
        "[provider.odd]\ntype = \"{kind}\"\n{own}\nrefused = {refused}\nerror = \"/text\"\n\
         [[route]]\npath = \"/odd\"\nupstream = \"UPSTREAM\"\nprovider = \"odd\"\n"
    )
}

#[tokio::test]
async fn an_answer_that_the_file_calls_a_refusal_is_one_whatever_its_status() {
    let by_code = "{ \"/codes/*\" = [\"NO_APP\", 17] }";
    for (kind, status, refused, answer) in [
        ("oauth2", 400, by_code, json!({ "codes": ["X", "NO_APP"] })),
        ("oauth2", 200, by_code, json!({ "codes": [17] })),
        (
            "http",
            200,
            by_code,
            json!({ "codes": ["NO_APP"], "access_token": "t" }),
        ),
        (
            "http",
            404,
            "{ \"/code\" = { exists = true } }",
            json!({ "code": 1 }),
        ),
        (
            "graphql",
            200,
            by_code,
            json!({ "codes": [17], "errors": [{ "message": "CNRY" }] }),
        ),
    ] {
        let stage = Stage::set()
            .open()
            .more(&provider(kind, refused))
            .start()
            .await;
        let mut answer = answer;
        answer["text"] = "CNRY".into();
        let status = StatusCode::from_u16(status).unwrap();
        stage
            .identity_provider
            .faults()
            .always(Fault::json(status, &answer));
        let reply = stage
            .get("/odd/")
            .await
            .expect_problem(502, "token-refused");
        assert!(!format!("{reply:?}").contains("CNRY"), "{reply:?}");
        // A minute's back-off, not the second of what passes.
        let reply = stage.get("/odd/").await;
        let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!(wait > 20, "{kind} {wait}");
        assert_eq!(stage.identity_provider.fetches(), 1, "{kind}");
        let counted = "pillion_token_fetches_total{provider=\"odd\",outcome=\"refused\"}";
        stage.expect_metric(counted, 1.0).await;
    }
}

#[tokio::test]
async fn a_provider_that_is_down_or_throttles_does_not_refuse_whatever_it_says() {
    let refused = "{ \"/code\" = { exists = true } }";
    for (status, outcome) in [
        (503, "unavailable"),
        (429, "throttled"),
        (408, "unavailable"),
    ] {
        let stage = Stage::set()
            .open()
            .more(&provider("http", refused))
            .start()
            .await;
        let status = StatusCode::from_u16(status).unwrap();
        let down = Fault::json(status, &json!({ "code": "sealed" }));
        stage.identity_provider.faults().once(down);
        let reply = stage.get("/odd/").await;
        reply.expect_problem(503, "token-unavailable");
        let counted =
            format!("pillion_token_fetches_total{{provider=\"odd\",outcome=\"{outcome}\"}}");
        stage.expect_metric(&counted, 1.0).await;
    }
}

#[tokio::test]
async fn a_secret_that_was_refused_in_the_files_words_is_tried_at_once_when_it_has_changed() {
    let setting = Stage::set();
    let file = setting.directory().write("secret", "wrong");
    let more = provider("oauth2", "{ \"/error\" = \"NO_APP\" }").replace(
        "{ env = \"SECRET\" }",
        &format!("{{ file = \"{}\" }}", file.display()),
    );
    let stage = setting.open().more(&more).start().await;
    let refusal = Fault::json(StatusCode::BAD_REQUEST, &json!({ "error": "NO_APP" }));
    stage.identity_provider.faults().once(refusal);
    stage
        .get("/odd/")
        .await
        .expect_problem(502, "token-refused");
    stage.directory.replace("secret", SECRET);
    let deadline = Instant::now() + Duration::from_secs(10);
    while stage.get("/odd/").await.status != 200 {
        assert!(Instant::now() < deadline, "still refused");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_token_of_two_segments_is_a_token_like_any_other() {
    // As Concierge's documentation prints one: without the JOSE header.
    let answer = json!({ "access_token": "eyJqdGkiOiIxIn0.c2ln" });
    let left = fetched("", &answer).await.expires_in_seconds.unwrap();
    assert!((280.0..=300.0).contains(&left), "{left}");
}

#[tokio::test]
async fn scopes_in_another_order_are_the_same_token() {
    let route = |path: &str, scope: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"UPSTREAM\"\nprovider = \"idp\"\nscope = {scope}\n"
        )
    };
    let more = route("/one", "[\"read\", \"write\"]") + &route("/other", "[\"write\", \"read\"]");
    let stage = Stage::set().more(&more).start().await;
    for path in ["/one/", "/other/", "/one/"] {
        stage.get(path).await.expect_ok();
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
}
