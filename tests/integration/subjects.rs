//! Tokens of many subjects: who makes room, who is forgotten, and how much memory they take.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use pillion::fake::Fault;
use serde_json::json;
use tokio::time::Instant;

use crate::stage::{Client, Process, Setting, Stage};

#[tokio::test]
async fn the_tenant_unused_for_longest_makes_room() {
    let stage = with_tenants("max_entries = 2").start().await;
    stage.get("/api/a").await.expect_ok();
    stage.get("/api/b").await.expect_ok();
    // Who was asked for less than a second ago keeps its place.
    let asked_at = Instant::now();
    while asked_at.elapsed() < Duration::from_secs(1) {
        stage.get("/api/a").await.expect_ok();
    }
    for (tenant, fetches) in [("c", 3), ("a", 3), ("b", 4)] {
        stage.get(&format!("/api/{tenant}")).await.expect_ok();
        assert_eq!(stage.identity_provider.fetches(), fetches, "{tenant}");
    }
    stage.expect_metric(HELD, 2.0).await;
}

#[tokio::test]
async fn a_tenant_unused_for_a_while_is_forgotten() {
    let stage = with_tenants("max_idle = \"1s\"").start().await;
    stage.get("/api/a").await.expect_ok();
    stage.expect_metric(HELD, 0.0).await;
    stage.get("/api/a").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn more_tenants_at_once_than_there_may_be_are_all_served_and_never_more_are_kept() {
    let stage = with_tenants("max_entries = 3").start().await;
    let tenants = (0..9).map(|tenant| format!("/api/{tenant}"));
    let stage = &stage;
    join_all(tenants.map(async |path| stage.get(&path).await.expect_ok())).await;
    assert_eq!(stage.identity_provider.fetches(), 9);
    stage.expect_metric(HELD, 3.0).await;
}

#[tokio::test]
async fn a_thousand_cold_requests_of_one_tenant_cost_one_fetch() {
    let stage = with_tenants("").start().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    stage.identity_provider.faults().once(slow);
    for reply in join_all((0..1000).map(|_| stage.get("/api/a"))).await {
        reply.expect_ok();
    }
    assert_eq!(stage.identity_provider.fetches(), 1);
}

/// `SUBJECTS=100000 MAX_ENTRIES=10000 cargo test --test integration subjects:: -- --nocapture` shows it for more.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figures are for people")]
async fn many_subjects_take_no_more_memory_than_those_that_are_kept() {
    let (subjects, kept) = (number("SUBJECTS", 15_000), number("MAX_ENTRIES", 3000));
    let stage = with_tenants(&format!("max_entries = {kept}")).open();
    let stage = stage.start().await;
    let token =
        json!({ "access_token": "t".repeat(64), "token_type": "Bearer", "expires_in": 86400 });
    let token = Fault::json(StatusCode::OK, &token);
    stage.identity_provider.faults().always(token);
    let process = Process::start(&stage, "").await;
    let warm = 500;
    visit(&process, 0..warm).await;
    let base = resident_bytes(&process);
    visit(&process, warm..kept).await;
    let full = resident_bytes(&process);
    let each = (full - base) / (kept - warm);
    visit(&process, kept..subjects).await;
    let end = resident_bytes(&process);
    eprintln!("{base} bytes with {warm}, {full} with {kept} ({each} each), {end} after {subjects}");
    assert!(each <= 1536, "{each} bytes for a subject");
    assert!(end <= full + ROOM, "{full} bytes have become {end}");
}

/// What the allocator may need more because things come and go: far less than a tenth of the subjects would.
const ROOM: usize = 2 << 20;
const HELD: &str = "pillion_tokens{provider=\"idp\"}";

fn with_tenants(lines: &str) -> Setting {
    Stage::set()
        .provider("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
        .provider(lines)
        .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
}

/// One request for each of these tenants, on a few connections.
async fn visit(process: &Process, tenants: Range<usize>) {
    let lanes = 8;
    join_all((0..lanes).map(|lane| {
        let tenants = tenants.clone().skip(lane).step_by(lanes);
        async move {
            let mut client = Client::connect(process.address).await;
            for tenant in tenants {
                client
                    .get(&format!("/api/tenant-{tenant}"))
                    .await
                    .expect_ok();
            }
        }
    }))
    .await;
}

fn resident_bytes(process: &Process) -> usize {
    let path = format!("/proc/{}/smaps_rollup", process.child.id());
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement is enlarged by hand"
)]
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}
