//! Connections whose app has nothing to ask for a while: they are kept at next to no cost, and go on where they were.

use std::sync::Arc;

use pillion::fake::Authority;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;

use crate::stage::{Client, Directory, Process, Raw, Stage, Wire, within};

const GET: &str = "GET /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
const IDLE: &str = "connection is idle";
const TRACE: &str = "[log]\nlevel = \"trace\"";

async fn start(stage: &Stage) -> Process {
    Process::start(
        stage,
        &format!("workers = 1\ndrain_delay = \"0s\"\n{TRACE}"),
    )
    .await
}

/// Whoever was idle when this was called is seen to be when it is done.
async fn look(process: &mut Process) {
    // One of its own may be told of at a look that has begun before.
    for _ in 0..2 {
        let mut wire = Wire::connect(process.address).await;
        ask(&mut wire, GET).await;
        process.line(IDLE).await;
    }
}

async fn ask(wire: &mut Wire, request: &str) {
    wire.write(request).await;
    let head = wire.read_head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let (_, length) = head.split_once("content-length: ").unwrap();
    let (length, _) = length.split_once("\r\n").unwrap();
    wire.read_bytes(length.parse().unwrap()).await;
}

#[tokio::test]
async fn an_idle_connection_goes_on_where_it_was() {
    let stage = Stage::new().await;
    let mut process = start(&stage).await;
    let mut client = Client::connect(process.address).await;
    for _ in 0..2 {
        client.get("/api/").await.expect_ok();
        process.line(IDLE).await;
        client.post("/api/", "x".repeat(100_000)).await.expect_ok();
        process.line(IDLE).await;
    }
    let mut wire = Wire::connect(process.address).await;
    ask(&mut wire, GET).await;
    process.line(IDLE).await;
    // Two at once, and the beginning of a third.
    wire.write(format!("{GET}{GET}{}", &GET[..20])).await;
    ask(&mut wire, "").await;
    ask(&mut wire, "").await;
    look(&mut process).await;
    ask(&mut wire, &GET[20..]).await;
}

#[tokio::test]
async fn and_so_does_one_over_tls() {
    let (authority, directory) = (Authority::new().unwrap(), Directory::new());
    let own = authority.server_certificate(&["localhost"]).unwrap();
    let chain = directory.write("tls.crt", &own.certificate_pem);
    let key = directory.write("tls.key", &own.key_pem);
    let stage = Stage::new().await;
    let listen = format!(
        "tls = {{ cert = \"{}\", key = \"{}\" }}\n{TRACE}",
        chain.display(),
        key.display()
    );
    let mut process = Process::start(&stage, &listen).await;
    let root = authority.certificate_der();
    let mut client = Client::connect_tls(process.address, "localhost", root).await;
    for _ in 0..2 {
        client.get("/api/").await.expect_ok();
        process.line(IDLE).await;
        client.post("/api/", "x".repeat(100_000)).await.expect_ok();
        process.line(IDLE).await;
    }
}

#[tokio::test]
async fn an_idle_connection_ends_when_it_is_time_to_stop() {
    let stage = Stage::new().await;
    let mut process = start(&stage).await;
    let mut wire = Wire::connect(process.address).await;
    ask(&mut wire, GET).await;
    process.line(IDLE).await;
    process.signal("TERM");
    assert_eq!(wire.read_to_end().await, "");
    assert_eq!(process.end().await, Some(0));
}

#[tokio::test]
async fn an_answer_that_stands_still_is_not_idle() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Raw::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            while let Some(head) = peer.read_head().await {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
                peer.write(answer).await;
                if head.contains("/slow") {
                    told.notified().await;
                }
                peer.write("k").await;
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut process = start(&stage).await;
    let mut wire = Wire::connect(process.address).await;
    wire.write(GET.replace("/api/", "/api/slow")).await;
    wire.read_until("\r\n\r\no").await;
    look(&mut process).await;
    go_on.notify_one();
    assert_eq!(wire.read_bytes(1).await, b"k");
    ask(&mut wire, GET).await;
}

#[tokio::test]
async fn neither_is_a_request_that_was_answered_before_its_end() {
    let (sender, mut bodies) = unbounded_channel();
    let upstream = Raw::start(move |mut peer| {
        let sender = sender.clone();
        async move {
            while let Some(head) = peer.read_head().await {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                peer.write(answer).await;
                if head.contains("/early") {
                    sender.send(peer.read_bytes(5).await).unwrap();
                }
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut process = start(&stage).await;
    let mut wire = Wire::connect(process.address).await;
    let post = "POST /api/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe";
    ask(&mut wire, post).await;
    look(&mut process).await;
    wire.write("llo").await;
    assert_eq!(within(bodies.recv()).await.unwrap(), b"hello");
    ask(&mut wire, GET).await;
}
