//! The client's side of an assertion.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::ClientKey;
use super::jwt::Verifier;

/// `x5t#S256` of the key's certificate.
pub(super) fn thumbprint(key: &ClientKey) -> Option<String> {
    Verifier::read(&key.certificate_pem).unwrap().thumbprint
}

/// A JWT, signed as its header says.
pub(super) fn sign(key: &ClientKey, header: &Value, claims: &Value) -> String {
    let pair = PrivatePkcs8KeyDer::from_pem_slice(key.key_pem.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(pair.secret_pkcs8_der()).unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let encoding: &'static dyn RsaEncoding = if header["alg"] == "PS256" {
        &RSA_PSS_SHA256
    } else {
        &RSA_PKCS1_SHA256
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        encoding,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
