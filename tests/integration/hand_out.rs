//! A route that hands a token out: the app's own server asks, and passes it to a client of its own.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use pillion::fake::Fault;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stage::{Reply, Setting, Stage, chunked, full, request};

/// A stage on which `/tokens` hands out.
fn handing_out(provider: &str, route: &str) -> Setting {
    Stage::set()
        .provider("hand_out = true")
        .provider(provider)
        .more(&format!(
            "[[route]]\nname = \"tokens\"\npath = \"/tokens\"\nprovider = \"idp\"\nhand_out = true\n{route}"
        ))
}

/// A stage on which `/tokens` takes two inputs from a JSON body.
async fn with_body() -> Stage {
    let mut setting = Stage::set();
    setting = setting
        .provider("hand_out = true\ninputs = [\"phone\", \"minutes\"]")
        .provider("params = { phone = \"{input.phone}\", minutes = \"{input.minutes}\" }")
        .route("path = \"/api/{phone}/{minutes}\"")
        .route("inputs = { phone = \"{path.phone}\", minutes = \"{path.minutes}\" }");
    setting
        .more(
            "[[route]]\npath = \"/tokens\"\nprovider = \"idp\"\nhand_out = true\n\
             inputs = { phone = \"{body./phones/0/hash}\", minutes = \"{body./minutes}\" }",
        )
        .start()
        .await
}

async fn ask(stage: &Stage, body: impl ToString) -> Reply {
    let asked = request(Method::POST, "/tokens")
        .header("content-type", "application/json")
        .body(full(body.to_string()));
    stage.send(asked.unwrap()).await
}

async fn ask_anew(stage: &Stage) -> Reply {
    let asked = request(Method::GET, "/tokens").header("cache-control", "max-age=0, No-Cache");
    stage.send(asked.body(full("")).unwrap()).await
}

fn token(reply: &Reply) -> String {
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_handed_out_as_a_token_response() {
    let stage = handing_out("", "").start().await;
    for method in [Method::GET, Method::POST] {
        let asked = request(method, "/tokens").body(full("")).unwrap();
        let reply = stage.send(asked).await.expect_ok();
        assert_eq!(reply.field("content-type"), Some("application/json"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert_eq!(reply.field("pragma"), Some("no-cache"));
        let members = reply.json();
        assert_eq!(members["token_type"], "Bearer");
        let left = members["expires_in"].as_u64().unwrap();
        assert!((3580..=3590).contains(&left), "{left}");
        assert!(stage.identity_provider.is_good(&token(&reply)).is_good());
        assert_eq!(members.as_object().unwrap().len(), 3);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    assert_eq!(stage.upstream.requests().len(), 0);
}

#[tokio::test]
async fn the_token_that_is_handed_out_is_the_one_that_is_carried() {
    let stage = handing_out("", "").start().await;
    stage.get("/api/").await.expect_ok();
    let reply = stage.get("/tokens").await.expect_ok();
    let carried = stage.upstream.last_request().unwrap();
    let bearer = format!("Bearer {}", token(&reply));
    assert_eq!(carried.field("authorization"), Some(bearer.as_str()));
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn no_cache_asks_for_a_new_token_and_that_at_most_once_a_second() {
    let stage = handing_out("", "").start().await;
    let first = token(&stage.get("/tokens").await.expect_ok());
    let began = Instant::now();
    let anew = join_all((0..20).map(|_| ask_anew(&stage))).await;
    assert!(began.elapsed() > Duration::from_millis(800));
    let tokens: Vec<_> = anew.into_iter().map(|it| token(&it.expect_ok())).collect();
    assert!(tokens.iter().all(|it| *it == tokens[0] && *it != first));
    assert_eq!(stage.identity_provider.fetches(), 2);
    assert_eq!(token(&stage.get("/tokens").await), tokens[0]);
}

#[tokio::test]
async fn no_cache_leaves_a_provider_alone_that_is_in_back_off() {
    let stage = handing_out("", "").start().await;
    stage.get("/tokens").await.expect_ok();
    let faults = stage.identity_provider.faults();
    faults.always(
        Fault::status(StatusCode::TOO_MANY_REQUESTS)
            .with_field(http::header::RETRY_AFTER, "60".parse().unwrap()),
    );
    ask_anew(&stage)
        .await
        .expect_problem(503, "token-unavailable");
    let fetches = stage.identity_provider.fetches();
    for _ in 0..5 {
        let reply = ask_anew(&stage).await;
        let reply = reply.expect_problem(503, "token-unavailable");
        assert!(reply.field("retry-after").is_some());
    }
    assert_eq!(stage.identity_provider.fetches(), fetches);
    stage.get("/tokens").await.expect_ok();
}

#[tokio::test]
async fn fields_of_the_token_response_go_with_the_token() {
    let fields = "fields = { merchant = \"/merchant/id\", limits = \"/limits\", gone = \"/gone\" }";
    let stage = handing_out(fields, "").start().await;
    stage.identity_provider.amend_answers(|members| {
        members.insert("merchant".to_owned(), json!({"id": "1234567"}));
        members.insert("limits".to_owned(), json!([1, 2]));
        members.insert("unasked".to_owned(), json!("CNRY"));
    });
    let members = stage.get("/tokens").await.expect_ok().json();
    assert_eq!(members["merchant"], "1234567");
    assert_eq!(members["limits"], json!([1, 2]));
    assert_eq!(members.get("gone"), None);
    assert_eq!(members.as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn a_key_without_an_end_is_handed_out_without_one() {
    let more = "[provider.key]\ntype = \"static\"\nsecret = { env = \"KEY\" }\nhand_out = true\n\
                [[route]]\npath = \"/key\"\nprovider = \"key\"\nhand_out = true";
    let stage = Stage::set().more(more).start().await;
    let members = stage.get("/key").await.expect_ok().json();
    let expected = json!({"access_token": "CNRY-long-lived-key", "token_type": "Bearer"});
    assert_eq!(members, expected);
}

#[tokio::test]
async fn only_get_and_post_of_the_path_itself_are_answered() {
    let stage = handing_out("", "").start().await;
    for method in [Method::PUT, Method::DELETE, Method::HEAD] {
        let asked = request(method.clone(), "/tokens").body(full("")).unwrap();
        let reply = stage.send(asked).await.expect_status(405);
        assert_eq!(reply.field("allow"), Some("GET, POST"), "{method}");
    }
    stage.get("/tokens/").await.expect_ok();
    let below = stage.get("/tokens/below").await;
    below.expect_problem(404, "no-route");
}

#[tokio::test]
async fn a_web_page_gets_no_token() {
    let stage = handing_out("", "").start().await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let asked = request(Method::GET, "/tokens").header(name, value);
        let reply = stage.send(asked.body(full("")).unwrap()).await;
        reply.expect_problem(403, "forbidden-caller");
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_provider_that_fails_is_told_as_everywhere() {
    let stage = handing_out("", "").start().await;
    let faults = stage.identity_provider.faults();
    faults.always(Fault::json(
        StatusCode::BAD_REQUEST,
        &json!({"error": "invalid_scope"}),
    ));
    stage
        .get("/tokens")
        .await
        .expect_problem(502, "token-refused");
}

#[tokio::test]
async fn the_route_says_its_own_scope() {
    let stage = handing_out("", "scope = [\"write\"]").start().await;
    let reply = stage.get("/tokens").await.expect_ok();
    let verdict = stage.identity_provider.is_good(&token(&reply));
    assert!(verdict.allows("write") && !verdict.allows("read"));
}

#[tokio::test]
async fn requests_are_counted_as_on_any_route() {
    let stage = handing_out("", "").start().await;
    stage.get("/tokens").await.expect_ok();
    let series = "pillion_requests_total{route=\"tokens\",status_class=\"2xx\"}";
    stage.expect_metric(series, 1.0).await;
    let upstream = stage.metric("pillion_upstream_duration_seconds_count{route=\"tokens\"}");
    assert!(upstream.await.abs() < f64::EPSILON);
    let routes = stage.status().await["routes"].clone();
    let tokens = routes.as_array().unwrap().iter();
    let tokens = tokens.clone().find(|route| route["name"] == "tokens");
    assert_eq!(tokens.unwrap()["upstream"], Value::Null);
}

#[tokio::test]
async fn inputs_come_from_a_json_body() {
    let stage = with_body().await;
    let body = json!({"phones": [{"hash": "0f1e2d"}], "minutes": 15});
    ask(&stage, &body).await.expect_ok();
    let asked = stage.identity_provider.last_request().unwrap().form();
    assert!(asked.contains(&("phone".to_owned(), "0f1e2d".to_owned())));
    assert!(asked.contains(&("minutes".to_owned(), "15".to_owned())));
    ask(&stage, &body).await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_number_is_not_the_text_of_it_and_members_have_no_order() {
    let stage = with_body().await;
    let minutes =
        |minutes: &str| format!("{{\"phones\":[{{\"hash\":\"a\"}}],\"minutes\":{minutes}}}");
    for (written, fetches) in [
        ("15", 1),
        ("\"15\"", 2),
        ("{\"a\":1,\"b\":2}", 3),
        ("{ \"b\": 2, \"a\": 1 }", 3),
    ] {
        ask(&stage, minutes(written)).await.expect_ok();
        assert_eq!(stage.identity_provider.fetches(), fetches, "{written}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told_without_a_word_of_it() {
    let stage = with_body().await;
    let long = vec!["CNRY"; 2000];
    let long = json!({"phones": [{"hash": "a"}], "minutes": long}).to_string();
    for (body, told) in [
        ("{\"minutes\": 5, \"x\": \"CNRY\"}", "`phone`"),
        ("{\"phones\": [{\"hash\": \"CNRY\"}]}", "`minutes`"),
        (
            "{\"phones\": [{\"hash\": \"CNRY\"}], \"minutes\": null}",
            "`minutes`",
        ),
        (
            "{\"phones\": [{\"hash\": \"CNRY\\r\\n\"}], \"minutes\": 5}",
            "`phone`",
        ),
        (
            "{\"phones\": [{\"hash\": \"\"}], \"minutes\": 5}",
            "`phone`",
        ),
        (&long, "8192 bytes"),
        ("{\"CNRY", "not JSON"),
        ("", "not JSON"),
    ] {
        let reply = ask(&stage, body).await.expect_problem(400, "bad-request");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(told) && !detail.contains("CNRY"),
            "{detail}"
        );
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_and_so_is_a_long_one() {
    let stage = with_body().await;
    let reply = stage.post("/tokens", "{\"minutes\":5}").await;
    let reply = reply.expect_problem(400, "bad-request");
    assert!(reply.json()["detail"].to_string().contains("Content-Type"));
    let long = vec![b' '; 40 << 10].into();
    let asked = request(Method::POST, "/tokens")
        .header("content-type", "application/json")
        .body(chunked(&[bytes::Bytes::clone(&long), long], None));
    let reply = stage.send(asked.unwrap()).await;
    let reply = reply.expect_problem(400, "bad-request");
    assert!(reply.json()["detail"].to_string().contains("64 KiB"));
}
