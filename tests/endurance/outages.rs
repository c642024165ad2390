//! Outages: an upstream, then the provider, is killed and comes back, again and again, under load. Who does not need it
//! notices nothing; who does is told so, and is served as soon as it is back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use pillion::fake::{Server, Upstream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::report::{Report, size};
use crate::stage::{Client, Reply, Stage, full, request, within};

const KILLS: usize = size(3, 20);
const AWAY: Duration = Duration::from_millis(size(300, 1000));
const CLIENTS: usize = 4;

#[tokio::test]
async fn who_needs_what_was_killed_is_told_and_nobody_else_notices() {
    let mut report = Report::of("Outages: upstream and provider are killed under load").await;
    let other = Upstream::open(None).await.unwrap();
    let route = format!(
        "[[route]]\npath = \"/other\"\nprovider = \"idp\"\nupstream = \"http://{}\"\n",
        other.address()
    );
    let stage = Stage::set().more(&route).start().await;
    stage.get("/other/").await.expect_ok();

    let hit = Load::start(stage.address(), "/api/");
    let spared = Load::start(stage.address(), "/other/");
    let slowest = kill(stage.upstream.server(), &stage, &hit).await;
    let (of_hit, of_spared) = (hit.end().await, spared.end().await);
    report.figure("times that an upstream was killed", KILLS);
    report.figure("  requests to it answered", of_hit.0);
    report.figure("  requests to it told that it is away", of_hit.1);
    report.figure("  back to first answer, slowest", milliseconds(slowest));
    report.figure("  requests to the other upstream answered", of_spared.0);
    report.figure("  requests to the other upstream failed", of_spared.1);
    assert!(of_hit.1 >= KILLS && of_hit.0 >= KILLS, "{of_hit:?}");
    assert!(of_spared.0 >= KILLS);
    assert_eq!(of_spared.1, 0);

    let load = Load::start(stage.address(), "/api/");
    kill(stage.identity_provider.server(), &stage, &load).await;
    let of_load = load.end().await;
    report.figure("times that the provider was killed, tokens good", KILLS);
    report.figure("  requests answered", of_load.0);
    report.figure("  requests failed", of_load.1);
    assert!(of_load.0 >= KILLS);
    assert_eq!(of_load.1, 0);
    assert_eq!(stage.identity_provider.fetches(), 1);
}

/// Kills a server and lets it come back. Gives the longest time until a request was answered that was made afterwards.
async fn kill(server: &Server, stage: &Stage, load: &Load) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        load.until_more_are_answered().await;
        server.leave().await.unwrap();
        sleep(AWAY).await;
        server.come_back().await.unwrap();
        let back_at = Instant::now();
        // The first one that is made then, not one of many tries.
        stage.get(load.path).await.expect_ok();
        slowest = slowest.max(back_at.elapsed());
    }
    slowest
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Apps that call one path all the time.
struct Load {
    path: &'static str,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, usize)>>,
}

impl Load {
    fn start(address: SocketAddr, path: &'static str) -> Self {
        let (answered, over) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let clients = (0..CLIENTS)
            .map(|_| {
                let (answered, over) = (Arc::clone(&answered), Arc::clone(&over));
                tokio::spawn(call(address, path, answered, over))
            })
            .collect();
        Self {
            path,
            answered,
            over,
            clients,
        }
    }

    async fn until_more_are_answered(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + 2 * CLIENTS;
        within(async {
            while self.answered.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// How many requests were answered, and how many not.
    async fn end(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        let (mut answered, mut failed) = (0, 0);
        for client in self.clients {
            let (ok, not) = within(client).await.unwrap();
            answered += ok;
            failed += not;
        }
        (answered, failed)
    }
}

async fn call(
    address: SocketAddr,
    path: &str,
    all_answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) -> (usize, usize) {
    let mut client = Client::connect(address).await;
    let (mut answered, mut failed) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let get = request(Method::GET, path).body(full("")).unwrap();
        match client.try_send(get).await {
            Ok(Reply { status: 200, .. }) => {
                answered += 1;
                all_answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(reply) => {
                reply.expect_problem(502, "upstream-unreachable");
                failed += 1;
                // An app that is told so does not ask again at once.
                sleep(Duration::from_millis(5)).await;
            }
            // An answer that had begun.
            Err(_) => {
                failed += 1;
                client = Client::connect(address).await;
            }
        }
    }
    (answered, failed)
}
