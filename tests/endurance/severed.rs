//! Severed: connections to the upstream end at every moment of a request, by FIN and by reset. No POST is carried out
//! twice, none is left without an answer, and no GET fails because a connection was closed while it was idle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::report::{Report, size};
use crate::stage::{Client, Stage, full, request};

/// How much of the request is read, and how much of the answer written, in percent.
const PHASES: [(usize, usize); 10] = [
    (0, 0),
    (25, 0),
    (50, 0),
    (75, 0),
    (100, 0),
    (100, 5),
    (100, 50),
    (100, 20),
    (100, 95),
    (100, 100),
];
const ENDS: [&str; 2] = ["fin", "reset"];
const POSTS_A_PHASE: usize = size(20, 500);
const CLIENTS: usize = 8;
const BODY_BYTES: usize = 4096;

/// The upstream closes what is idle for so long, and that is how often each app calls, give or take a tenth.
const KEEP_ALIVE: Duration = Duration::from_millis(100);
const CALLS: usize = size(40, 600);

#[tokio::test]
async fn no_post_is_carried_out_twice_wherever_its_connection_ends() {
    let mut report = Report::of("Severed: POSTs whose connection ends at every phase").await;
    let upstream = Upstream::start(None).await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = stage.address();
        clients.spawn(async move {
            let mut app = App::connect(address).await;
            for round in (client..POSTS_A_PHASE * PHASES.len() * ENDS.len()).step_by(CLIENTS) {
                let (read, written) = PHASES[round % PHASES.len()];
                let end = ENDS[round / PHASES.len() % ENDS.len()];
                let path = format!("{read}/{written}/{end}/{round}");
                app.call(Method::POST, "/api", &path).await;
            }
            app
        });
    }
    let apps = within_long(clients.join_all()).await;
    let total = PHASES.len() * ENDS.len() * POSTS_A_PHASE;
    let sum = |what: fn(&App) -> usize| apps.iter().map(what).sum::<usize>();
    let executions = upstream.executions();
    let twice = executions.values().filter(|count| **count > 1).count();
    report.figure(
        "phases: FIN and reset at ten places",
        PHASES.len() * ENDS.len(),
    );
    report.figure("POSTs", total);
    report.figure("  carried out", executions.len());
    report.figure("  carried out twice", twice);
    report.figure("answered by the upstream", sum(|app| app.answered));
    report.figure("told that the upstream broke off", sum(|app| app.told));
    report.figure(
        "answers that broke off with the upstream",
        sum(|app| app.broken),
    );
    assert_eq!(twice, 0);
    assert_eq!(sum(|app| app.answered + app.told + app.broken), total);
    // Whoever was answered has been carried out; and most of the phases come after that.
    assert!(executions.len() >= total / 2, "{}", executions.len());
    assert!(sum(|app| app.answered) >= total / 20);
}

#[tokio::test]
async fn no_get_fails_because_an_idle_connection_is_closed_as_it_is_used() {
    let mut report =
        Report::of("Idle: the upstream closes connections just when they are used").await;
    // One for each app, so that nobody else keeps its connection busy.
    let upstreams = join_all((0..2 * CLIENTS).map(|_| Upstream::start(Some(KEEP_ALIVE)))).await;
    let routes = upstreams.iter().enumerate().map(|(app, upstream)| {
        let url = upstream.url();
        format!("[[route]]\npath = \"/to/{app}\"\nprovider = \"idp\"\nupstream = \"{url}\"\n")
    });
    let stage = Stage::set().more(&routes.collect::<String>()).start().await;
    let mut clients = JoinSet::new();
    for client in 0..2 * CLIENTS {
        let address = stage.address();
        clients.spawn(async move {
            let mut app = App::connect(address).await;
            for call in 0..CALLS {
                let path = format!("100/100/keep/{call}");
                let method = if client % 2 == 0 {
                    Method::GET
                } else {
                    Method::POST
                };
                app.call(method, &format!("/to/{client}"), &path).await;
                sleep(KEEP_ALIVE.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
            }
            (client % 2 == 0, app)
        });
    }
    let apps = within_long(clients.join_all()).await;
    let sum = |of_get: bool, what: fn(&App) -> usize| {
        let apps = apps.iter().filter(|(is_get, _)| *is_get == of_get);
        apps.map(|(_, app)| what(app)).sum::<usize>()
    };
    let posts = upstreams
        .iter()
        .skip(1)
        .step_by(2)
        .flat_map(|it| it.executions().into_values());
    let twice = posts.filter(|count| *count > 1).count();
    let closed: usize = upstreams.iter().map(Upstream::closed).sum();
    let total = CALLS * CLIENTS;
    report.figure("connections that the upstream closed", closed);
    report.figure("GETs", total);
    report.figure("  failed", total - sum(true, |app| app.answered));
    report.figure("POSTs", total);
    report.figure(
        "  told that the upstream broke off",
        sum(false, |app| app.told),
    );
    report.figure("  carried out twice", twice);
    assert_eq!(sum(true, |app| app.answered), total);
    assert_eq!(sum(false, |app| app.answered + app.told), total);
    assert_eq!(twice, 0);
    assert!(closed > total / 4, "{closed}");
}

/// An app with one connection, and what has become of its requests.
struct App {
    client: Client,
    address: SocketAddr,
    /// The upstream's own answer.
    answered: usize,
    /// pillion's answer that there is none: a 502.
    told: usize,
    /// The beginning of the upstream's answer.
    broken: usize,
}

impl App {
    async fn connect(address: SocketAddr) -> Self {
        Self {
            client: Client::connect(address).await,
            address,
            answered: 0,
            told: 0,
            broken: 0,
        }
    }

    async fn call(&mut self, method: Method, route: &str, path: &str) {
        let is_post = method == Method::POST;
        let body = if is_post {
            "x".repeat(BODY_BYTES)
        } else {
            String::new()
        };
        let call = request(method, &format!("{route}/{path}"));
        match self.client.try_send(call.body(full(body)).unwrap()).await {
            Ok(reply) if reply.status == 200 => {
                assert_eq!(reply.body, answer_body(path), "another's answer");
                self.answered += 1;
            }
            Ok(reply) => {
                reply.expect_problem(502, "upstream-unreachable");
                self.told += 1;
            }
            Err(_) => {
                self.broken += 1;
                self.client = Client::connect(self.address).await;
            }
        }
    }
}

/// An upstream that does what the path says: `/READ/WRITTEN/END/NUMBER`.
struct Upstream {
    address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    /// How often the request of each number has come whole.
    executions: Mutex<HashMap<String, usize>>,
    closed: Mutex<usize>,
}

impl Upstream {
    async fn start(keep_alive: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<Log>::default();
        let logging = Arc::clone(&log);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let log = Arc::clone(&logging);
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let keep_alive = keep_alive.unwrap_or(Duration::from_hours(1));
                    // A new connection is not closed before it has been of use, however late its request comes.
                    let mut served = serve(&mut stream, &log).await;
                    while served.is_some() {
                        let next = timeout(keep_alive, serve(&mut stream, &log));
                        served = next.await.ok().flatten();
                    }
                    *log.closed.lock().unwrap() += 1;
                });
            }
        });
        Self {
            address,
            log,
            accepting,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn executions(&self) -> HashMap<String, usize> {
        self.log.executions.lock().unwrap().clone()
    }

    fn closed(&self) -> usize {
        *self.log.closed.lock().unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request; nothing when the connection is over.
async fn serve(stream: &mut BufReader<TcpStream>, log: &Log) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut orders = path.split('/');
    let read: usize = orders.next()?.parse().ok()?;
    let written: usize = orders.next()?.parse().ok()?;
    let (end, number) = (orders.next()?, orders.next()?);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length * read / 100];
    stream.read_exact(&mut body).await.ok()?;
    if read == 100 {
        *log.executions
            .lock()
            .unwrap()
            .entry(number.to_owned())
            .or_default() += 1;
    }
    let body = answer_body(&path);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let written = answer.len() * written / 100;
    stream.write_all(&answer.as_bytes()[..written]).await.ok()?;
    match end {
        "keep" => return Some(()),
        "reset" => socket2::SockRef::from(stream.get_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
        _ => {}
    }
    None
}

fn answer_body(path: &str) -> String {
    format!("you said {path:<60}")
}

/// For what takes longer than one step, and would else go on for ever.
async fn within_long<T>(future: impl Future<Output = T>) -> T {
    let Ok(done) = timeout(Duration::from_mins(10), future).await else {
        panic!("it does not come to an end");
    };
    done
}
