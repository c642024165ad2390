//! Problem documents: each says what to do, and each type has its section of `docs/problems.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use http::{Method, StatusCode};
use pillion::fake::Fault;
use serde_json::json;

use crate::stage::{Reply, Stage, full, request};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The problem types of the one table that has them.
fn types() -> BTreeSet<String> {
    let table = read("src/proxy/problem.rs");
    let rows = table.match_indices(" row(").filter_map(|(at, _)| {
        let slug = table[at..].split('"').nth(1)?;
        (!slug.contains(' ')).then(|| slug.to_owned())
    });
    rows.collect()
}

fn sections() -> BTreeSet<String> {
    let guide = read("docs/problems.md");
    let headings = guide.lines().filter_map(|line| line.strip_prefix("## "));
    headings.map(str::to_owned).collect()
}

#[test]
fn every_problem_type_has_its_section_and_every_section_is_a_type() {
    let types = types();
    assert!(types.contains("no-route") && types.contains("overloaded"));
    assert_eq!(types.len(), 12, "{types:?}");
    assert_eq!(sections(), types);
}

#[test]
fn every_section_says_what_to_do_and_names_metrics_that_there_are() {
    let (guide, operations) = (read("docs/problems.md"), read("docs/operations.md"));
    for section in guide.split("\n## ").skip(1) {
        for part in ["**To do**", "**Seen in**", "**Alert**"] {
            assert!(section.contains(part), "{part} is not in\n{section}");
        }
    }
    let metrics = guide.match_indices("pillion_").map(|(at, _)| {
        let rest = &guide[at..];
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    });
    for metric in metrics {
        assert!(operations.contains(&format!("`{metric}`")), "{metric}");
    }
}

#[track_caller]
fn teaches(reply: Reply, status: u16, slug: &str, advice: &str) {
    let document = reply.expect_problem(status, slug).json();
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.contains(advice), "{detail}");
    let (page, section) = document["help"].as_str().unwrap().split_once('#').unwrap();
    assert_eq!((page, section), ("docs/problems.md", slug));
    assert_eq!(document["type"], format!("urn:pillion:problem:{section}"));
    assert!(sections().contains(section));
}

#[tokio::test]
async fn detail_says_what_to_do() {
    let stage = Stage::new().await;
    teaches(
        stage.get("/nowhere").await,
        404,
        "no-route",
        "`pillion explain METHOD URL`",
    );
    teaches(
        stage.get("/api/../x%2f").await,
        400,
        "bad-request",
        "send the path plainly",
    );
    let foreign = request(Method::GET, "/api/").header("origin", "https://evil.example");
    let reply = stage.send(foreign.body(full("")).unwrap()).await;
    teaches(reply, 403, "forbidden-caller", "call as the app does");
    let refusal = json!({ "error": "invalid_client" });
    let refusal = Fault::json(StatusCode::UNAUTHORIZED, &refusal);
    stage.identity_provider.faults().once(refusal);
    let reply = stage.get("/api/").await;
    teaches(
        reply,
        502,
        "token-refused",
        "check `client_id`, `client_secret`",
    );

    let stage = Stage::new().await;
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().once(down);
    let reply = stage.get("/api/").await;
    teaches(
        reply,
        503,
        "token-unavailable",
        "pillion asks again by itself",
    );

    let stage = Stage::set().upstream_at("http://127.0.0.1:9").start().await;
    let reply = stage.get("/api/").await;
    teaches(reply, 502, "upstream-unreachable", "check host and port");
}

#[tokio::test]
async fn a_problem_has_the_id_that_the_app_gave_the_request() {
    let stage = Stage::new().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (fields, id) in [
        (
            &[("traceparent", traceparent), ("x-request-id", "order-7")][..],
            "0af7651916cd43dd8448eb211c80319c",
        ),
        (&[("x-request-id", "order-7")], "order-7"),
    ] {
        let mut get = request(Method::GET, "/nowhere");
        for (name, value) in fields {
            get = get.header(*name, *value);
        }
        let reply = stage.send(get.body(full("")).unwrap()).await;
        assert_eq!(
            reply.expect_problem(404, "no-route").json()["request_id"],
            id
        );
    }
    let made_up = stage.get("/nowhere").await.json()["request_id"].clone();
    assert_eq!(made_up.as_str().unwrap().len(), 32);
}
