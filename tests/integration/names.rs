//! A name that leads elsewhere than before: pillion follows, and no request fails.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Directory, Process, Stage, within};

#[tokio::test]
async fn steady_traffic_moves_to_a_names_new_address_and_no_request_fails() {
    let (old, new) = a_pair(1).await;
    let names = Names::new(&[old.ip()]);
    let process = names.start(old.port(), "connection_age = \"500ms\"").await;
    let mut client = Client::connect(process.address).await;
    for _ in 0..10 {
        client.post("/api/", "body").await.expect_ok();
    }
    assert_eq!((old.requests(), new.requests()), (10, 0));

    names.set(&[new.ip()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while new.requests() < 10 {
        client.post("/api/", "body").await.expect_ok();
        client.get("/api/").await.expect_ok();
        assert!(
            Instant::now() < deadline,
            "it still goes to the old address"
        );
        sleep(Duration::from_millis(5)).await;
    }
    // Once it has moved, it has moved.
    let before = old.requests();
    for _ in 0..20 {
        client.post("/api/", "body").await.expect_ok();
    }
    assert_eq!(old.requests(), before);
}

#[tokio::test]
async fn an_address_that_is_gone_costs_no_request_once_the_name_leads_elsewhere() {
    let (old, new) = a_pair(2).await;
    let names = Names::new(&[old.ip()]);
    let process = names.start(old.port(), "").await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(process.address).await;
        client.post("/api/", "body").await.expect_ok();
        clients.push(client);
    }
    names.set(&[new.ip()]);
    old.die().await;
    for client in &mut clients {
        client.post("/api/", "body").await.expect_ok();
        client.get("/api/").await.expect_ok();
    }
    assert_eq!(new.requests(), 20);
}

#[tokio::test]
async fn of_several_addresses_the_one_that_answers_is_enough() {
    let (dead, alive) = a_pair(3).await;
    let (port, gone) = (dead.port(), dead.ip());
    dead.die().await;
    let names = Names::new(&[gone, alive.ip()]);
    let process = names.start(port, "connection_age = \"1ms\"").await;
    let mut client = Client::connect(process.address).await;
    for _ in 0..10 {
        client.post("/api/", "body").await.expect_ok();
    }
    assert_eq!(alive.requests(), 10);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_502_until_somebody_does() {
    let (upstream, _other) = a_pair(4).await;
    let names = Names::new(&[]);
    let process = names.start(upstream.port(), "").await;
    let mut client = Client::connect(process.address).await;
    let reply = client.post("/api/", "body").await;
    reply.expect_problem(502, "upstream-unreachable");
    names.set(&[upstream.ip()]);
    client.post("/api/", "body").await.expect_ok();
}

/// What the one name of a process stands for.
struct Names {
    directory: Directory,
}

impl Names {
    fn new(addresses: &[Ipv4Addr]) -> Self {
        let names = Self {
            directory: Directory::new(),
        };
        names.set(addresses);
        names
    }

    fn set(&self, addresses: &[Ipv4Addr]) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let line = format!("api.example {}\n", addresses.join(" "));
        self.directory.replace("names", &line);
    }

    /// A process for which this is so, whose route leads to that name.
    async fn start(&self, port: u16, limits: &str) -> Process {
        let stage = Stage::set()
            .top(&format!("[limits]\n{limits}"))
            .upstream_at(format!("http://api.example:{port}"))
            .route("allow_plaintext = true")
            .more("[provider.key]\ntype = \"static\"\nsecret = { env = \"SECRET\" }")
            .start()
            .await;
        let config = stage
            .config
            .replace("provider = \"idp\"", "provider = \"key\"");
        let library = self.directory.preload("names.c");
        let names = self.directory.path().join("names");
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("NAMES", names.to_str().unwrap()),
        ];
        Process::start_with(&environment, &config, "").await
    }
}

/// An upstream that says yes to everything.
struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// Two on the same port of different addresses, in a network that no other test uses.
async fn a_pair(network: u8) -> (Upstream, Upstream) {
    let at = |host| Ipv4Addr::new(127, 7, network, host);
    loop {
        let first = TcpListener::bind((at(1), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind((at(2), port)).await {
            return (Upstream::serve(first), Upstream::serve(second));
        }
    }
}

impl Upstream {
    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer(stream, Arc::clone(&count)));
            }
        });
        Self {
            address,
            requests,
            serving,
        }
    }

    fn ip(&self) -> Ipv4Addr {
        match self.address {
            SocketAddr::V4(address) => *address.ip(),
            SocketAddr::V6(_) => unreachable!("it is bound to IPv4"),
        }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Closes its socket and all its connections.
    async fn die(self) {
        self.serving.abort();
        within(self.serving).await.ok();
        assert!(TcpStream::connect(self.address).await.is_err());
    }
}

async fn answer(mut stream: TcpStream, requests: Arc<AtomicUsize>) {
    let mut seen = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        seen.push(byte);
        // A body of four bytes, or none.
        let head = String::from_utf8_lossy(&seen);
        let is_whole = match head.split_once("\r\n\r\n") {
            Some((head, body)) => !head.starts_with("POST") || body.len() == 4,
            None => false,
        };
        if is_whole {
            seen.clear();
            requests.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.ok();
        }
    }
}
