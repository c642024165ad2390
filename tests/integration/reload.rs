//! A changed configuration: live at once, whole or not at all, and nobody notices.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};

use crate::stage::Stage;

const GOOD: &str = "pillion_config_reloads_total{outcome=\"ok\"}";
const BAD: &str = "pillion_config_reloads_total{outcome=\"error\"}";
const LAST: &str = "pillion_config_last_reload_successful";

#[tokio::test]
async fn a_changed_file_is_live_within_a_second_however_it_changes() {
    let ways: [(&str, Change); 3] = [
        ("written over", |stage, text| {
            stage.directory.write("proxy.toml", text);
        }),
        ("renamed over", |stage, text| {
            stage.directory.replace("proxy.toml", text);
        }),
        ("written over and asked for", |stage, text| {
            stage.directory.write("proxy.toml", text);
            stage.running.config.reload();
        }),
    ];
    for (way, change) in ways {
        let stage = Stage::new().await;
        stage.get("/api/").await.expect_ok();
        change(&stage, &moved_to(&stage, "/new"));
        expect_live(&stage, "/new/", way).await;
        stage.get("/api/").await.expect_problem(404, "no-route");
        assert_eq!(
            stage.identity_provider.fetches(),
            1,
            "{way}: the token is kept"
        );
    }
}

#[tokio::test]
async fn a_swapped_config_map_is_live_within_a_second() {
    let stage = Stage::set().config_map().start().await;
    stage.get("/api/").await.expect_ok();
    for (version, path) in [("..2", "/two"), ("..3", "/three")] {
        stage
            .directory
            .swap_config_map(version, &moved_to(&stage, path));
        expect_live(&stage, path, version).await;
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_change_that_is_seen_and_asked_for_is_loaded_once() {
    let stage = Stage::new().await;
    for number in 1..=20 {
        let path = format!("/number{number}");
        stage
            .directory
            .replace("proxy.toml", &moved_to(&stage, &path));
        stage.running.config.reload();
        expect_live(&stage, &path, "seen and asked for").await;
        assert_eq!(stage.metric(GOOD).await, f64::from(number));
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    for bad in [
        "CNRY = \"CNRY".to_owned(),
        "[[route]]\nprovider = \"nobody\"\nupstream = \"https://api.example\"\n".to_owned(),
        stage.config.replace(
            "upstream = \"http:",
            "tls = { ca = \"/nowhere/ca.pem\" }\nupstream = \"https:",
        ),
    ] {
        let before = stage.metric(BAD).await;
        stage.directory.replace("proxy.toml", &bad);
        stage.running.config.reload();
        stage.until_metric(BAD, |counted| counted > before).await;
        assert_eq!(stage.metric(LAST).await, 0.0);
        stage.get("/api/").await.expect_ok();
        let status = stage.status().await;
        assert_eq!(status["config"]["loaded"], false);
        assert!(!status.to_string().contains("CNRY"));
    }
    stage.directory.replace("proxy.toml", &stage.config);
    stage.running.config.reload();
    stage.expect_metric(LAST, 1.0).await;
    assert_eq!(stage.status().await["config"]["loaded"], true);
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_file_that_is_gone_changes_nothing() {
    let stage = Stage::new().await;
    std::fs::remove_file(stage.directory.path().join("proxy.toml")).unwrap();
    stage.running.config.reload();
    stage.expect_metric(LAST, 0.0).await;
    stage.get("/api/").await.expect_ok();
    stage
        .directory
        .write("proxy.toml", &moved_to(&stage, "/new"));
    expect_live(&stage, "/new/", "back").await;
    stage.expect_metric(LAST, 1.0).await;
}

#[tokio::test]
async fn a_provider_that_changed_gets_a_new_token_and_others_keep_theirs() {
    let more = "[provider.other]\ntype = \"static\"\nsecret = { env = \"KEY\" }\n\
        [[route]]\nname = \"other\"\npath = \"/other\"\nprovider = \"other\"\nupstream = \"UPSTREAM\"\n";
    let stage = Stage::set().open().more(more).start().await;
    stage.get("/api/").await.expect_ok();
    stage.get("/other/").await.expect_ok();
    let scoped = stage
        .config
        .replace("[provider.idp]", "[provider.idp]\nscope = [\"write\"]");
    stage.directory.replace("proxy.toml", &scoped);
    stage.running.config.reload();
    stage.until_metric(GOOD, |loaded| loaded >= 1.0).await;
    stage.get("/api/").await.expect_ok();
    stage.get("/other/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
    let form = stage.identity_provider.last_request().unwrap().form();
    assert!(form.contains(&("scope".to_owned(), "write".to_owned())));
    assert_eq!(
        stage
            .metric("pillion_token_fetches_total{provider=\"other\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_route_that_is_gone_is_gone_from_the_metrics() {
    let more =
        "[[route]]\nname = \"old\"\npath = \"/old\"\nprovider = \"idp\"\nupstream = \"UPSTREAM\"\n";
    let stage = Stage::set().more(more).start().await;
    stage.get("/old/").await.expect_ok();
    let renamed = stage.config.replace("name = \"old\"", "name = \"new\"");
    stage.directory.replace("proxy.toml", &renamed);
    stage.running.config.reload();
    stage.until_metric(GOOD, |loaded| loaded >= 1.0).await;
    stage.get("/old/").await.expect_ok();
    stage
        .expect_metric(
            "pillion_requests_total{route=\"new\",status_class=\"2xx\"}",
            1.0,
        )
        .await;
    let reply = stage.admin(Method::GET, "/metrics").await;
    assert!(!String::from_utf8_lossy(&reply.body).contains("\"old\""));
}

type Change = fn(&Stage, &str);

fn moved_to(stage: &Stage, path: &str) -> String {
    stage
        .config
        .replace("path = \"/api\"", &format!("path = \"{path}\""))
}

async fn expect_live(stage: &Stage, path: &str, way: &str) {
    let began = Instant::now();
    while stage.get(path).await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(1), "{way}");
        sleep(Duration::from_millis(10)).await;
    }
}
