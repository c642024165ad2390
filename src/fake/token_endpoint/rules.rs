//! What a token endpoint insists on, and what its tokens look like.

use std::iter::repeat_with;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The habits of one token endpoint, and its one client.
#[derive(Clone)]
pub struct Rules {
    /// The client's id.
    pub client_id: String,
    /// The client's secret; with [`ClientAuth::PrivateKeyJwt`], its public key in PEM; of no importance with
    /// [`ClientAuth::None`].
    pub client_secret: String,
    /// The one way in which the client may present itself.
    pub client_auth: ClientAuth,
    /// The `audience` that a request must name, exactly.
    pub audience: Option<String>,
    /// The scopes that the client may have.
    pub scopes: Vec<String>,
    /// What a request without `scope` gets; without this, such a request is refused.
    pub default_scope: Option<String>,
    /// How long a token lives.
    pub lifetime: Duration,
    /// The parameter with which a request may choose another lifetime.
    pub lifetime_parameter: Option<LifetimeParameter>,
    /// What a token looks like.
    pub token_style: TokenStyle,
    /// How a refusal is worded.
    pub dialect: Dialect,
}

/// How a client presents itself, by the names of the OAuth registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`: in `Authorization`, form-encoded and then base64 (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// `client_secret_post`: in the body.
    ClientSecretPost,
    /// `client_secret_jwt`: by an assertion that the secret has signed, never the same one twice.
    ClientSecretJwt,
    /// `private_key_jwt`: by an assertion that the client's key has signed, never the same one twice.
    PrivateKeyJwt,
    /// `none`: a public client that only says who it is.
    None,
}

/// A parameter that chooses the lifetime.
#[derive(Debug, Clone)]
pub struct LifetimeParameter {
    /// Its name.
    pub name: &'static str,
    /// What it may be, in seconds.
    pub seconds: RangeInclusive<u64>,
}

/// What a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStyle {
    /// 43 characters of base64url, as Stitch's.
    Reference,
    /// This prefix and 30 letters and digits, as Forage's.
    Prefixed(&'static str),
}

/// How a refusal is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As RFC 6749 §5.2 has it.
    Rfc6749,
    /// As Stitch documents it: always 400, one member, and `invalid_grant` where something is
    /// missing.
    Stitch,
}

impl Rules {
    /// An endpoint by the book: `client_secret_basic`, the scopes `read` (the default) and `write`,
    /// an hour of life.
    #[must_use]
    pub fn by_the_book(client_id: &str, client_secret: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            client_auth: ClientAuth::ClientSecretBasic,
            audience: None,
            scopes: vec!["read".to_owned(), "write".to_owned()],
            default_scope: Some("read".to_owned()),
            lifetime: Duration::from_secs(3600),
            lifetime_parameter: None,
            token_style: TokenStyle::Reference,
            dialect: Dialect::Rfc6749,
        }
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

impl TokenStyle {
    /// A token that was never seen before. It only has to look unguessable: it opens nothing but
    /// the fake that made it.
    pub(super) fn token(self) -> String {
        match self {
            Self::Reference => repeat_with(url_safe).take(43).collect(),
            Self::Prefixed(prefix) => prefix
                .chars()
                .chain(repeat_with(fastrand::alphanumeric).take(30))
                .collect(),
        }
    }
}

fn url_safe() -> char {
    match fastrand::u8(0..64) {
        0 => '-',
        1 => '_',
        _ => fastrand::alphanumeric(),
    }
}
