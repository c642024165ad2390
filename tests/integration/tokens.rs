//! Tokens: fetched once for everybody, renewed in time, never sent when they are dead.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pillion::fake::{ClientAuth, Fault};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::{Client, Raw, Reply, SECRET, Stage, full, request};

#[tokio::test]
async fn a_thousand_cold_requests_cost_one_fetch() {
    let stage = Stage::new().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    stage.identity_provider.faults().once(slow);
    for status in statuses(all(&stage, 1000)).await {
        assert_eq!(status, 200);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
    stage.expect_metric("pillion_token_fetches_total", 1.0).await;
    stage
        .expect_metric("pillion_requests_total{status_class=\"2xx\"}", 1000.0)
        .await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_takes_no_token_away_from_others() {
    let stage = Stage::new().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    stage.identity_provider.faults().once(slow);
    let mut leader = stage.wire().await;
    leader.write(b"GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    stage.until(|stage| stage.identity_provider.fetches() == 1).await;
    let others = all(&stage, 200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    leader.reset();
    for status in statuses(others).await {
        assert_eq!(status, 200);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn waiters_share_one_failure() {
    let stage = Stage::new().await;
    let faults = stage.identity_provider.faults();
    faults.once(Fault::Delay(Duration::from_millis(100)));
    faults.always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    faults.clear();
    faults.always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    for status in statuses(all(&stage, 50)).await {
        assert_eq!(status, 503);
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
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
