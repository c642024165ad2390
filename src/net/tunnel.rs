//! A tunnel through an HTTP proxy: CONNECT (RFC 9110 §9.3.6).

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The proxy through which connections leave this network.
#[derive(Clone, Debug)]
pub struct EgressProxy {
    /// Host name or address, without brackets; resolved here.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What it is told about who asks; nothing if absent.
    pub authorization: Option<Authorization>,
}

/// Makes the value of `Proxy-Authorization` (RFC 9110 §11.7), anew for each tunnel.
#[derive(Clone)]
pub struct Authorization(Arc<Make>);

type Make = dyn Fn() -> Result<HeaderValue, CredentialsError> + Send + Sync;

/// Why there are no credentials; never what they are.
type CredentialsError = Arc<dyn Error + Send + Sync>;

impl Authorization {
    /// Made by `make`, which is called on the thread of the connection and must not wait.
    #[must_use]
    pub fn new(
        make: impl Fn() -> Result<HeaderValue, CredentialsError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[authorization]")
    }
}

/// Why there is no tunnel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TunnelError {
    /// The proxy's name does not resolve, or nobody answers there.
    #[error("the egress proxy cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// What the proxy wants to know cannot be read now.
    #[error("no credentials for the egress proxy: {0}")]
    Credentials(CredentialsError),
    /// The proxy wants other credentials (407), does not let us out (403), cannot reach the target (502, 503).
    #[error("the egress proxy answered {0}")]
    Refused(StatusCode),
    /// No answer, or none that is HTTP.
    #[error("the egress proxy gave no usable answer")]
    NoAnswer(#[source] Arc<hyper::Error>),
    /// Bytes came out of the tunnel before any went in: nobody who speaks TLS or HTTP has sent them.
    #[error("the egress proxy sent bytes of its own through the tunnel")]
    EarlyBytes,
}

/// Has `proxy`, at the other end of `tcp`, connect to `target`: a host, which it resolves, and a port.
///
/// # Errors
///
/// When it does not.
pub(super) async fn open(
    proxy: &EgressProxy,
    tcp: TcpStream,
    target: &Uri,
) -> Result<TcpStream, TunnelError> {
    let request = connect(proxy, target)?;
    let no_answer = |error| TunnelError::NoAnswer(Arc::new(error));
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(no_answer)?;
    let answer = {
        let answer = pin!(sender.send_request(request));
        let connected = poll_fn(|cx| connection.poll_without_shutdown(cx));
        // If the connection ends first, waiting for the answer says why there is none.
        match select(answer, pin!(connected)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    };
    let status = answer.map_err(no_answer)?.status();
    if !status.is_success() {
        return Err(TunnelError::Refused(status));
    }
    // What follows the head of a 2xx is the tunnel, whatever its fields say.
    let parts = connection.into_parts();
    if !parts.read_buf.is_empty() {
        return Err(TunnelError::EarlyBytes);
    }
    Ok(parts.io.into_inner())
}

fn connect(proxy: &EgressProxy, target: &Uri) -> Result<Request<Empty<Bytes>>, TunnelError> {
    let authority = target
        .authority()
        .map_or("", |authority| authority.as_str());
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.clone();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(HOST, host);
    }
    if let Some(Authorization(make)) = &proxy.authorization {
        headers.insert(
            PROXY_AUTHORIZATION,
            make().map_err(TunnelError::Credentials)?,
        );
    }
    Ok(request)
}

/// The largest head that a proxy may answer with.
const MAX_HEAD_BYTES: usize = 16 * 1024;
