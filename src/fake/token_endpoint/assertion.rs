//! Whether a client's assertion (RFC 7523 §3) is one that an authorization server by the book would take.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::rules::Rules;
use crate::fake::Received;

/// With what an assertion is verified.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof {
    /// The client's secret.
    Secret,
    /// The client's public key.
    PublicKey,
}

/// The `jti` of an assertion that is good in everything that can be seen without a memory.
pub(super) fn judge(
    assertion: &str,
    proof: Proof,
    rules: &Rules,
    request: &Received,
) -> Option<String> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let header = document(header)?;
    let claims = document(claims)?;
    let algorithm = header.get("alg")?.as_str()?;
    verify(algorithm, proof, rules, signed.as_bytes(), &signature)?;
    let is_client =
        |claim: &str| claims.get(claim).and_then(Value::as_str) == Some(&rules.client_id);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let at = |claim: &str| claims.get(claim).map(Value::as_u64);
    let is_good = is_client("iss")
        && is_client("sub")
        && is_for_us(claims.get("aud")?, rules, request)
        && at("exp")??.checked_sub(now)? > 0
        && at("nbf").is_none_or(|from| from.is_some_and(|from| from <= now))
        && at("iat").is_none_or(|from| from.is_some_and(|from| from <= now));
    let jti = claims.get("jti")?.as_str()?;
    is_good.then(|| jti.to_owned())
}

fn document(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// RFC 7523 §3, rule 3: the token endpoint's URL, or what the rules call the audience.
fn is_for_us(audience: &Value, rules: &Rules, request: &Received) -> bool {
    let endpoint = format!(
        "://{}{}",
        request.field("host").unwrap_or_default(),
        request.path()
    );
    let is_us = |audience: &Value| {
        let audience = audience.as_str().unwrap_or_default();
        rules.audience.as_deref() == Some(audience)
            || audience.strip_prefix("http").is_some_and(|rest| {
                rest == endpoint || rest.strip_prefix('s') == Some(endpoint.as_str())
            })
    };
    match audience {
        Value::Array(all) => all.iter().any(is_us),
        one => is_us(one),
    }
}

fn verify(
    algorithm: &str,
    proof: Proof,
    rules: &Rules,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let known = rules.client_secret.as_bytes();
    match proof {
        Proof::Secret => {
            let algorithm = match algorithm {
                "HS256" => hmac::HMAC_SHA256,
                "HS384" => hmac::HMAC_SHA384,
                "HS512" => hmac::HMAC_SHA512,
                _ => return None,
            };
            hmac::verify(&hmac::Key::new(algorithm, known), message, signature).ok()
        }
        Proof::PublicKey => {
            let algorithm: &dyn VerificationAlgorithm = match algorithm {
                "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
                "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
                "EdDSA" => &signature::ED25519,
                _ => return None,
            };
            let key = SubjectPublicKeyInfoDer::from_pem_slice(known).ok()?;
            let key = UnparsedPublicKey::new(algorithm, key.as_ref());
            key.verify(message, signature).ok()
        }
    }
}
