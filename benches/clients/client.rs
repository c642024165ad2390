//! The three clients. Each has one connection, and its exchanges are one task's.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use nix::time::{ClockId, clock_gettime};
use pillion::clock::Moment;
use pillion::net::connect::{Endpoint, EndpointSettings, HttpVersion};
use pillion::net::pool::{Pool, PoolSettings, RequestHead};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::exchange::{Answer, Kind};

/// A client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// hyper's, its connection a task of its own, as hyper-util has it.
    Spawned,
    /// hyper's, its connection polled by the task of the request.
    Inline,
    /// pillion's.
    Own,
}

impl Client {
    pub(crate) const ALL: [Self; 3] = [Self::Spawned, Self::Inline, Self::Own];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Spawned => "hyper, spawned",
            Self::Inline => "hyper, inline",
            Self::Own => "pillion's own",
        }
    }

    /// Makes so many exchanges, on a runtime like a worker's. Returns the time that this thread was on a processor.
    pub(crate) fn run(self, upstream: SocketAddr, kind: Kind, times: u64) -> Duration {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let task = spawn_local(self.exchanges(upstream, kind, times));
            task.await.unwrap()
        })
    }

    async fn exchanges(self, upstream: SocketAddr, kind: Kind, times: u64) -> Duration {
        match self {
            Self::Spawned => {
                let (mut sender, connection) = hyper(upstream).await;
                let connection = spawn_local(connection);
                let took = repeat(kind, times, drop, async |request| {
                    spawned(&mut sender, request).await
                });
                let took = took.await;
                drop(sender);
                connection.await.unwrap().unwrap();
                took
            }
            Self::Inline => {
                let (mut sender, mut connection) = hyper(upstream).await;
                let exchange =
                    async |request| inline(&mut sender, Pin::new(&mut connection), request).await;
                repeat(kind, times, drop, exchange).await
            }
            Self::Own => {
                let pool = Rc::new(Pool::new(POOL));
                let endpoint = endpoint(upstream);
                // As the proxy does when it has passed the answer on.
                let give_back = |headers| pool.reuse(headers);
                let exchange = async |request| own(&pool, &endpoint, request).await;
                repeat(kind, times, give_back, exchange).await
            }
        }
    }
}

/// Makes the exchanges, each with a request of its own. What an answer's fields were in goes to `give_back`.
async fn repeat(
    kind: Kind,
    times: u64,
    give_back: impl Fn(HeaderMap),
    mut exchange: impl AsyncFnMut(Request<Full<Bytes>>) -> Answer,
) -> Duration {
    let request = kind.request();
    let began = on_a_processor();
    for _ in 0..times {
        let answer = exchange(request.clone()).await;
        assert!(answer.is_right(), "{answer:?}");
        give_back(answer.headers);
    }
    on_a_processor() - began
}

fn on_a_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

type HyperConnection = Connection<TokioIo<TcpStream>, Full<Bytes>>;

async fn hyper(upstream: SocketAddr) -> (SendRequest<Full<Bytes>>, HyperConnection) {
    let tcp = TcpStream::connect(upstream).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    handshake(TokioIo::new(tcp)).await.unwrap()
}

async fn spawned(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Answer {
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Whoever waits for something of the connection polls the connection, so nothing else has to wake it up: it knows of a
/// waker only where there is nothing left to do.
async fn inline(
    sender: &mut SendRequest<Full<Bytes>>,
    mut connection: Pin<&mut HyperConnection>,
    request: Request<Full<Bytes>>,
) -> Answer {
    let mut deaf = Context::from_waker(Waker::noop());
    let mut advance = |cx: &mut Context<'_>| {
        let ended = connection.as_mut().poll(cx);
        assert!(ended.is_pending(), "the connection has ended: {ended:?}");
    };
    if !sender.is_ready() {
        poll_fn(|cx| {
            advance(cx);
            sender.poll_ready(&mut deaf)
        })
        .await
        .unwrap();
    }
    let mut answer = pin!(sender.send_request(request));
    let mut is_sent = false;
    let answer = poll_fn(|cx| {
        if std::mem::replace(&mut is_sent, true) {
            advance(&mut deaf);
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut deaf) {
                return Poll::Ready(answer);
            }
        }
        advance(cx);
        answer.as_mut().poll(&mut deaf)
    });
    let (parts, body) = answer.await.unwrap().into_parts();
    let mut body = pin!(body.collect());
    let body = poll_fn(|cx| {
        // hyper reads no more of a body than somebody wants, so the body is asked first.
        if let Poll::Ready(body) = body.as_mut().poll(&mut deaf) {
            return Poll::Ready(body);
        }
        advance(&mut deaf);
        if let Poll::Ready(body) = body.as_mut().poll(&mut deaf) {
            return Poll::Ready(body);
        }
        advance(cx);
        body.as_mut().poll(&mut deaf)
    });
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.await.unwrap().to_bytes(),
    }
}

async fn own(
    pool: &Rc<Pool<Full<Bytes>>>,
    endpoint: &Endpoint,
    request: Request<Full<Bytes>>,
) -> Answer {
    let connection = match pool.take(endpoint, Moment::now()) {
        Some(connection) => connection,
        None => pool.connect(endpoint).await.unwrap(),
    };
    let (parts, body) = request.into_parts();
    let head = RequestHead {
        method: &parts.method,
        target: parts.uri.path_and_query().unwrap().as_str(),
        host: parts.headers.get(HOST).unwrap(),
        headers: &parts.headers,
        more: &[],
    };
    let deadline = Instant::now() + PATIENCE;
    let answer = connection.send(&head, body, || deadline, |_, _| {}).await;
    let (parts, mut body) = answer.unwrap().into_parts();
    let body = match body.take_whole() {
        Some(whole) => whole,
        None => body.collect().await.unwrap().to_bytes(),
    };
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

fn endpoint(upstream: SocketAddr) -> Endpoint {
    let settings = EndpointSettings {
        fingerprint: 1,
        host: upstream.ip().to_string(),
        port: upstream.port(),
        tls: None,
        version: HttpVersion::Http1,
        socket: None,
        resolved: None,
        egress_proxy: None,
        allow_plaintext: false,
        connect_timeout: PATIENCE,
    };
    Endpoint::new(settings).unwrap()
}

/// Long enough for callgrind.
const PATIENCE: Duration = Duration::from_secs(60);
const POOL: PoolSettings = PoolSettings {
    idle_timeout: PATIENCE,
    max_age: Duration::from_secs(600),
    max_idle: 1,
};
