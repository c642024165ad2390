//! Drain: the process is told to stop while hundreds of connections are busy, and while the app, which does not know yet,
//! goes on calling. Everything that was asked is answered; then the process ends with 0.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use pillion::fake::Fault;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::report::{Report, size};
use crate::stage::{Client, Process, Stage, Wire, full, request};

const CONNECTIONS: usize = size(60, 200);
/// Of them, so many wait for an answer that takes its time when the signal comes.
const SLOW: usize = size(15, 50);
/// Longer than the drain delay: only the wait for what is under way can save these.
const SLOW_ANSWER: Duration = Duration::from_secs(6);
const DRAIN_DELAY: &str = "drain_delay = \"5s\"";
/// New requests that each connection's app makes after the signal, all of them soon.
const REQUESTS_AFTER: usize = 3;

#[tokio::test]
async fn asked_to_stop_under_load_it_answers_everything_and_ends_with_0() {
    let mut report = Report::of("Drain: SIGTERM under load").await;
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, DRAIN_DELAY).await;
    let address = process.address;
    Client::connect(address)
        .await
        .get("/api/")
        .await
        .expect_ok();

    stage
        .upstream
        .faults()
        .times(SLOW, &Fault::Delay(SLOW_ANSWER));
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(async move {
            let mut client = Client::connect(address).await;
            answered(&mut client, "/api/slow").await
        });
    }
    stage
        .until(|stage| stage.upstream.server().requests() == SLOW + 1)
        .await;
    let others = CONNECTIONS - SLOW;
    let mut idle = Vec::new();
    for _ in 0..others {
        let mut client = Client::connect(address).await;
        client.get("/api/").await.expect_ok();
        idle.push(client);
    }
    // Open, and silent so far: their first request comes when pillion is stopping already.
    let mut silent = Vec::new();
    for _ in 0..others {
        silent.push(Wire::connect(address).await);
    }
    let never_used = Wire::connect(address).await;

    process.signal("TERM");
    process.line("stopping").await;
    let mut late = JoinSet::new();
    for client in idle {
        late.spawn(go_on(client, address));
    }
    for mut wire in silent {
        late.spawn(async move {
            wire.write("GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await;
            let is_answered = wire.read_to_end().await.starts_with("HTTP/1.1 200 OK");
            (usize::from(is_answered), usize::from(!is_answered))
        });
    }
    let (mut new, mut failed) = (0, 0);
    while let Some(done) = late.join_next().await {
        let (ok, not) = done.unwrap();
        new += ok;
        failed += not;
    }
    let mut finished = 0;
    while let Some(is_answered) = slow.join_next().await {
        finished += usize::from(is_answered.unwrap());
    }
    let last_answer = Instant::now();
    let code = process.end().await;
    let lag = last_answer.elapsed();
    drop(never_used);

    report.figure("connections when the signal came", CONNECTIONS + others + 1);
    report.figure("requests under way then, all answered", finished);
    report.figure("requests that came afterwards, all answered", new);
    report.figure(
        "  of them the first on their connection",
        others * (1 + REQUESTS_AFTER),
    );
    report.figure("requests failed", failed + SLOW - finished);
    report.figure(
        "last answer to end of process",
        format!("{} ms", lag.as_millis()),
    );
    assert_eq!(finished, SLOW);
    assert_eq!(failed, 0);
    assert_eq!(new, others * (2 + REQUESTS_AFTER));
    assert_eq!(code, Some(0));
}

/// Another request on the connection there is, and some on new ones.
async fn go_on(mut client: Client, address: SocketAddr) -> (usize, usize) {
    let (mut ok, mut failed) = (0, 0);
    for _ in 0..=REQUESTS_AFTER {
        if answered(&mut client, "/api/").await {
            ok += 1;
        } else {
            failed += 1;
        }
        client = Client::connect(address).await;
    }
    (ok, failed)
}

/// Whether a request is answered.
async fn answered(client: &mut Client, path: &str) -> bool {
    let get = request(Method::GET, path).body(full("")).unwrap();
    client
        .try_send(get)
        .await
        .is_ok_and(|reply| reply.status == 200)
}

#[tokio::test]
async fn asked_a_second_time_it_stops_at_once() {
    let _report = Report::of("Drain: a second SIGTERM").await;
    let stage = Stage::new().await;
    // Nothing but the second signal could end it before the test's patience does.
    let lines = "drain_delay = \"10m\"\ndrain_timeout = \"10m\"";
    let mut process = Process::start(&stage, lines).await;
    stage.upstream.faults().once(Fault::Hang);
    let mut client = Client::connect(process.address).await;
    let hanging = tokio::spawn(async move { answered(&mut client, "/api/").await });
    stage
        .until(|stage| stage.upstream.server().requests() == 1)
        .await;
    process.signal("TERM");
    process.line("stopping").await;
    process.signal("TERM");
    assert_eq!(process.end().await, Some(0));
    assert!(!hanging.await.unwrap());
}

#[tokio::test]
async fn a_token_fetch_that_hangs_does_not_keep_it_from_stopping() {
    let _report = Report::of("Drain: SIGTERM during a cold fetch that hangs").await;
    let stage = Stage::with_provider("timeout = \"10m\"\ntoken_wait = \"2s\"").await;
    stage.identity_provider.faults().always(Fault::Hang);
    let mut process = Process::start(&stage, "drain_delay = \"0s\"\ndrain_timeout = \"10m\"").await;
    let mut client = Client::connect(process.address).await;
    let waiting = tokio::spawn(async move { client.get("/api/").await });
    stage
        .until(|stage| stage.identity_provider.fetches() == 1)
        .await;
    process.signal("TERM");
    // The request is under way and gets its answer; the fetch, which nobody waits for any more, is nobody's business.
    let reply = waiting.await.unwrap();
    reply.expect_problem(504, "token-timeout");
    assert_eq!(process.end().await, Some(0));
}
