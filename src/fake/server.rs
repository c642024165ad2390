//! A server of HTTP/1.1 and HTTP/2 on the loopback address: sockets, TLS, and what tests want to know of both.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::answer;
use super::{Answer, FakeError};

/// Connections that may wait to be accepted, so that a thousand can arrive at the same moment.
const BACKLOG: u32 = 4096;

/// Fields of a request. More than pillion lets through, so that it is pillion that refuses.
const MAX_FIELDS: usize = 500;

/// The connection is closed without an answer, or without the rest of one.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub struct HangUp;

/// A server. Dropping it closes its socket and all its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<Result<(), FakeError>>)>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    CloseConnections,
    Leave,
    ComeBack,
}

impl Server {
    /// Starts a server on a free port; with `tls`, it speaks nothing else. HTTP/2 is for clients that begin with it, or
    /// agree on it where `tls` offers it. `handler` sees each
    /// request before its body has come.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn start<H, F>(tls: Option<Arc<ServerConfig>>, handler: H) -> Result<Self, FakeError>
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Answer, HangUp>> + Send + 'static,
    {
        let tls = tls.map(TlsAcceptor::from);
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        Self::talking(move |stream, requests| {
            converse(stream, tls.clone(), Arc::clone(&handler), requests)
        })
        .await
    }

    /// Starts a server each of whose connections is in the hands of `talk`, which counts its
    /// requests.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    #[expect(
        clippy::unused_async,
        reason = "a socket can only be opened on a runtime; an async function is always on one"
    )]
    pub(super) async fn talking<T, F>(talk: T) -> Result<Self, FakeError>
    where
        T: Fn(TcpStream, Requests) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener =
            listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(FakeError::Listen)?;
        let address = listener.local_addr().map_err(FakeError::Listen)?;
        let counts = Arc::new(Counts::default());
        let (orders, received) = mpsc::unbounded_channel();
        let host = Host {
            address,
            talk,
            counts: Arc::clone(&counts),
        };
        let accepting = tokio::spawn(host.run(listener, received));
        Ok(Self {
            address,
            counts,
            orders,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// How many requests it has received so far, counted when their heads were complete.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Closes every connection that is open now, in the middle of whatever it carries; new ones are
    /// welcome.
    ///
    /// # Errors
    ///
    /// If the server's runtime is gone.
    pub async fn close_connections(&self) -> Result<(), FakeError> {
        self.order(Order::CloseConnections).await
    }

    /// Closes the socket and every connection: from now on, connecting is refused.
    ///
    /// # Errors
    ///
    /// If the server's runtime is gone.
    pub async fn leave(&self) -> Result<(), FakeError> {
        self.order(Order::Leave).await
    }

    /// Listens on the same port again.
    ///
    /// # Errors
    ///
    /// If somebody else took the port, or the server's runtime is gone.
    pub async fn come_back(&self) -> Result<(), FakeError> {
        self.order(Order::ComeBack).await
    }

    async fn order(&self, order: Order) -> Result<(), FakeError> {
        let (done, is_done) = oneshot::channel();
        self.orders
            .send((order, done))
            .map_err(|_| FakeError::Stopped)?;
        is_done.await.map_err(|_| FakeError::Stopped)?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort(); // and with it the set of its connections
    }
}

/// Of one type for all servers, so that all of hyper is in the program once.
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, HangUp>> + Send>>;

/// What a connection is to whoever speaks HTTP on it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    requests: Requests,
) {
    let (stream, is_http2): (Box<dyn Stream>, _) = match tls {
        None => {
            let is_http2 = begins_with_preface(&stream).await;
            (Box::new(stream), is_http2)
        }
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Box::new(stream), is_http2)
        }
    };
    // However it ends, there is nobody to tell.
    let _ended = if is_http2 {
        speak_http2(stream, handler, requests).await
    } else {
        speak(stream, handler, requests).await
    };
}

/// What the accepting task owns.
struct Host<T> {
    address: SocketAddr,
    talk: T,
    counts: Arc<Counts>,
}

impl<T, F> Host<T>
where
    T: Fn(TcpStream, Requests) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(
        self,
        listener: TcpListener,
        mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<Result<(), FakeError>>)>,
    ) {
        let mut door = Door::Open(listener);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                stream = door.accept() => {
                    connections.spawn(self.serve(stream));
                }
                Some((order, done)) = orders.recv() => {
                    let outcome = self.follow(order, &mut door, &mut connections).await;
                    drop(done.send(outcome)); // whoever gave the order may have stopped waiting
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn follow(
        &self,
        order: Order,
        door: &mut Door,
        connections: &mut JoinSet<()>,
    ) -> Result<(), FakeError> {
        match (order, &door) {
            (Order::CloseConnections, _) => connections.shutdown().await,
            (Order::Leave, _) => {
                *door = Door::Shut { _port: None };
                *door = Door::Shut {
                    _port: reserve(self.address).ok(),
                };
                connections.shutdown().await;
            }
            (Order::ComeBack, Door::Open(_)) => {}
            (Order::ComeBack, Door::Shut { .. }) => {
                *door = Door::Shut { _port: None };
                *door = Door::Open(listen(self.address).map_err(FakeError::Listen)?);
            }
        }
        Ok(())
    }

    /// One connection, from its beginning to its end.
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let open = Open::new(Arc::clone(&self.counts));
        let talk = (self.talk)(stream, Requests(Arc::clone(&self.counts)));
        async move {
            talk.await;
            drop(open);
        }
    }
}

/// Counts requests.
#[derive(Clone)]
pub(super) struct Requests(Arc<Counts>);

impl Requests {
    /// The head of one more is complete.
    pub(super) fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a connection for as long as it lives, however it dies.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn speak(
    stream: Box<dyn Stream>,
    handler: Handler,
    requests: Requests,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request| {
        requests.count();
        handler(request)
    });
    http1::Builder::new()
        .header_read_timeout(None) // an idle connection stays open until somebody closes it
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn speak_http2(
    stream: Box<dyn Stream>,
    handler: Handler,
    requests: Requests,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        requests.count();
        let is_head = request.method() == Method::HEAD;
        let answer = handler(request);
        async move {
            let answer = answer.await?;
            // hyper leaves that to its user here.
            Ok::<_, HangUp>(if is_head {
                answer.map(|_| answer::full(Bytes::new()))
            } else {
                answer
            })
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// Whether a client speaks HTTP/2 without having asked (RFC 9113 §3.3). No request of HTTP/1.1 begins like that.
async fn begins_with_preface(stream: &TcpStream) -> bool {
    let mut beginning = [0; 3];
    loop {
        match stream.peek(&mut beginning).await {
            Ok(1..3) if b"PRI".starts_with(beginning.trim_ascii_end()) => {
                tokio::task::yield_now().await;
            }
            Ok(_) => return beginning == *b"PRI",
            Err(_) => return false,
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Keeps a port on which nobody listens: whoever connects is refused, and the system gives it to nobody else meanwhile,
/// who would get what was meant for this server.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // There may be connections that have not quite ended; from then on it is not to be shared.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.set_reuseaddr(false)?;
    Ok(socket)
}

/// A port, and whether somebody listens there.
enum Door {
    Open(TcpListener),
    Shut { _port: Option<TcpSocket> },
}

impl Door {
    /// The next connection; never, if nobody listens.
    async fn accept(&self) -> TcpStream {
        let Self::Open(listener) = self else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) if stream.set_nodelay(true).is_ok() => return stream,
                Ok(_) => {} // already closed again
                // Out of descriptors, say; others will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::answer;
    use super::super::client::Client;
    use super::*;

    async fn server() -> Server {
        Server::start(None, async |_| Ok(answer::empty(StatusCode::NO_CONTENT)))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn it_counts_connections_and_requests() {
        let server = server().await;
        let client = Client::plain(server.address());
        client.send("GET", "/", &[], "").await.unwrap();
        client.send("GET", "/", &[], "").await.unwrap();
        assert_eq!((server.connections(), server.requests()), (2, 2));
    }

    #[tokio::test]
    async fn it_can_disappear_and_come_back() {
        let server = server().await;
        let client = Client::plain(server.address());
        let waiting = TcpStream::connect(server.address()).await.unwrap();
        while server.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
        server.leave().await.unwrap();
        assert_eq!(server.open_connections(), 0);
        waiting.readable().await.unwrap();
        assert_eq!(waiting.try_read(&mut [0]).unwrap(), 0);
        client.send("GET", "/", &[], "").await.unwrap_err();
        assert!(listen(server.address()).is_err(), "its port is kept");
        server.come_back().await.unwrap();
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 204);
    }

    #[tokio::test]
    async fn connections_are_closed_when_ordered() {
        let server = server().await;
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(TcpStream::connect(server.address()).await.unwrap());
        }
        while server.open_connections() < streams.len() {
            tokio::task::yield_now().await;
        }
        server.close_connections().await.unwrap();
        assert_eq!((server.connections(), server.open_connections()), (100, 0));
    }

    #[tokio::test]
    async fn it_stops_when_it_is_dropped() {
        let server = server().await;
        let address = server.address();
        drop(server);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
