//! TLS: whom pillion trusts, as whom it appears, and which protocol is spoken over it.

use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::connect::HttpVersion;
use super::socket::Socket;
use super::unreadable::why;

/// `tls = { ca, cert, key }` of a route or a provider.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TlsSettings {
    /// PEM file with the roots to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with the certificate chain and the private key to present (RFC 8705).
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsSettings {
    /// What stands in the files now, as far as they can be read: a rotated certificate makes other settings.
    #[must_use]
    pub fn content(&self) -> Vec<Option<Vec<u8>>> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let files = self.ca.iter().chain(identity);
        files.map(|path| std::fs::read(path).ok()).collect()
    }
}

/// Makes client configurations. The system's roots are read once, however many are made, and only if they are wanted:
/// that takes longer than everything else at the start.
#[derive(Debug)]
pub struct TlsClients {
    provider: Arc<CryptoProvider>,
    extra: Vec<CertificateDer<'static>>,
    system: OnceCell<Arc<RootCertStore>>,
}

impl TlsClients {
    /// Trusts the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and `extra` ones.
    ///
    /// A system without roots is no error here: the first handshake tells.
    #[must_use]
    pub fn new(extra: &[CertificateDer<'static>]) -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            extra: extra.to_vec(),
            system: OnceCell::new(),
        }
    }

    fn system(&self) -> Arc<RootCertStore> {
        let read = || {
            let mut system = RootCertStore::empty();
            system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            system.add_parsable_certificates(self.extra.iter().cloned());
            Arc::new(system)
        };
        Arc::clone(self.system.get_or_init(read))
    }

    /// A configuration for `settings`: TLS 1.2 and 1.3, HTTP/1.1 by ALPN, sessions resumed.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or holds nothing usable.
    pub fn configure(
        &self,
        settings: &TlsSettings,
        version: HttpVersion,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        SEEDED.call_once(seed_randomness);
        let roots = match &settings.ca {
            None => self.system(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(TlsError::Configuration)?;
                }
                Arc::new(roots)
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Configuration)?
            .with_root_certificates(roots);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(TlsError::Configuration)?,
        };
        config.alpn_protocols = version.offered();
        Ok(Arc::new(config))
    }
}

static SEEDED: Once = Once::new();

// aws-lc gathers entropy at its first use, for 35 to 60 ms: better now and elsewhere than in the first request, and not
// at all where nothing uses TLS.
fn seed_randomness() {
    std::thread::spawn(|| aws_lc_rs::rand::fill(&mut [0; 1]).ok());
}

/// The certificate of the listener, with HTTP/2 and HTTP/1.1 to choose from (RFC 7301).
#[derive(Debug)]
pub struct ServerTls {
    chain: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    /// Of what the files held when they were last looked at, good or bad.
    seen: AtomicU64,
}

impl ServerTls {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not belong together.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            seen: AtomicU64::new(digest(chain, key)),
            config: ArcSwap::new(server_config(chain, key)?),
            chain: chain.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Reads the files again if they have changed, and says whether they had. Connections that are open keep what they have.
    ///
    /// # Errors
    ///
    /// When what they hold now cannot be used: what was there before stays in use. Told once.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let digest = digest(&self.chain, &self.key);
        if self.seen.swap(digest, Ordering::Relaxed) == digest {
            return Ok(false);
        }
        self.config.store(server_config(&self.chain, &self.key)?);
        Ok(true)
    }

    /// Encrypts a connection of the app.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Socket> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let tls = acceptor.accept(tcp).await?;
        Ok(Socket::Tls(Box::new(tls)))
    }
}

fn server_config(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configuration)?
        .with_no_client_auth()
        .with_single_cert(certificates(chain)?, private_key(key)?)
        .map_err(TlsError::Configuration)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn digest(chain: &Path, key: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [chain, key] {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {}", why(*.kind))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        kind: io::ErrorKind,
    },
    /// The file holds no PEM of the kind that is wanted.
    #[error("{path} holds no {wanted} in PEM")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// rustls refuses the parts.
    #[error("the certificate or key cannot be used")]
    Configuration(#[source] rustls::Error),
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
///
/// When it cannot be read or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect();
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
            wanted: "certificate",
        });
    }
    Ok(certificates)
}

/// Until when a certificate is good, since the epoch (RFC 5280 §4.1.2.5); `None` if it is none.
#[must_use]
pub fn expiration(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let certificate = sequence(certificate)?;
    let fields = sequence(certificate.first()?)?;
    // Behind the serial number, the signature's algorithm and the issuer, and the version where it is told.
    let has_version = fields.first()?.first() == Some(&VERSION_TAG);
    let validity = sequence(fields.get(if has_version { 4 } else { 3 })?)?;
    let not_after = validity.get(1)?;
    let until_2049 = yasna::parse_der(not_after, |it| Ok(*it.read_utctime()?.datetime()));
    let later = || yasna::parse_der(not_after, |it| Ok(*it.read_generalized_time()?.datetime()));
    let end = until_2049.or_else(|_| later()).ok()?.unix_timestamp();
    Some(Duration::from_secs(end.try_into().unwrap_or_default()))
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Empty {
        path: path.to_owned(),
        wanted: "private key",
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable {
        path: path.to_owned(),
        kind: error.kind(),
    })
}

/// The parts of a sequence in DER, each in DER.
fn sequence(der: &[u8]) -> Option<Vec<Vec<u8>>> {
    yasna::parse_der(der, |it| it.collect_sequence_of(|part| part.read_der())).ok()
}

/// `[0]`, in which a certificate's version is.
const VERSION_TAG: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_ways_of_writing_it() {
        let key = KeyPair::generate().unwrap();
        for (year, seconds) in [(2049, 2_493_072_000), (2050, 2_524_608_000)] {
            let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_after = date_time_ymd(year, 1, 1);
            let certificate = parameters.self_signed(&key).unwrap();
            let end = Duration::from_secs(seconds);
            assert_eq!(expiration(certificate.der()), Some(end), "{year}");
            let whole = certificate.der();
            for length in 0..whole.len() {
                let cut = CertificateDer::from(&whole[..length]);
                assert_eq!(expiration(&cut), None, "{length} bytes of {year}");
            }
        }
    }
}
