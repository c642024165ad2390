//! JSON Web Tokens that are signed here (RFC 7519): a token, or the parent of one, without anybody being asked.

pub mod claims;

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::extract;
use super::json::{self, Json};
use super::secret::{Secret, SecretError, SecretRef, Secrets};
use super::signing::{Algorithm, SigningKey};
use super::template::Template;
use super::{Call, FetchError, Grant, Lifetime, Subject};

/// `type = "jwt"`
#[derive(Debug)]
pub struct JwtSource {
    /// What is signed.
    pub jwt: Jwt,
    /// How its key is read.
    pub secrets: Secrets,
}

impl JwtSource {
    /// Signs a token.
    ///
    /// # Errors
    ///
    /// When the key cannot be read or cannot sign.
    pub(super) fn fetch(&self, call: &Call<'_>) -> Result<Grant, FetchError> {
        let now = SystemTime::now();
        let token = self.jwt.sign(&[], call.subject, &self.secrets, now)?;
        extract::check_token(token.reveal())?;
        let lifetime = self.jwt.lifetime.saturating_sub(BACK_DATED);
        Ok(Grant::new(token, Lifetime::For(lifetime)))
    }
}

/// A JWT to be: signed anew every time, with the key as it is then. `T` is what text in it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Jwt<T = Template<ClaimPart>> {
    /// Where the key is: PEM, or the secret that both sides share.
    pub key: SecretRef,
    /// `alg`
    pub algorithm: Algorithm,
    /// What the header says about the key.
    pub hints: KeyHints,
    /// Further fields of the header.
    pub header: Claims<T>,
    /// Claims besides `iat`, `nbf`, `exp` and `jti`.
    pub claims: Claims<T>,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
}

/// Claims, or fields of a header, by name.
pub type Claims<T> = Vec<(String, Json<T>)>;

/// What a placeholder in a claim stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClaimPart {
    /// The subject's input of this index.
    Input(usize),
    /// `{key.sha256}`: the fingerprint of the signing key's public half.
    Fingerprint,
}

/// Fields of the header by which the other side finds the key (RFC 7515 §4.1).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct KeyHints {
    /// `kid`
    pub kid: Option<Kid>,
    /// `x5t`: SHA-1 of the certificate.
    pub x5t: bool,
    /// `x5t#S256`: SHA-256 of the certificate.
    pub x5t_s256: bool,
    /// `x5c`: the certificates.
    pub x5c: bool,
}

/// What `kid` says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Kid {
    /// SHA-1 of the certificate beside the key, in upper-case hexadecimal.
    Certificate,
    /// This.
    Literal(String),
}

impl KeyHints {
    /// Whether one of them is made from a certificate.
    #[must_use]
    pub fn need_certificate(&self) -> bool {
        self.kid == Some(Kid::Certificate) || self.x5t || self.x5t_s256 || self.x5c
    }

    fn fields(&self, key: &SigningKey) -> Result<Map<String, Value>, String> {
        let mut fields = Map::new();
        if let Some(Kid::Literal(kid)) = &self.kid {
            fields.insert("kid".to_owned(), json!(kid));
        }
        if !self.need_certificate() {
            return Ok(fields);
        }
        let certificates = key.certificates()?;
        let own = certificates.first().map_or(&[][..], |own| own.as_ref());
        let sha1 = digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, own);
        if self.kid == Some(Kid::Certificate) {
            fields.insert("kid".to_owned(), json!(upper_hex(sha1.as_ref())));
        }
        if self.x5t {
            fields.insert("x5t".to_owned(), json!(URL_SAFE_NO_PAD.encode(sha1)));
        }
        if self.x5t_s256 {
            let sha256 = digest(&digest::SHA256, own);
            fields.insert("x5t#S256".to_owned(), json!(URL_SAFE_NO_PAD.encode(sha256)));
        }
        if self.x5c {
            // Not base64url (RFC 7515 §4.1.6).
            let chain: Vec<_> = certificates.iter().map(|it| STANDARD.encode(it)).collect();
            fields.insert("x5c".to_owned(), json!(chain));
        }
        Ok(fields)
    }
}

impl<T> Jwt<T> {
    /// The same with all text replaced.
    #[must_use]
    pub fn map<U>(&self, replace: &mut impl FnMut(&T) -> U) -> Jwt<U> {
        let mut all = |claims: &Claims<T>| {
            let claims = claims.iter();
            claims
                .map(|(name, claim)| (name.clone(), claim.map(replace)))
                .collect()
        };
        Jwt {
            key: self.key.clone(),
            algorithm: self.algorithm,
            hints: self.hints.clone(),
            header: all(&self.header),
            claims: all(&self.claims),
            lifetime: self.lifetime,
        }
    }

    /// All text in its header and its claims.
    pub fn texts(&self) -> impl Iterator<Item = &T> {
        let claims = self.header.iter().chain(&self.claims);
        claims.flat_map(|(_, claim)| claim.texts())
    }

    /// Whether there is a claim of this name.
    #[must_use]
    pub fn has_claim(&self, name: &str) -> bool {
        self.claims.iter().any(|(known, _)| known == name)
    }
}

impl Jwt {
    /// Signs it, with a `jti` of its own. `implied` are claims that those of the configuration may replace.
    ///
    /// # Errors
    ///
    /// When the key cannot be read or cannot sign.
    pub(super) fn sign(
        &self,
        implied: &[(&str, &str)],
        subject: &Subject,
        secrets: &Secrets,
        now: SystemTime,
    ) -> Result<Secret, FetchError> {
        let wrong = |reason| {
            FetchError::Secret(SecretError {
                reference: self.key.clone(),
                reason,
            })
        };
        let key = SigningKey::read(&secrets.read(&self.key)?, self.algorithm).map_err(wrong)?;
        let value = |part| match part {
            ClaimPart::Input(index) => Ok(Cow::Borrowed(subject.input(index))),
            ClaimPart::Fingerprint => key.fingerprint().map(Cow::Owned).map_err(wrong),
        };
        let input = |part| match part {
            ClaimPart::Input(index) => subject.inputs().nth(index),
            ClaimPart::Fingerprint => None,
        };
        let fill = |into: &mut Map<String, Value>, claims: &Claims<_>| {
            claims.iter().try_for_each(|(name, claim)| {
                let claim = claim
                    .fill(&|text| json::placed(text, |part| value(*part), |part| input(*part)))?;
                into.insert(name.clone(), claim);
                Ok::<_, FetchError>(())
            })
        };

        let mut header = self.hints.fields(&key).map_err(wrong)?;
        header.insert("typ".to_owned(), json!("JWT"));
        fill(&mut header, &self.header)?;
        header.insert("alg".to_owned(), json!(self.algorithm.name()));

        let issued = unix_seconds(now).saturating_sub(BACK_DATED.as_secs());
        let mut claims = Map::new();
        for (name, value) in implied {
            claims.insert((*name).to_owned(), json!(value));
        }
        fill(&mut claims, &self.claims)?;
        claims.insert("iat".to_owned(), json!(issued));
        claims.insert("nbf".to_owned(), json!(issued));
        claims.insert("exp".to_owned(), json!(issued + self.lifetime.as_secs()));
        claims.insert("jti".to_owned(), json!(unique().map_err(wrong)?));

        let part = |part| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string());
        let mut text = format!("{}.{}", part(header), part(claims));
        let signature = key.sign(text.as_bytes()).map_err(wrong)?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(Secret::new(text))
    }
}

/// `iat` and `nbf` lie this far back, because the other side's clock may; `exp` is counted from them, because the other
/// side's limit is.
pub const BACK_DATED: Duration = Duration::from_secs(10);

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// 128 random bits: never seen before.
fn unique() -> Result<String, String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "could not be used: no randomness".to_owned())?;
    Ok(upper_hex(&bytes).to_ascii_lowercase())
}

fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests;
