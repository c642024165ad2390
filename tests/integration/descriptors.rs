//! A process that has no file descriptors left: it waits, says so, and goes on by itself.

use std::fs;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::stage::{Client, Process, Raw, SECRET, Stage, within};

const GET: &str = "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_thousand_callers_of_a_process_with_128_descriptors_are_served_or_told() {
    let stage = Stage::new().await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""]);
    command
        .arg(env!("CARGO_BIN_EXE_pillion"))
        .env("SECRET", SECRET);
    let process = Process::launch(command, &stage.config, "workers = 2").await;
    // Nobody closes a connection before all are there.
    let opened = (0..1000).map(|_| TcpStream::connect(process.address));
    let opened: Vec<TcpStream> = within(join_all(opened))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let busy = process.cpu_ticks();
    sleep(Duration::from_secs(1)).await;
    let busy = process.cpu_ticks() - busy;
    assert!(
        busy < 30,
        "{busy} ticks of 100 for callers that say nothing"
    );

    let answers = join_all(opened.into_iter().map(async |mut stream| {
        // Whoever is over the limit has been told already.
        stream.write_all(GET.as_bytes()).await.ok();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.ok();
        String::from_utf8(answer).unwrap()
    }))
    .await;
    let served = answers.iter().filter(|it| it.starts_with("HTTP/1.1 200 "));
    let served = served.count();
    let told = answers.iter().filter(|it| it.starts_with("HTTP/1.1 503 "));
    let told = told.filter(|it| it.contains("urn:pillion:problem:overloaded"));
    assert_eq!(served + told.count(), 1000);
    assert!((20..64).contains(&served), "{served}");

    let mut client = Client::connect(process.address).await;
    client.get("/api/").await.expect_ok();
}

#[tokio::test]
async fn whoever_has_to_wait_for_a_descriptor_is_served_when_there_is_one() {
    let other = Raw::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let more = format!(
        "[[route]]\nname = \"other\"\npath = \"/other\"\nprovider = \"idp\"\nupstream = \"{}\"\n",
        other.url()
    );
    let stage = Stage::set().more(&more).start().await;
    let mut process = Process::start(&stage, "").await;
    let mut kept = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(process.address).await;
        client.get("/api/").await.expect_ok();
        kept.push(client);
    }
    let mut first = kept.remove(0);
    let left = limit_descriptors(&process);
    for _ in 0..left {
        kept.push(Client::connect(process.address).await);
    }
    // They are connected, by the kernel, and that is all.
    let waiting = join_all((0..20).map(async |_| {
        let mut stream = TcpStream::connect(process.address).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream
    }));
    let mut waiting = within(waiting).await;
    process.line("cannot accept connections").await;
    // A request that needs a descriptor for its upstream is told so, and does not hang.
    let reply = first.get("/other/").await;
    reply.expect_problem(502, "upstream-unreachable");
    first.get("/api/").await.expect_ok();
    let busy = process.cpu_ticks();
    sleep(Duration::from_secs(1)).await;
    let busy = process.cpu_ticks() - busy;
    assert!(busy < 30, "{busy} ticks of 100 while nothing can be done");
    assert!(process.child.try_wait().unwrap().is_none());

    kept.clear();
    for stream in &mut waiting {
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    first.get("/other/").await.expect_ok();
}

/// No descriptor beyond the highest that is open now; how many there are below it.
fn limit_descriptors(process: &Process) -> usize {
    let pid = process.child.id();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = open.map(|entry| entry.unwrap().file_name());
    let open: Vec<usize> = names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect();
    let limit = open.iter().max().unwrap() + 1;
    let mut prlimit = Command::new("prlimit");
    prlimit
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}"));
    assert!(prlimit.status().unwrap().success());
    limit - open.len()
}
