//! Opens connections: resolve, connect, tunnel, handshake, all within one time limit.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service as _;

use super::resolver::Resolver;
use super::tls_fault::TlsFault;
use super::tunnel::{self, EgressProxy, TunnelError};

/// Where connections go, and how. Immutable.
#[derive(Debug)]
pub struct Endpoint {
    settings: EndpointSettings,
    /// Where the TCP connection goes: to the egress proxy, if there is one.
    dial: Uri,
    /// What the egress proxy is asked for.
    target: Uri,
    name: Option<ServerName<'static>>,
}

/// What an [`Endpoint`] is made of.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// Of everything below, by content: connections to endpoints of one fingerprint are interchangeable.
    pub fingerprint: u64,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Over TLS, verified for `host`; plaintext if absent.
    pub tls: Option<Arc<ClientConfig>>,
    /// Connect through this Unix socket, in plaintext; over TCP if absent.
    pub socket: Option<PathBuf>,
    /// Connect here instead of resolving `host` (curl's `--resolve`).
    pub resolved: Option<SocketAddr>,
    /// Connect through this proxy, which resolves `host`; directly if absent.
    pub egress_proxy: Option<EgressProxy>,
    /// Without TLS, whether the other side may be elsewhere than on this machine.
    pub allow_plaintext: bool,
    /// Time for everything until the first byte can be sent.
    pub connect_timeout: Duration,
}

impl Endpoint {
    /// An endpoint made of `settings`.
    ///
    /// # Errors
    ///
    /// When `host` is neither a host name nor an address.
    pub fn new(settings: EndpointSettings) -> Result<Self, BadHost> {
        let target = match settings.resolved {
            Some(address) => authority(&address.ip().to_string(), address.port()),
            None => authority(&settings.host, settings.port),
        }?;
        let next = match &settings.egress_proxy {
            Some(proxy) => authority(&proxy.host, proxy.port)?,
            None => target.clone(),
        };
        let name = match settings.tls {
            None => None,
            Some(_) => Some(
                ServerName::try_from(settings.host.clone())
                    .map_err(|_| BadHost(settings.host.clone()))?,
            ),
        };
        let dial = Uri::builder()
            .scheme("http")
            .authority(next.clone())
            .path_and_query("/")
            .build()
            .map_err(|_| BadHost(next.to_string()))?;
        Ok(Self {
            settings,
            dial,
            target: target.into(),
            name,
        })
    }

    /// What it is made of.
    #[must_use]
    pub const fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// By what pools tell endpoints apart.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.settings.fingerprint
    }

    /// A new connection, ready for a request.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be reached, is not who it should be, or takes too long.
    pub async fn connect(&self) -> Result<Transport, ConnectError> {
        let limit = self.settings.connect_timeout;
        tokio::time::timeout(limit, self.open())
            .await
            .unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    async fn open(&self) -> Result<Transport, ConnectError> {
        if let Some(path) = &self.settings.socket {
            return open_socket(path).await;
        }
        let tcp = match &self.settings.egress_proxy {
            Some(proxy) => self.open_through(proxy).await?,
            None => self.dial().await.map_err(ConnectError::Unreachable)?,
        };
        let (Some(config), Some(name)) = (&self.settings.tls, &self.name) else {
            // Resolved now, so checked now: a name that the file calls harmless may point anywhere.
            let here = self.settings.egress_proxy.is_none()
                && tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            if !here && !self.settings.allow_plaintext {
                return Err(ConnectError::Plaintext);
            }
            return Ok(Transport::Tcp(tcp));
        };
        let tls = TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| TlsFault::new(&self.settings.host, error))?;
        let version = tls.get_ref().1.protocol_version();
        tracing::trace!(version = version.map(tracing::field::debug), "TLS agreed");
        Ok(Transport::Tls(Box::new(tls)))
    }

    async fn open_through(&self, proxy: &EgressProxy) -> Result<TcpStream, TunnelError> {
        let tcp = self.dial().await.map_err(TunnelError::Unreachable)?;
        let tunnel = tunnel::open(proxy, tcp, &self.target).await?;
        tracing::trace!(host = %self.target, "tunnel opened");
        Ok(tunnel)
    }

    async fn dial(&self) -> Result<TcpStream, Arc<dyn Error + Send + Sync>> {
        let mut connector = HttpConnector::new_with_resolver(Resolver::new());
        connector.set_nodelay(true);
        match connector.call(self.dial.clone()).await {
            Ok(tcp) => {
                let tcp = tcp.into_inner();
                tracing::trace!(
                    peer = tcp.peer_addr().ok().map(tracing::field::display),
                    "connected"
                );
                Ok(tcp)
            }
            Err(error) => Err(Arc::new(error)),
        }
    }
}

async fn open_socket(path: &Path) -> Result<Transport, ConnectError> {
    match UnixStream::connect(path).await {
        Ok(unix) => Ok(Transport::Unix(unix)),
        Err(error) => Err(ConnectError::Unreachable(Arc::new(error))),
    }
}

fn authority(host: &str, port: u16) -> Result<Authority, BadHost> {
    let text = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Authority::try_from(text).map_err(|_| BadHost(host.to_owned()))
}

/// A host that is neither a name nor an address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a host name")]
pub struct BadHost(String);

/// Why there is no connection. Nothing of a request has been sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve, or nobody answers there.
    #[error("cannot connect")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// There is no way through the egress proxy.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The other side is not who it should be, or does not speak TLS as we do.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// No connection within the limit.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The connection would carry a token in plaintext over a network.
    #[error("plaintext to another machine is not allowed")]
    Plaintext,
}

impl ConnectError {
    /// The error and its causes in one line. Names hosts and certificates, never a request.
    #[must_use]
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

/// An open connection, with or without TLS.
#[derive(Debug)]
pub enum Transport {
    /// Plaintext.
    Tcp(TcpStream),
    /// Plaintext that does not leave this machine.
    Unix(UnixStream),
    /// TLS. The end of the stream without `close_notify` is an error, so a truncated answer is never taken for a whole one.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        }
    }
}
