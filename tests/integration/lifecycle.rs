//! A container's life: it is waited for, probed and asked to stop, without a shell.

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use pillion::fake::Fault;
use tokio::time::Instant;

use crate::stage::{Client, Directory, Process, Stage, pillion};

/// What a command says to the pillion at `admin`.
async fn ask(admin: SocketAddr, command: &[&str]) -> Output {
    let mut asking = pillion();
    asking.args(command).arg(format!("--admin={admin}"));
    let asked = tokio::task::spawn_blocking(move || asking.output().unwrap());
    asked.await.unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[tokio::test]
async fn wait_ends_when_every_warm_provider_has_given_a_token() {
    let stage = Stage::with_provider("warm = true").await;
    let output = ask(stage.running.admin, &["wait", "--timeout=20s"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(told(&output), "ready\n");
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn wait_says_for_what_it_has_waited_in_vain() {
    let setting = Stage::set().provider("warm = true");
    let stage = setting
        .provider_at("http://127.0.0.1:9/token")
        .start()
        .await;
    let output = ask(stage.running.admin, &["wait", "--timeout=300ms"]).await;
    assert_eq!(output.status.code(), Some(1));
    let wanted = "pillion: not ready after 300ms: waiting for the first token of idp\n";
    assert_eq!(told(&output), wanted);
}

#[tokio::test]
async fn a_healthcheck_is_about_the_process_and_not_about_providers() {
    let setting = Stage::set().provider("warm = true");
    let stage = setting
        .provider_at("http://127.0.0.1:9/token")
        .start()
        .await;
    let alive = ask(stage.running.admin, &["healthcheck"]).await;
    assert_eq!(
        (alive.status.code(), told(&alive).as_str()),
        (Some(0), "ok\n")
    );
    let ready = ask(stage.running.admin, &["healthcheck", "--ready"]).await;
    assert_eq!(ready.status.code(), Some(1));
    assert!(
        told(&ready).contains("first token of idp"),
        "{}",
        told(&ready)
    );
}

#[tokio::test]
async fn nobody_there_is_told() {
    let nobody = "127.0.0.1:9".parse().unwrap();
    for command in ["healthcheck", "shutdown"] {
        let output = ask(nobody, &[command]).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let told = told(&output);
        assert!(told.contains("127.0.0.1:9 cannot be reached"), "{told}");
    }
}

#[tokio::test]
async fn shutdown_ends_it_with_0_after_what_is_under_way() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "drain_delay = \"200ms\"").await;
    let slow = Fault::Delay(Duration::from_millis(600));
    stage.upstream.faults().once(slow);
    let mut client = Client::connect(process.address).await;
    let under_way = tokio::spawn(async move { client.get("/api/slow").await });
    stage
        .until(|stage| stage.upstream.server().requests() == 1)
        .await;
    let output = ask(process.admin, &["shutdown"]).await;
    assert_eq!(told(&output), "stopping\n");
    under_way.await.unwrap().expect_ok();
    assert_eq!(process.end().await, Some(0));
}

#[test]
fn the_configuration_file_says_where_to_ask() {
    let directory = Directory::new();
    let file = directory.write(
        "proxy.toml",
        "[admin]\naddress = \"0.0.0.0:9\"\n\
        [provider.p]\ntype = \"static\"\nsecret = { env = \"KEY\" }\n\
        [[route]]\nprovider = \"p\"\nupstream = \"https://api.example\"\n",
    );
    let mut asking = pillion();
    let output = asking
        .arg("healthcheck")
        .arg("-c")
        .arg(file)
        .output()
        .unwrap();
    assert!(
        told(&output).contains("127.0.0.1:9 cannot be reached"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn the_admin_port_is_on_every_address_and_acts_for_this_machine_only() {
    let stage = Stage::new().await;
    let mut process =
        Process::start_saying(&["run", "--admin-port=0", "--drain-delay=0s"], &stage).await;
    assert!(process.admin.ip().is_unspecified());
    let port = process.admin.port();
    // A machine without a way out has no address besides loopback. No packet is sent.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        let own = socket.local_addr().unwrap().ip();
        let mut scraper = Client::connect((own, port).into()).await;
        scraper.get("/metrics").await.expect_ok();
        scraper.get("/readyz").await.expect_ok();
        scraper.post("/quitquitquit", "").await.expect_status(403);
    }
    let here: SocketAddr = ([127, 0, 0, 1], port).into();
    assert_eq!(ask(here, &["healthcheck"]).await.status.code(), Some(0));
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let v6: SocketAddr = (std::net::Ipv6Addr::LOCALHOST, port).into();
        assert_eq!(ask(v6, &["healthcheck"]).await.status.code(), Some(0));
    }
    let began = Instant::now();
    assert_eq!(ask(here, &["shutdown"]).await.status.code(), Some(0));
    assert_eq!(process.end().await, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it has drained for longer than it was told"
    );
}
