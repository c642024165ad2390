//! An app that speaks HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Body, Reply, full, tls, within};

/// A connection of HTTP/2 that is kept. Requests on it overlap.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Body>,
    _connection: Arc<Connection>,
}

struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request of such an app.
pub(crate) fn request2(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
}

impl Http2 {
    /// With prior knowledge.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// Over TLS, with what is agreed on there.
    pub(crate) async fn connect_tls(
        address: SocketAddr,
        host: &str,
        authority: CertificateDer<'static>,
    ) -> Self {
        let stream = tls(address, host, authority, &["h2", "http/1.1"])
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            connection.await.ok();
        });
        Self {
            sender,
            _connection: Arc::new(Connection(connection)),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(request2(Method::GET, path).body(full("")).unwrap())
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Reply {
        self.send(request2(Method::POST, path).body(full(body)).unwrap())
            .await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        self.try_send(request).await.unwrap()
    }

    /// The answer, or how it broke off.
    pub(crate) async fn try_send(&self, request: Request<Body>) -> Result<Reply, hyper::Error> {
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
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut sender = self.sender.clone();
        within(sender.ready()).await?;
        within(sender.send_request(request)).await
    }
}
