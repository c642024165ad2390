//! Connections of which one side has said its last word: nobody turns in circles over them.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use crate::stage::{Client, Process, Raw, Stage, Wire};

#[tokio::test]
async fn a_half_closed_connection_costs_no_time() {
    // It says the end of its stream with the answer, and keeps the connection.
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            if head.contains("/silent") {
                peer.finish().await;
                return std::future::pending().await;
            }
            if head.contains("/pending") {
                return std::future::pending().await;
            }
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
            peer.finish().await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let process = Process::start(&stage, "").await;

    // An upstream's end after its answer, on a connection that might be used again; and in place of one.
    let mut client = Client::connect(process.address).await;
    for _ in 0..5 {
        client.get("/api/").await.expect_ok();
        let reply = client.get("/api/silent").await;
        reply.expect_problem(502, "upstream-unreachable");
    }
    // An app's end: before a request, within a head, within a body, after a request that is not answered.
    let head = "POST /api/pending HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n";
    let mut kept = Vec::new();
    for said in [
        "",
        &head[..30],
        &format!("{head}he"),
        &format!("{head}hello"),
    ] {
        let mut wire = Wire::connect(process.address).await;
        wire.write(said).await;
        wire.stream.shutdown().await.unwrap();
        kept.push(wire);
    }
    let before = process.cpu_ticks();
    sleep(Duration::from_secs(1)).await;
    let busy = process.cpu_ticks() - before;
    assert!(busy < 30, "{busy} ticks of 100 with nothing to do");
    client.get("/api/").await.expect_ok();
}
