//! What callers make pillion keep in memory: little more than what they have sent, however they send it. The bounds are far
//! from what is needed, and from what it was before each of them held.

use std::fs;

use tokio::sync::mpsc::unbounded_channel;

use crate::stage::{Client, Process, Raw, Stage, Wire, within};

#[tokio::test]
async fn a_head_that_is_not_whole_costs_little_more_than_its_bytes() {
    const CALLERS: usize = 500;
    let stage = Stage::new().await;
    let process = Process::start(&stage, "workers = 1").await;
    look(&process).await;
    let before = resident_kib(&process);
    let mut wires = Vec::new();
    for _ in 0..CALLERS {
        let mut wire = Wire::connect(process.address).await;
        wire.write("GET /api/x HTTP/1.1\r\nHost: ").await;
        wires.push(wire);
    }
    for _ in 0..3 {
        for wire in &mut wires {
            wire.write("x").await;
        }
        look(&process).await;
    }
    let each = (resident_kib(&process) - before) / CALLERS as f64;
    assert!(each < 8.0, "{each} KiB");
}

#[tokio::test]
async fn a_body_is_kept_at_its_size_in_however_many_pieces_it_comes() {
    const PIECES: usize = 2000;
    let (sender, mut received) = unbounded_channel();
    let upstream = Raw::start(move |mut peer| {
        let sender = sender.clone();
        async move {
            while let Some(head) = peer.read_head().await {
                if head.starts_with("POST ") {
                    for _ in 0..PIECES {
                        peer.read_bytes(1).await;
                        sender.send(()).unwrap();
                    }
                }
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let process = Process::start(&stage, "workers = 1").await;
    look(&process).await;
    let before = resident_kib(&process);
    let mut wire = Wire::connect(process.address).await;
    wire.write(format!(
        "POST /api/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {PIECES}\r\n\r\n"
    ))
    .await;
    for number in 0..PIECES {
        if number + 1 == PIECES {
            let more = resident_kib(&process) - before;
            assert!(more < 4096.0, "{more} KiB");
        }
        wire.write("x").await;
        within(received.recv()).await.unwrap();
    }
    assert!(wire.read_head().await.starts_with("HTTP/1.1 200 "));
}

/// What has come before this is called has been looked at when it is done.
async fn look(process: &Process) {
    for _ in 0..3 {
        Client::connect(process.address)
            .await
            .get("/api/")
            .await
            .expect_ok();
    }
}

fn resident_kib(process: &Process) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse().unwrap()
}
