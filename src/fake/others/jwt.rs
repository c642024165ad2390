//! Assertions, judged: JWTs that the client signed with its own key (RFC 7523).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use serde_json::Value;

use super::FakeError;
use crate::fake::clock;

/// The grant type of RFC 7523 §2.1.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How far the client's clock may go ahead.
const SKEW: u64 = 30;

/// A client's RSA key, as files would hold it, and what a system is told of it.
#[derive(Clone)]
pub struct ClientKey {
    /// The private key, as PKCS #8 in PEM.
    pub key_pem: String,
    /// The public key, in PEM.
    pub public_key_pem: String,
    /// A certificate for it that only it has signed, in PEM.
    pub certificate_pem: String,
}

impl ClientKey {
    /// A new key of 2048 bits.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn rsa() -> Result<Self, FakeError> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let certificate = CertificateParams::new(["made-up client".to_owned()])?;
        Ok(Self {
            key_pem: key.serialize_pem(),
            public_key_pem: key.public_key_pem(),
            certificate_pem: certificate.self_signed(&key)?.pem(),
        })
    }
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").finish_non_exhaustive()
    }
}

/// A client's public key.
#[derive(Debug)]
pub(super) struct Verifier {
    public_key: SubjectPublicKeyInfoDer<'static>,
    /// `x5t#S256` of RFC 7515 §4.1.8, if there is a certificate.
    pub(super) thumbprint: Option<String>,
}

/// An assertion whose signature is right.
#[derive(Debug)]
pub(super) struct Assertion {
    pub(super) header: Value,
    pub(super) claims: Value,
}

impl Verifier {
    /// From a certificate or a public key, in PEM.
    pub(super) fn read(pem: &str) -> Result<Self, FakeError> {
        let unreadable = || FakeError::ClientKey;
        if let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) {
            let parsed = ParsedCertificate::try_from(&certificate)?;
            let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate));
            return Ok(Self {
                public_key: parsed.subject_public_key_info().into_owned(),
                thumbprint: Some(thumbprint),
            });
        }
        let public_key =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        Ok(Self {
            public_key,
            thumbprint: None,
        })
    }

    pub(super) fn verify(&self, algorithm: &str, text: &str) -> Option<Assertion> {
        let parameters: &'static RsaParameters = match algorithm {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            _ => return None,
        };
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let assertion = Assertion {
            header: decode(header)?,
            claims: decode(claims)?,
        };
        if assertion.header.get("alg")?.as_str()? != algorithm {
            return None;
        }
        UnparsedPublicKey::new(parameters, self.public_key.as_ref())
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
            .ok()?;
        Some(assertion)
    }
}

impl Assertion {
    /// A claim that is a text; anything else is an empty one.
    pub(super) fn text(&self, name: &str) -> &str {
        super::text(&self.claims, name)
    }

    /// Whether it is made, not over, and over within `longest` seconds.
    pub(super) fn is_current(&self, longest: u64) -> bool {
        let now = clock::unix_now();
        let second = |name: &str| self.claims.get(name).and_then(Value::as_u64);
        second("exp").is_some_and(|exp| exp > now && exp <= now + longest + SKEW)
            && second("iat").is_none_or(|iat| iat <= now + SKEW)
            && second("nbf").is_none_or(|nbf| nbf <= now + SKEW)
    }
}
