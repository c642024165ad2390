//! Accepts connections and speaks TLS on them, with a certificate that may be replaced while it runs.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::listen::Listener;
use super::tls::{TlsError, certificates, expiration, private_key};

/// A bound address, where TLS 1.2 and 1.3 are spoken.
#[derive(Debug)]
pub struct TlsListener {
    tcp: Listener,
    identity: Arc<Identity>,
    config: Arc<ServerConfig>,
}

/// Why there is no such listener.
#[derive(Debug, thiserror::Error)]
pub enum TlsListenError {
    /// The certificate or its key.
    #[error(transparent)]
    Identity(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl TlsListener {
    /// Binds `address` on the current runtime (`[::]` takes IPv4 as well), as who the PEM files `chain` and `key` say.
    ///
    /// # Errors
    ///
    /// When the address is taken, or the files cannot be used.
    pub fn bind(address: SocketAddr, chain: &Path, key: &Path) -> Result<Self, TlsListenError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let identity = Arc::new(Identity::read(chain, key, Arc::clone(&provider))?);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Identity>::clone(&identity);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Configuration)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = Listener::bind_all(address)
            .map_err(|source| TlsListenError::Address { address, source })?;
        Ok(Self {
            tcp,
            identity,
            config: Arc::new(config),
        })
    }

    /// Where it listens; the real port where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.tcp.address()
    }

    /// The next connection. Its handshake is made by whoever awaits what this gives: `None` if it fails.
    pub async fn accept(
        &self,
    ) -> impl Future<Output = Option<TlsStream<TcpStream>>> + Send + use<> {
        let tcp = self.tcp.accept().await;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        async move {
            let tcp = TcpStream::from_std(tcp).ok()?;
            timeout(HANDSHAKE_TIME, acceptor.accept(tcp))
                .await
                .ok()?
                .ok()
        }
    }

    /// Until when the certificate in use is good, since the epoch.
    #[must_use]
    pub fn expiration(&self) -> Option<Duration> {
        let certified = self.identity.current.load();
        certified.end_entity_cert().ok().and_then(expiration)
    }

    /// Reads the certificate again whenever its files change, for ever, and tells `reloaded` whether it could. A bad pair is
    /// logged, and the one before stays in use.
    pub async fn follow(&self, reloaded: impl Fn(bool)) {
        loop {
            sleep(POLL_INTERVAL).await;
            if let Some(is_loaded) = self.identity.look() {
                reloaded(is_loaded);
            }
        }
    }
}

/// Who the listener is.
#[derive(Debug)]
struct Identity {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    /// As it was read last, good or bad.
    content: ArcSwap<Content>,
    current: ArcSwap<CertifiedKey>,
}

/// The two files.
type Content = [Option<zeroize::Zeroizing<Vec<u8>>>; 2];

impl Identity {
    fn read(chain: &Path, key: &Path, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let content = content(chain, key);
        let current = certified(chain, key, &provider)?;
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            provider,
            content: ArcSwap::from_pointee(content),
            current: ArcSwap::from_pointee(current),
        })
    }

    /// Whether what is new could be loaded, if anything is.
    fn look(&self) -> Option<bool> {
        let content = content(&self.chain, &self.key);
        if **self.content.load() == content {
            return None;
        }
        self.content.store(Arc::new(content));
        match certified(&self.chain, &self.key, &self.provider) {
            Ok(certified) => {
                self.current.store(Arc::new(certified));
                tracing::info!(certificate = %self.chain.display(), "certificate loaded");
                Some(true)
            }
            Err(error) => {
                tracing::error!(%error, "the certificate is not loaded, the one before stays in use");
                Some(false)
            }
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn content(chain: &Path, key: &Path) -> Content {
    [chain, key].map(|path| std::fs::read(path).ok().map(zeroize::Zeroizing::new))
}

// Refuses a key that is not the certificate's, as there is between the two halves of a rotation.
fn certified(
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(certificates(chain)?, private_key(key)?, provider)
        .map_err(TlsError::Configuration)
}

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Looked at, and not watched: a Secret arrives within a minute, and two small files cost nothing.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
