//! Herd: a fleet of processes whose tokens end at the same moment. They do not come to the provider together to renew
//! them, nor when it is back after an outage that no token survived.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::report::{IS_FULL, Report, size};
use crate::stage::{Client, Process, Stage, within};

const FLEET: usize = size(8, 50);
/// The life that all tokens end with together: they are renewed at 60 to 80 % of it.
const LIFE: Duration = Duration::from_secs(size(6, 50));
const RENEWAL_WINDOW: Duration = LIFE.checked_div(5).unwrap();
/// The life of those that end during the outage, and how much longer that lasts.
const LAST_LIFE: Duration = Duration::from_secs(size(4, 20));
const WITHOUT_TOKEN: Duration = Duration::from_secs(size(3, 15));
const BETWEEN_REQUESTS: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_fleet_does_not_arrive_as_a_herd() {
    let mut report = Report::of("Herd: a fleet of processes, one expiry, one outage").await;
    let stage = Stage::set()
        .provider("params = { process = \"NUMBER\" }")
        .start()
        .await;
    let configs = (0..FLEET).map(|number| stage.config.replace("NUMBER", &number.to_string()));
    let fleet = join_all(
        configs.map(|config| async move { Process::start_with(&[], &config, "workers = 1").await }),
    )
    .await;
    let (is_back, back) = watch::channel(None);
    let mut apps = JoinSet::new();
    for process in &fleet {
        apps.spawn(call(process.address, back.clone()));
    }
    every_process_has_fetched(&stage, 1).await;
    // From here on their tokens have one expiry, whenever the processes were started.
    let began = Instant::now();
    renew_all(&stage, &fleet, began + LIFE).await;
    stage.identity_provider.amend_answers(|_| {});
    every_process_has_fetched(&stage, 3).await;
    let renewals = sorted(fetches(&stage).values().map(|its| its[2] - began).collect());

    let end = Instant::now() + LAST_LIFE;
    renew_all(&stage, &fleet, end).await;
    // The provider goes while every token is good, and is back when none is.
    stage.identity_provider.server().leave().await.unwrap();
    sleep_until(end + WITHOUT_TOKEN).await;
    let fetched_before = stage.identity_provider.fetches();
    stage.identity_provider.amend_answers(|_| {});
    stage.identity_provider.server().come_back().await.unwrap();
    let back_at = Instant::now();
    is_back.send(Some(back_at)).unwrap();
    let apps = within(apps.join_all()).await;
    let arrivals = sorted(
        fetches(&stage)
            .values()
            .map(|its| its[its.len() - 1] - back_at)
            .collect(),
    );
    let slowest = apps.iter().map(|app| app.waited).max().unwrap();

    report.figure("processes", FLEET);
    report.figure(
        "renewals: peak of a second, share of the fleet",
        percent(peak(&renewals, SECOND)),
    );
    report.figure(
        "  evenly spread it would be",
        percent(1.0 / RENEWAL_WINDOW.as_secs_f64()),
    );
    report.text(&histogram(
        &renewals,
        Duration::from_millis(size(250, 1000)),
    ));
    report.figure(
        "after the outage: peak of a tenth of a second",
        percent(peak(&arrivals, SECOND / 10)),
    );
    report.figure("  peak of a second", percent(peak(&arrivals, SECOND)));
    report.text(&histogram(&arrivals, Duration::from_millis(100)));
    report.figure(
        "fetches after the outage",
        stage.identity_provider.fetches() - fetched_before,
    );
    report.figure(
        "provider back to last app served",
        format!("{:.1} s", slowest.as_secs_f64()),
    );
    report.figure(
        "requests answered before that",
        apps.iter().map(|app| app.good).sum::<usize>(),
    );
    report.figure(
        "requests told to come back later",
        apps.iter().map(|app| app.unavailable).sum::<usize>(),
    );
    assert_eq!(stage.identity_provider.fetches() - fetched_before, FLEET);
    assert!(apps.iter().all(|app| app.unavailable > 0));
    // Chance and a busy machine decide about eight; the bounds for ten thousand are in token::herd.
    if IS_FULL {
        assert!(peak(&renewals, RENEWAL_WINDOW / 4) < 0.6);
        assert!(peak(&arrivals, SECOND / 4) < 0.6);
    }
}

/// What an app saw, which calls all the time, until it was served after the outage.
struct App {
    /// Answers of the upstream.
    good: usize,
    /// Answers of pillion, which has no token.
    unavailable: usize,
    waited: Duration,
}

async fn call(address: std::net::SocketAddr, back: watch::Receiver<Option<Instant>>) -> App {
    let mut client = Client::connect(address).await;
    let (mut good, mut unavailable) = (0, 0);
    loop {
        let since = *back.borrow();
        let reply = client.get("/api/").await;
        match (reply.status, since) {
            (200, Some(back_at)) => {
                return App {
                    good,
                    unavailable,
                    waited: back_at.elapsed(),
                };
            }
            (200, None) => good += 1,
            _ => {
                reply.expect_problem(503, "token-unavailable");
                unavailable += 1;
            }
        }
        sleep(BETWEEN_REQUESTS).await;
    }
}

/// Gives every process a token that ends at this moment.
async fn renew_all(stage: &Stage, fleet: &[Process], end: Instant) {
    stage.identity_provider.amend_answers(move |document| {
        let left = end.saturating_duration_since(Instant::now());
        document.insert("expires_in".to_owned(), json!(left.as_secs_f64()));
    });
    let renewals = fleet.iter().map(|process| async {
        let mut admin = Client::connect(process.admin).await;
        admin.post("/tokens/idp/renew", "").await.expect_ok();
    });
    join_all(renewals).await;
}

/// When each process has fetched.
fn fetches(stage: &Stage) -> BTreeMap<String, Vec<Instant>> {
    let mut fetches = BTreeMap::<_, Vec<_>>::new();
    for request in stage.identity_provider.requests() {
        let form = request.form();
        let (_, process) = form
            .into_iter()
            .find(|(name, _)| name == "process")
            .unwrap();
        fetches.entry(process).or_default().push(request.at);
    }
    fetches
}

async fn every_process_has_fetched(stage: &Stage, times: usize) {
    let deadline = Instant::now() + 5 * LIFE;
    loop {
        let fetches = fetches(stage);
        if fetches.len() == FLEET && fetches.values().all(|its| its.len() >= times) {
            return;
        }
        assert!(Instant::now() < deadline, "{fetches:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn sorted(mut moments: Vec<Duration>) -> Vec<Duration> {
    moments.sort_unstable();
    moments
}

/// The largest share of the fleet in any window of this length.
fn peak(moments: &[Duration], window: Duration) -> f64 {
    let within = |first: &Duration| {
        let end = *first + window;
        moments
            .iter()
            .filter(|it| (first..&end).contains(it))
            .count()
    };
    moments.iter().map(within).max().unwrap() as f64 / FLEET as f64
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn histogram(moments: &[Duration], step: Duration) -> String {
    let index = |moment: &Duration| (moment.as_nanos() / step.as_nanos()) as usize;
    let (first, last) = (index(&moments[0]), index(&moments[moments.len() - 1]));
    let mut text = String::new();
    for slot in first..=last {
        let count = moments.iter().filter(|it| index(it) == slot).count();
        let from = step.as_secs_f64() * slot as f64;
        writeln!(text, "    {from:>6.2} s  {}", "#".repeat(count)).unwrap();
    }
    text
}

const SECOND: Duration = Duration::from_secs(1);
