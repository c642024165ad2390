//! Signatures of JSON Web Tokens (RFC 7515, RFC 7518 §3): the algorithms, and the keys that they take.

use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::secret::Secret;

/// A signature algorithm, by its name in the registry of JOSE (RFC 7518 §3.1, RFC 8037 §3.1). `none` is none of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// HMAC with a shared secret.
    Hs256,
    /// The same with SHA-384.
    Hs384,
    /// The same with SHA-512.
    Hs512,
    /// RSA, PKCS #1 v1.5.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSA, PSS.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 12] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
    ];

    /// As `alg` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, it)| *it == self);
        named.map_or("", |(name, _)| name)
    }

    /// Whether both sides have the same secret.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// A key that signs, and the certificates beside it in the same PEM.
pub(super) struct SigningKey {
    signer: Signer,
    certificates: Vec<CertificateDer<'static>>,
}

enum Signer {
    Hmac(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// The key in a secret: PEM (PKCS #8, PKCS #1 or SEC 1), or the bytes themselves where both sides share them.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to follow its place. Never a part of it.
    pub(super) fn read(secret: &Secret, algorithm: Algorithm) -> Result<Self, String> {
        let pem = secret.reveal().as_bytes();
        let shared = |algorithm| Signer::Hmac(Box::new(hmac::Key::new(algorithm, pem)));
        let signer = match algorithm {
            Algorithm::Hs256 => shared(hmac::HMAC_SHA256),
            Algorithm::Hs384 => shared(hmac::HMAC_SHA384),
            Algorithm::Hs512 => shared(hmac::HMAC_SHA512),
            Algorithm::Rs256 => rsa(pem, &signature::RSA_PKCS1_SHA256, algorithm)?,
            Algorithm::Rs384 => rsa(pem, &signature::RSA_PKCS1_SHA384, algorithm)?,
            Algorithm::Rs512 => rsa(pem, &signature::RSA_PKCS1_SHA512, algorithm)?,
            Algorithm::Ps256 => rsa(pem, &signature::RSA_PSS_SHA256, algorithm)?,
            Algorithm::Ps384 => rsa(pem, &signature::RSA_PSS_SHA384, algorithm)?,
            Algorithm::Ps512 => rsa(pem, &signature::RSA_PSS_SHA512, algorithm)?,
            Algorithm::Es256 => ecdsa(pem, &signature::ECDSA_P256_SHA256_FIXED_SIGNING, algorithm)?,
            Algorithm::Es384 => ecdsa(pem, &signature::ECDSA_P384_SHA384_FIXED_SIGNING, algorithm)?,
            Algorithm::EdDsa => ed25519(pem, algorithm)?,
        };
        let certificates = if algorithm.is_shared() {
            Vec::new()
        } else {
            CertificateDer::pem_slice_iter(pem)
                .filter_map(Result::ok)
                .collect()
        };
        Ok(Self {
            signer,
            certificates,
        })
    }

    /// The signature of `message`, as JWS wants it.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "could not sign".to_owned();
        match &self.signer {
            Signer::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(key, encoding) => {
                let mut signed = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signed)
                    .map_err(failed)?;
                Ok(signed)
            }
            Signer::Ecdsa(key) => {
                let signed = key.sign(&random, message).map_err(failed)?;
                Ok(signed.as_ref().to_vec())
            }
            Signer::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }

    /// The certificates beside the key; the first is the key's own.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn certificates(&self) -> Result<&[CertificateDer<'static>], String> {
        if self.certificates.is_empty() {
            return Err("holds no certificate beside the key".to_owned());
        }
        Ok(&self.certificates)
    }

    /// `SHA256:` and the Base64 of the digest of the public key (SubjectPublicKeyInfo), as Snowflake writes it.
    pub(super) fn fingerprint(&self) -> Result<String, String> {
        let failed = |_| "holds a key whose public part cannot be written".to_owned();
        let public = match &self.signer {
            Signer::Hmac(_) => {
                return Err("holds a shared secret, which has no public key".to_owned());
            }
            Signer::Rsa(key, _) => key.public_key().as_der().map_err(failed)?,
            Signer::Ecdsa(key) => key.public_key().as_der().map_err(failed)?,
            Signer::Ed25519(key) => key.public_key().as_der().map_err(failed)?,
        };
        let digest = digest(&digest::SHA256, public.as_ref());
        Ok(format!("SHA256:{}", STANDARD.encode(digest)))
    }
}

fn rsa(
    pem: &[u8],
    encoding: &'static dyn RsaEncoding,
    algorithm: Algorithm,
) -> Result<Signer, String> {
    let key = match &*private_key(pem)? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    };
    let key = key.ok_or_else(|| unfit(algorithm, "an RSA key of 2048 bits or more"))?;
    Ok(Signer::Rsa(Box::new(key), encoding))
}

fn ecdsa(
    pem: &[u8],
    curve: &'static signature::EcdsaSigningAlgorithm,
    algorithm: Algorithm,
) -> Result<Signer, String> {
    let key = match &*private_key(pem)? {
        PrivateKeyDer::Pkcs8(der) => EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()).ok()
        }
        _ => None,
    };
    let wanted = match algorithm {
        Algorithm::Es384 => "a key on P-384",
        _ => "a key on P-256",
    };
    let key = key.ok_or_else(|| unfit(algorithm, wanted))?;
    Ok(Signer::Ecdsa(Box::new(key)))
}

fn ed25519(pem: &[u8], algorithm: Algorithm) -> Result<Signer, String> {
    let key = match &*private_key(pem)? {
        // With or without its public half: OpenSSL writes it without.
        PrivateKeyDer::Pkcs8(der) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()
        }
        _ => None,
    };
    let key = key.ok_or_else(|| unfit(algorithm, "an Ed25519 key in PKCS #8"))?;
    Ok(Signer::Ed25519(Box::new(key)))
}

fn private_key(pem: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map(Zeroizing::new)
        .map_err(|_| {
            let is_encrypted = pem.windows(9).any(|word| word == b"ENCRYPTED");
            if is_encrypted {
                "is encrypted, and nobody is here to type a passphrase".to_owned()
            } else {
                "holds no private key in PEM".to_owned()
            }
        })
}

fn unfit(algorithm: Algorithm, wanted: &str) -> String {
    format!(
        "holds no key for {}, which takes {wanted}",
        algorithm.name()
    )
}
