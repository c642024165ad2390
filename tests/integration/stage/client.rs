//! The app: it speaks HTTP to the proxy, on connections that it keeps or byte by byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tls;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A connection that is kept.
pub(crate) struct Client {
    sender: SendRequest<Body>,
    connection: JoinHandle<()>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// A request of the app; its Host is right.
pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body without a declared length, in these pieces, with these trailers.
pub(crate) fn chunked(pieces: &[Bytes], trailers: Option<HeaderMap>) -> Body {
    let pieces: Vec<_> = pieces.iter().cloned().map(Frame::data).collect();
    let frames = pieces.into_iter().chain(trailers.map(Frame::trailers));
    StreamBody::new(stream::iter(frames.map(Ok))).boxed_unsync()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// The same over TLS, to `host` with a certificate of `authority`.
    pub(crate) async fn connect_tls(
        address: SocketAddr,
        host: &str,
        authority: CertificateDer<'static>,
    ) -> Self {
        let stream = tls(address, host, authority, &[]).await.unwrap();
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move {
            connection.await.ok();
        });
        Self { sender, connection }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(request(Method::GET, path).body(full("")).unwrap())
            .await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(request(Method::POST, path).body(full(body)).unwrap())
            .await
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Reply {
        self.try_send(request).await.unwrap()
    }

    /// The answer, or how it broke off.
    pub(crate) async fn try_send(&mut self, request: Request<Body>) -> Result<Reply, hyper::Error> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = within(body.collect()).await?;
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        })
    }

    /// The head of the answer; its body is still on its way.
    pub(crate) async fn begin(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        within(self.sender.send_request(request)).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn expect_ok(self) -> Self {
        self.expect_status(200)
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// A problem document of pillion's own, in every detail that an app may rely on.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, kind: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        assert_eq!(self.field("cache-control"), Some("no-store"));
        let proxy_status = self.field("proxy-status").unwrap_or_default();
        assert!(
            proxy_status.starts_with("pillion; error="),
            "{proxy_status}"
        );
        let document = self.json();
        assert_eq!(document["type"], format!("urn:pillion:problem:{kind}"));
        assert_eq!(document["status"], status);
        for text in ["title", "detail"] {
            assert!(document[text].as_str().is_some_and(|it| !it.is_empty()));
        }
        self
    }

    /// The value of a field that must not come twice.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value.to_str().ok()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection on which every byte is the test's own.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything until these bytes, and them; or until the end.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            match within(self.stream.read_u8()).await {
                Ok(byte) => read.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// A head, as text.
    pub(crate) async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// So many bytes of a body.
    pub(crate) async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Everything until the proxy closes the connection, which it must.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        // A reset is an end, too.
        within(self.stream.read_to_end(&mut read)).await.ok();
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Closes the connection in the rudest way: with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// One answer with a declared length, from the half of a connection that is read.
pub(crate) async fn read_answer(mut read: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let head = loop {
        bytes.push(within(read.read_u8()).await.unwrap());
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8_lossy(&bytes).to_lowercase();
        }
    };
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    within(read.read_exact(&mut body)).await.unwrap();
    bytes.extend(body);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nothing in a test takes longer than this, unless it hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("nothing happened for {PATIENCE:?}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
