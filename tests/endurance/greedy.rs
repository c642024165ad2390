//! Callers that send slowly, read nothing, or move a lot: the others notice none of it, and memory stays where it was.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::report::{Report, size};
use crate::stage::{Client, Process, Raw, Stage, sum, within};

/// Slow heads, slow bodies, slow readers.
const SLOW: [usize; 3] = size([200, 200, 50], [2000, 2000, 500]);
/// How long anything may stand still.
const LIMIT: &str = size("2s", "10s");
/// On average. A slow head takes 2 KiB and a slow body 16, most of it what has been touched of hyper's buffers; an answer that
/// nobody reads takes 50 to 70, a piece of it among them. What is there for all of them counts more where they are fewer.
const MOST_KIB_EACH: f64 = size(32.0, 20.0);
const BODY_BYTES: usize = size(64 << 20, 1 << 30);

#[tokio::test]
async fn slow_callers_are_gone_in_time_and_cost_nobody_else_anything() {
    let mut report = Report::of("greedy: callers that are slow, and one that is not").await;
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            if head.starts_with("GET /all ") {
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
                    .await;
                // More than all buffers on the way hold; the rest would never be read.
                for _ in 0..160 {
                    peer.write(PIECE).await;
                }
                return peer.read_to_end().await;
            }
            peer.discard(length_of(&head)).await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let stage = Stage::set()
        .upstream_at(upstream.url())
        .top(&format!(
            "[limits]\nheader_timeout = \"{LIMIT}\"\nbody_idle = \"{LIMIT}\""
        ))
        .route(&format!("timeouts = {{ idle = \"{LIMIT}\" }}"))
        .start()
        .await;
    let process = Process::start(&stage, "").await;
    let memory = Memory::of(&process);
    let healthy = Healthy::start(process.address).await;
    let before = memory.resident_kib();

    let [heads, bodies, readers] = SLOW;
    let began = Instant::now();
    let heads = (0..heads).map(|_| drips(process.address, "GET /api/x HTTP/1.1\r\nHost: "));
    let bodies = (0..bodies).map(|_| {
        let head = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhello";
        says(process.address, head)
    });
    let readers = join_all((0..readers).map(|_| reads_nothing(process.address))).await;
    while upstream.requests() < readers.len() {
        assert!(
            began.elapsed() < PATIENCE,
            "{} of them",
            upstream.requests()
        );
        sleep(Duration::from_millis(20)).await;
    }
    let slow = async { tokio::join!(join_all(heads), join_all(bodies)) };
    let (heads, bodies) = timeout(PATIENCE, slow)
        .await
        .expect("some are never given up");
    for answer in heads.iter().chain(&bodies) {
        // Who was slow even to begin is told nothing.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer:?}"
        );
    }
    // Those who read nothing cannot tell either, so the proxy does.
    let mut admin = Client::connect(process.admin).await;
    let deadline = Instant::now() + PATIENCE;
    while in_flight(&mut admin).await > 1.0 {
        assert!(Instant::now() < deadline, "some are never given up");
        sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let answered = healthy.stop().await;
    assert!(answered > 0);
    let more = memory.peak_kib() - before;
    let all: usize = SLOW.iter().sum();
    report.figure("slow heads, bodies, readers", format!("{SLOW:?}"));
    report.figure("answers to the healthy one meanwhile", answered);
    report.figure(
        "all slow ones gone after",
        format!("{:.1} s", took.as_secs_f64()),
    );
    report.figure(
        "resident memory, at most",
        format!("{:.1} MiB", memory.peak_kib() / 1024.0),
    );
    report.figure("for each of them", format!("{:.1} KiB", more / all as f64));
    assert!(more < MOST_KIB_EACH * all as f64, "{more} KiB");
    drop(readers);
}

#[tokio::test]
async fn a_body_of_any_length_costs_no_memory_either_way() {
    let mut report = Report::of("greedy: bodies as long as they like").await;
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            if head.starts_with("POST ") {
                let length = length_of(&head);
                peer.discard(length).await;
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            } else {
                let length: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                peer.write(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
                ))
                .await;
                for _ in 0..length / PIECE.len() {
                    peer.write(PIECE).await;
                }
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let process = Process::start(&stage, "").await;
    let memory = Memory::of(&process);
    let mut stream = TcpStream::connect(process.address).await.unwrap();
    // Buffers that the first bodies need stay.
    for _ in 0..4 {
        upload(&mut stream, 8 << 20).await;
        download(&mut stream, 8 << 20).await;
    }
    for (what, is_upload) in [("sent", true), ("received", false)] {
        memory.forget_peak();
        let before = memory.resident_kib();
        if is_upload {
            upload(&mut stream, BODY_BYTES).await;
        } else {
            download(&mut stream, BODY_BYTES).await;
        }
        let more = memory.peak_kib() - before;
        report.figure(
            &format!("{} MiB {what}, resident memory at most", BODY_BYTES >> 20),
            format!("+{more:.0} KiB"),
        );
        assert!(more < 1024.0, "{what}: {more} KiB");
    }
}

const PATIENCE: Duration = Duration::from_mins(1);
const PIECE: &[u8] = &[0; 64 << 10];

fn length_of(head: &str) -> usize {
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1);
    length.map_or(0, |length| length.lines().next().unwrap().parse().unwrap())
}

async fn upload(stream: &mut TcpStream, length: usize) {
    let head =
        format!("POST /api/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..length / PIECE.len() {
        within(stream.write_all(PIECE)).await.unwrap();
    }
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

async fn download(stream: &mut TcpStream, length: usize) {
    let head = format!("GET /api/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(length_of(&read_head(stream).await), length);
    let mut buffer = vec![0; 256 << 10];
    let mut left = length;
    while left > 0 {
        let most = left.min(buffer.len());
        let read = within(stream.read(&mut buffer[..most])).await.unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn in_flight(admin: &mut Client) -> f64 {
    let metrics = admin.get("/metrics").await.expect_ok();
    sum(
        std::str::from_utf8(&metrics.body).unwrap(),
        "pillion_requests_in_flight",
    )
}

/// Sends this and then byte after byte, for as long as it is let; what it is told in the end.
async fn drips(address: SocketAddr, begun: &str) -> String {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(begun.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    });
    let mut told = Vec::new();
    read.read_to_end(&mut told).await.ok();
    dripping.abort();
    String::from_utf8(told).unwrap()
}

/// Sends this and nothing more; what it is told in the end.
async fn says(address: SocketAddr, begun: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(begun.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).await.ok();
    String::from_utf8(told).unwrap()
}

/// Asks for 100 MB and reads none of it.
async fn reads_nothing(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = within(socket.connect(address)).await.unwrap();
    let get = b"GET /api/all HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(get).await.unwrap();
    stream
}

/// A caller that asks, reads and asks again, and must never fail.
struct Healthy {
    stopping: Arc<AtomicBool>,
    asking: JoinHandle<usize>,
}

impl Healthy {
    async fn start(address: SocketAddr) -> Self {
        let mut client = Client::connect(address).await;
        client.post("/api/", "body").await.expect_ok();
        let stopping = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stopping);
        let asking = tokio::spawn(async move {
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                client.post("/api/", "body").await.expect_ok();
                Client::connect(address)
                    .await
                    .get("/api/")
                    .await
                    .expect_ok();
                answered += 2;
                sleep(Duration::from_millis(5)).await;
            }
            answered
        });
        Self { stopping, asking }
    }

    async fn stop(self) -> usize {
        self.stopping.store(true, Ordering::Relaxed);
        within(self.asking).await.unwrap()
    }
}

/// What a process keeps in memory, as the system counts it.
struct Memory {
    process: u32,
}

impl Memory {
    fn of(process: &Process) -> Self {
        Self {
            process: process.child.id(),
        }
    }

    fn resident_kib(&self) -> f64 {
        self.line("VmRSS:")
    }

    /// The most since its start, or since it was forgotten.
    fn peak_kib(&self) -> f64 {
        self.line("VmHWM:")
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process), "5").unwrap();
    }

    fn line(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
