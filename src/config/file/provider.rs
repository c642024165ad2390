//! `[provider.NAME]`: where a token comes from.

use std::time::Duration;

use http::Uri;

use super::TlsFile;
use crate::config::span::Spanned;
use crate::provider::secret::SecretRef;
use crate::provider::template::Template;

/// One provider.
#[derive(Clone, Debug)]
pub struct ProviderFile {
    /// The name, and its place in the head of the table.
    pub name: Spanned<String>,
    /// Fetched at start, and readiness waits for it.
    pub warm: bool,
    /// What `type` says, and what belongs to it.
    pub source: SourceFile,
}

/// What a provider does for a token.
#[derive(Clone, Debug)]
pub enum SourceFile {
    /// `type = "oauth2"`
    OAuth2(Box<OAuth2File>),
    /// `type = "static"`
    Static(StaticFile),
}

/// `type = "oauth2"`, `grant_type = "client_credentials"`: RFC 6749 §4.4.
#[derive(Clone, Debug)]
pub struct OAuth2File {
    /// Where tokens are asked for.
    pub token_endpoint: Spanned<Uri>,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// Who the client is.
    pub client_id: Spanned<ClientId>,
    /// Scope tokens, each once; a route may replace them.
    pub scope: Vec<Spanned<String>>,
    /// Further parameters of the token request. Only [`Reference::Input`](crate::provider::template::Reference::Input) in them.
    pub params: Vec<(Spanned<String>, Spanned<Template>)>,
    /// What a route has to supply; a token per distinct value.
    pub inputs: Vec<Spanned<String>>,
    /// A token is not used for longer than this, whatever the answer says.
    pub max_lifetime: Option<Duration>,
    /// The life of a token whose answer does not say.
    pub after: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long a request waits for a token.
    pub token_wait: Duration,
    /// Tokens kept, at most.
    pub max_entries: usize,
    /// How to connect to the token endpoint.
    pub tls: Option<TlsFile>,
    /// The token endpoint may be `http://`.
    pub allow_plaintext: bool,
}

/// A method of the OAuth client authentication method registry, with what it needs.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// `client_secret_basic`
    Basic(Spanned<SecretRef>),
    /// `client_secret_post`
    Post(Spanned<SecretRef>),
    /// `none`: a public client.
    None,
}

/// A client identifier. Not a secret (RFC 6749 §2.2), but it may be kept where the secret is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientId {
    /// Written in the file.
    Literal(String),
    /// Read like a secret.
    Reference(SecretRef),
}

/// `type = "static"`: a long-lived key.
#[derive(Clone, Debug)]
pub struct StaticFile {
    /// Where the key is.
    pub secret: Spanned<SecretRef>,
}
