//! Reloads: a mounted ConfigMap changes hundreds of times under load, one time in five to something broken. No request
//! fails, no token is fetched that is not needed, and what is good is live at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::report::{Report, size};
use crate::stage::{Body, Client, Stage, full, request, within};

const RELOADS: usize = size(50, 500);
const BROKEN_ONE_IN: usize = 5;
/// One good change in so many is about the second provider, which then needs another token.
const ABOUT_PROVIDER_ONE_IN: usize = 8;
const CLIENTS: usize = 8;

#[tokio::test]
async fn no_request_fails_while_the_configuration_changes_for_better_and_worse() {
    let mut report = Report::of("Reloads: a ConfigMap that changes under load").await;
    let stage = Stage::set()
        .config_map()
        .route("headers = { X-Version = \"0\" }")
        .more(SECOND)
        .start()
        .await;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let path = if number % 2 == 0 {
                "/api/echo"
            } else {
                "/second/echo"
            };
            tokio::spawn(post(stage.address(), path, number, Arc::clone(&over)))
        })
        .collect();
    let download = download(&stage, &over).await;
    let upload = upload(&stage, &over).await;

    let (mut good, mut broken, mut providers) = (0, 0, 1);
    let mut waits = Vec::new();
    for number in 1..=RELOADS {
        let swapped_at = Instant::now();
        if number % BROKEN_ONE_IN == 0 {
            swap(&stage, number, &broken_one(&stage, broken));
            broken += 1;
            stage
                .until(|stage| stage.running.config.last_error().is_some())
                .await;
            continue;
        }
        good += 1;
        if good % ABOUT_PROVIDER_ONE_IN == 0 {
            providers += 1;
        }
        let text = stage
            .config
            .replace("X-Version = \"0\"", &format!("X-Version = \"{number}\""))
            .replace("\"n1\"", &format!("\"n{providers}\""));
        swap(&stage, number, &text);
        let version = number.to_string();
        stage
            .until(|stage| {
                let seen = stage.upstream.last_request();
                seen.is_some_and(|it| it.field("x-version") == Some(version.as_str()))
            })
            .await;
        waits.push(swapped_at.elapsed());
        stage
            .until(|stage| stage.identity_provider.fetches() > providers)
            .await;
    }

    over.store(true, Ordering::Relaxed);
    let (mut answered, mut failures) = (0, Vec::new());
    for client in clients {
        let (ok, not) = within(client).await.unwrap();
        answered += ok;
        failures.extend(not);
    }
    let (downloaded, uploaded) = (
        within(download).await.unwrap(),
        within(upload).await.unwrap(),
    );
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    let milliseconds = |time: Duration| format!("{} ms", time.as_millis());
    report.figure("changes of the file", RELOADS);
    report.figure("  of them broken, none of which came into use", broken);
    report.figure("requests answered meanwhile", answered);
    report.figure("requests failed", failures.len());
    report.figure(
        "KiB of one answer that lasted all the time",
        downloaded / 1024,
    );
    report.figure(
        "KiB of one upload that lasted all the time",
        uploaded / 1024,
    );
    report.figure("tokens needed", 1 + providers);
    report.figure("tokens fetched", stage.identity_provider.fetches());
    report.figure(
        "change to first request that shows it, median",
        milliseconds(median),
    );
    report.figure("  slowest", milliseconds(waits[waits.len() - 1]));

    assert!(failures.is_empty(), "{failures:?}");
    assert!(answered > RELOADS * CLIENTS / 2, "{answered}");
    assert_eq!(stage.identity_provider.fetches(), 1 + providers);
    let fetched = |name: &str| format!("pillion_token_fetches_total{{provider=\"{name}\"}}");
    assert_eq!(stage.metric(&fetched("idp")).await as usize, 1);
    assert_eq!(stage.metric(&fetched("second")).await as usize, providers);
    for (outcome, count) in [("ok", good), ("error", broken)] {
        let series = format!("pillion_config_reloads_total{{outcome=\"{outcome}\"}}");
        assert_eq!(stage.metric(&series).await as usize, count, "{outcome}");
    }
    // Seen by the watch: whoever looks every 5 s needs two and a half at the median.
    assert!(median < Duration::from_secs(1), "{median:?}");
}

const SECOND: &str = "[provider.second]\ntype = \"oauth2\"\ntoken_endpoint = \"PROVIDER\"\nclient_id = \"app\"\n\
    client_secret = { env = \"SECRET\" }\nparams = { version = \"n1\" }\n\
    [[route]]\nname = \"second\"\npath = \"/second\"\nprovider = \"second\"\nupstream = \"UPSTREAM\"\n\
    headers = { X-Version = \"0\" }\n";

/// As kubelet does it: a new directory, the link swapped, the old directory removed.
fn swap(stage: &Stage, number: usize, text: &str) {
    stage
        .directory
        .swap_config_map(&format!("..v{number}"), text);
    let old = stage.directory.path().join(format!("..v{}", number - 1));
    std::fs::remove_dir_all(old).ok();
}

/// A file with a mistake, each time of another kind.
fn broken_one(stage: &Stage, number: usize) -> String {
    let good = &stage.config;
    match number % 5 {
        0 => good[..good.len() / 2].to_owned(),
        1 => good.replace("provider = \"second\"", "provider = \"secnd\""),
        2 => good.replace("path = \"/api\"", "pth = \"/api\""),
        3 => good.replace("client_id = \"app\"", "client_id = 7"),
        _ => "\u{feff}---\nroutes: []\n".to_owned(),
    }
}

/// Posts, one after the other on one connection, until it is over. Says how many were answered rightly, and what became of
/// the others.
async fn post(
    address: std::net::SocketAddr,
    path: &'static str,
    client: usize,
    over: Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    let mut connection = Client::connect(address).await;
    let (mut answered, mut failures) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        let body = format!("{client}: {answered}");
        let post = request(Method::POST, path)
            .body(full(body.clone()))
            .unwrap();
        match connection.try_send(post).await {
            Ok(reply) if reply.status == 200 && reply.body == body => answered += 1,
            wrong => {
                failures.push(format!("{wrong:?}"));
                connection = Client::connect(address).await;
            }
        }
    }
    (answered, failures)
}

/// An answer without an end. Gives the bytes that have come when it is over, and still are coming.
async fn download(stage: &Stage, over: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let mut client = stage.client().await;
    let get = request(Method::GET, "/api/stream/1000000?every=10");
    let mut answer = client.begin(get.body(full("")).unwrap()).await.unwrap();
    let over = Arc::clone(over);
    tokio::spawn(async move {
        let mut bytes = 0;
        loop {
            let is_over = over.load(Ordering::Relaxed);
            let frame = within(answer.frame()).await.unwrap().unwrap();
            bytes += frame.into_data().unwrap().len();
            if is_over {
                drop(client);
                return bytes;
            }
        }
    })
}

/// A body without a declared length, which comes back as it goes. Gives its length when it is over.
async fn upload(stage: &Stage, over: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let mut client = stage.client().await;
    let over = Arc::clone(over);
    let pieces = stream::unfold((), move |()| {
        let is_over = over.load(Ordering::Relaxed);
        async move {
            sleep(Duration::from_millis(10)).await;
            let piece = Bytes::from_static(&[b'u'; 1024]);
            (!is_over).then(|| (Ok(Frame::data(piece)), ()))
        }
    });
    let body: Body = StreamBody::new(pieces).boxed_unsync();
    let post = request(Method::POST, "/api/echo/stream")
        .body(body)
        .unwrap();
    let answer = client.begin(post).await.unwrap();
    tokio::spawn(async move {
        let echoed = answer.into_body().collect().await.unwrap().to_bytes();
        drop(client);
        assert!(echoed.iter().all(|byte| *byte == b'u'));
        echoed.len()
    })
}
