//! Providers that are away, hang, or come back to thousands who want a token.

use std::time::Duration;

use http::StatusCode;
use pillion::fake::Fault;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Hostile, Setting, Stage, Wrong};

#[tokio::test]
async fn an_outage_by_wrong_answers_is_invisible_while_the_token_is_good_and_over_with_one_fetch() {
    let stage = Stage::set()
        .rules(|rules| rules.lifetime = Duration::from_secs(4))
        .start()
        .await;
    let mut client = stage.client().await;
    client.get("/api/").await.expect_ok();
    let began = Instant::now();
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().always(down);
    let mut failed = 0;
    while failed < 20 {
        let reply = client.get("/api/").await;
        if reply.status != 200 {
            let age = began.elapsed();
            assert!(age > Duration::from_millis(2500), "{age:?}");
            let reply = reply.expect_problem(503, "token-unavailable");
            let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
            assert!(wait <= 10, "{wait}");
            failed += 1;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stage.upstream.refusals(), 0, "a dead token was sent");

    let attempts = stage.identity_provider.fetches();
    stage.identity_provider.set_lifetime(HOUR);
    stage.identity_provider.faults().clear();
    recover(&mut client, "/api/", Duration::from_secs(10)).await;
    for _ in 0..20 {
        client.get("/api/").await.expect_ok();
    }
    assert_eq!(stage.identity_provider.fetches(), attempts + 1);
}

#[tokio::test]
async fn in_back_off_requests_are_answered_from_what_is_known() {
    let stage = Stage::new().await;
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE)
        .with_field(http::header::RETRY_AFTER, "60".parse().unwrap());
    stage.identity_provider.faults().always(down);
    let mut client = stage.client().await;
    for _ in 0..200 {
        let reply = client.get("/api/").await;
        let reply = reply.expect_problem(503, "token-unavailable");
        let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((50..=60).contains(&wait), "{wait}");
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    let waits = "pillion_token_wait_duration_seconds_count";
    assert_eq!(stage.metric(waits).await, 1.0, "only the first one waited");
}

#[tokio::test]
async fn a_corrected_configuration_is_tried_at_once() {
    let stage = Stage::with_provider("client_id = \"wrong\"").await;
    let refused = stage.get("/api/").await;
    refused.expect_problem(502, "token-refused");
    stage.get("/api/").await.expect_status(503);
    let corrected = stage.config.replace("\"wrong\"", "\"app\"");
    stage.directory.replace("proxy.toml", &corrected);
    let mut client = stage.client().await;
    recover(&mut client, "/api/", Duration::from_secs(5)).await;
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_provider_that_hangs_is_nobody_elses_trouble() {
    let hung = Hostile::start(None, Wrong::Silent, "CNRY").await;
    let more = format!(
        "[provider.hung]\ntype = \"oauth2\"\ntoken_endpoint = \"http://{}/token\"\n\
         client_id = \"app\"\nclient_secret = {{ env = \"SECRET\" }}\n\
         [[route]]\npath = \"/hung\"\nprovider = \"hung\"\nupstream = \"UPSTREAM\"\n",
        hung.address()
    );
    let stage = Stage::set()
        .rules(|rules| rules.lifetime = Duration::from_secs(4))
        .more(&more)
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    let address = stage.address();
    let waiting: JoinSet<_> = (0..100)
        .map(|_| async move { Client::connect(address).await.get("/hung/").await })
        .collect();
    stage.until(|_| !hung.attempts().is_empty()).await;

    let mut client = stage.client().await;
    let mut sent = 1;
    // Over a renewal, too.
    while sent < 3000 || stage.identity_provider.fetches() < 2 {
        client.get("/api/").await.expect_ok();
        sent += 1;
    }
    let waits = "pillion_token_wait_duration_seconds_count{provider=\"idp\"}";
    assert_eq!(stage.metric(waits).await, 1.0, "only the first one waited");
    assert_eq!(stage.upstream.refusals(), 0);
    assert_eq!(stage.upstream.server().requests(), sent);
    for reply in waiting.join_all().await {
        reply.expect_problem(504, "token-timeout");
    }
    assert_eq!(hung.attempts().len(), 1);
}

/// A provider with a token for each merchant, at `/api/MERCHANT/`.
fn with_merchants() -> Setting {
    Stage::set()
        .provider("inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }")
        .route("path = \"/api/{merchant}\"\ninputs = { merchant = \"{path.merchant}\" }")
}

#[tokio::test]
async fn hundreds_of_tenants_that_want_a_token_at_once_are_served_a_few_at_a_time() {
    let stage = with_merchants().top("[limits]\nfetches = 8").start().await;
    let slow = Fault::Delay(Duration::from_millis(20));
    stage.identity_provider.faults().always(slow);
    let address = stage.address();
    let mut requests: JoinSet<_> = (0..300)
        .map(|merchant| async move {
            let path = format!("/api/{merchant}/");
            Client::connect(address).await.get(&path).await
        })
        .collect();
    let mut most = 0;
    while !requests.is_empty() {
        most = most.max(stage.identity_provider.server().open_connections());
        while let Some(reply) = requests.try_join_next() {
            reply.unwrap().expect_ok();
        }
        sleep(Duration::from_millis(1)).await;
    }
    // A connection whose answer has come may be seen for a moment longer than its fetch.
    assert!((4..=16).contains(&most), "{most}");
    assert_eq!(stage.identity_provider.fetches(), 300);
}

#[tokio::test]
async fn an_outage_with_a_thousand_tenants_costs_ten_attempts_a_second_and_one_fetch_each_after_it()
{
    const TENANTS: usize = 1000;
    let stage = with_merchants().start().await;
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().always(down);
    let began = Instant::now();
    let address = stage.address();
    // Each of ten apps goes round its hundred tenants again and again until all have a token.
    let apps: JoinSet<_> = (0..10)
        .map(|app| async move {
            let mut client = Client::connect(address).await;
            let mut left: Vec<_> = (0..TENANTS).filter(|it| it % 10 == app).collect();
            while !left.is_empty() {
                let mut failed = Vec::new();
                for merchant in left {
                    let reply = client.get(&format!("/api/{merchant}/")).await;
                    if reply.status != 200 {
                        reply.expect_problem(503, "token-unavailable");
                        failed.push(merchant);
                    }
                }
                left = failed;
                sleep(Duration::from_millis(50)).await;
            }
        })
        .collect();
    while began.elapsed() < Duration::from_secs(4) {
        let attempts = stage.identity_provider.fetches() as u64;
        let elapsed = began.elapsed().as_secs() + 1;
        assert!(
            attempts <= 64 + 10 * elapsed,
            "{attempts} within {elapsed} s"
        );
        sleep(Duration::from_millis(100)).await;
    }
    stage.identity_provider.faults().clear();
    let healed_at = Instant::now();
    apps.join_all().await;
    let took = healed_at.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(stage.identity_provider.granted(), TENANTS);
}

const HOUR: Duration = Duration::from_hours(1);

/// Asks until there is a good answer: at the latest after this time, and a second for the attempt itself.
async fn recover(client: &mut Client, path: &str, most: Duration) {
    let began = Instant::now();
    while client.get(path).await.status != 200 {
        let elapsed = began.elapsed();
        assert!(elapsed < most + Duration::from_secs(1), "{elapsed:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
