//! A certificate authority, made at start and trusted by nobody who is not told to.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

use super::FakeError;

/// A certificate authority whose key lives in this process only.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A client's certificate and its key, as files would hold them.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The private key, as PKCS #8 in PEM.
    pub key_pem: String,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    ///
    /// If the key cannot be made.
    pub fn new() -> Result<Self, FakeError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("pillion's made-up authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate_pem = issuer.pem();
        Ok(Self {
            issuer,
            certificate_pem,
        })
    }

    /// The authority's own certificate, for a `ca` file.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// TLS for a server of these names: host names, or addresses.
    ///
    /// # Errors
    ///
    /// If a name cannot be in a certificate.
    pub fn server_config(&self, names: &[&str]) -> Result<Arc<ServerConfig>, FakeError> {
        self.server_config_with(names, WebPkiClientVerifier::no_client_auth())
    }

    /// The same, but a client without a certificate of this authority is turned away in the
    /// handshake.
    ///
    /// # Errors
    ///
    /// If a name cannot be in a certificate.
    pub fn mutual_server_config(&self, names: &[&str]) -> Result<Arc<ServerConfig>, FakeError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate_der())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        self.server_config_with(names, verifier)
    }

    /// The same, but a client without exactly this certificate, in PEM and most likely signed by its own key, is turned away
    /// in the handshake (RFC 8705 §2.2).
    ///
    /// # Errors
    ///
    /// If it is no certificate, or a name cannot be in one.
    pub fn pinning_server_config(
        &self,
        names: &[&str],
        client_pem: &str,
    ) -> Result<Arc<ServerConfig>, FakeError> {
        let pinned = CertificateDer::from_pem_slice(client_pem.as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let provider = provider();
        self.server_config_with(names, Arc::new(Pinned { pinned, provider }))
    }

    /// A certificate with which a client called `name` can present itself to a
    /// [`Self::mutual_server_config`].
    ///
    /// # Errors
    ///
    /// If the name cannot be in a certificate.
    pub fn client_certificate(&self, name: &str) -> Result<Certificate, FakeError> {
        let key = KeyPair::generate()?;
        let certificate =
            leaf(&[name], ExtendedKeyUsagePurpose::ClientAuth)?.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate with which a server of these names can present itself.
    ///
    /// # Errors
    ///
    /// If a name cannot be in a certificate.
    pub fn server_certificate(&self, names: &[&str]) -> Result<Certificate, FakeError> {
        let key = KeyPair::generate()?;
        let certificate =
            leaf(names, ExtendedKeyUsagePurpose::ServerAuth)?.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    fn server_config_with(
        &self,
        names: &[&str],
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, FakeError> {
        let key = KeyPair::generate()?;
        let certificate =
            leaf(names, ExtendedKeyUsagePurpose::ServerAuth)?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?; // so that TLS 1.2 resumes as well
        Ok(Arc::new(config))
    }
}

/// Takes one client certificate and no other, whoever has signed it.
#[derive(Debug)]
struct Pinned {
    pinned: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if *end_entity == self.pinned {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Named here, because the process default belongs to whoever judges with these fakes.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn leaf(names: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, FakeError> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named(&common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use rustls::{ClientConfig, SupportedProtocolVersion, version};

    use super::super::client::{Client, roots};
    use super::super::{Server, answer};
    use super::*;

    const HOST: &str = "api.example";

    async fn server(tls: Arc<ServerConfig>) -> Server {
        Server::start(Some(tls), async |_| {
            Ok(answer::empty(StatusCode::NO_CONTENT))
        })
        .await
        .unwrap()
    }

    fn client(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider());
        builder
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots(authority))
            .with_no_client_auth()
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_trusts_its_servers() {
        let authority = Authority::new().unwrap();
        let server = server(authority.server_config(&[HOST, "127.0.0.1"]).unwrap()).await;
        for version in [&version::TLS12, &version::TLS13] {
            for name in [HOST, "127.0.0.1"] {
                let client =
                    Client::with_config(client(&authority, &[version]), name, server.address());
                assert_eq!(
                    client.send("GET", "/", &[], "").await.unwrap().status,
                    204,
                    "{name} {version:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn another_name_and_another_authority_are_not_trusted() {
        let authority = Authority::new().unwrap();
        let server = server(authority.server_config(&[HOST]).unwrap()).await;
        let other = Client::trusting(&authority, "other.example", server.address());
        other.send("GET", "/", &[], "").await.unwrap_err();
        let stranger = Client::trusting(&Authority::new().unwrap(), HOST, server.address());
        stranger.send("GET", "/", &[], "").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_server_can_insist_on_a_client_certificate() {
        let authority = Authority::new().unwrap();
        let server = server(authority.mutual_server_config(&[HOST]).unwrap()).await;
        Client::trusting(&authority, HOST, server.address())
            .send("GET", "/", &[], "")
            .await
            .unwrap_err();
        let Certificate {
            certificate_pem,
            key_pem,
        } = authority.client_certificate("pillion").unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&authority))
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        let client = Client::with_config(config, HOST, server.address());
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 204);
    }
}
