//! Grant types (RFC 6749 §4, RFC 7523 §2.1, RFC 8693): what a client asks a token for.

use std::sync::Arc;
use std::time::SystemTime;

use super::assertion::Assertion;
use super::client_auth::{ClientId, Form};
use super::rotation::Rotation;
use super::secret::{Secret, SecretRef, Secrets};
use super::{FetchError, Subject};

/// `grant_type`, with what belongs to it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum GrantType {
    /// `client_credentials` (RFC 6749 §4.4).
    #[default]
    ClientCredentials,
    /// `password` (§4.3).
    Password {
        /// Written or kept, as a client id is.
        username: ClientId,
        /// The password.
        password: SecretRef,
    },
    /// `refresh_token` (§6).
    RefreshToken(Arc<Rotation>),
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523 §2.1).
    JwtBearer(Assertion),
    /// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693 §2.1).
    TokenExchange(Box<TokenExchange>),
}

/// What a token is exchanged for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TokenExchange {
    /// The token of the party on whose behalf the request is.
    pub subject: TypedToken,
    /// The token of the acting party.
    pub actor: Option<TypedToken>,
    /// The kind of token that is wanted.
    pub requested_token_type: Option<String>,
    /// Names of the services where the token will be used.
    pub audience: Vec<String>,
}

/// A token and its type, one of the identifiers of RFC 8693 §3.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TypedToken {
    /// Where the token is.
    pub token: SecretRef,
    /// Its type.
    pub token_type: String,
}

impl GrantType {
    /// As it is written in a token request.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password { .. } => "password",
            Self::RefreshToken(_) => "refresh_token",
            Self::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// Where what it needs is kept.
    pub(super) fn references(&self) -> Vec<&SecretRef> {
        match self {
            Self::ClientCredentials => Vec::new(),
            Self::Password { username, password } => {
                username.reference().into_iter().chain([password]).collect()
            }
            Self::RefreshToken(rotation) => vec![rotation.first()],
            Self::JwtBearer(assertion) => vec![assertion.reference()],
            Self::TokenExchange(exchange) => {
                let tokens = [&exchange.subject].into_iter().chain(&exchange.actor);
                tokens.map(|it| &it.token).collect()
            }
        }
    }

    /// Adds its parameters to a token request.
    ///
    /// # Errors
    ///
    /// When a secret cannot be read.
    pub(super) fn add_to(&self, form: &mut Form, asked: &Asked<'_>) -> Result<(), FetchError> {
        let secrets = asked.secrets;
        form.add("grant_type", self.name());
        match self {
            Self::ClientCredentials => {}
            Self::Password { username, password } => {
                form.add("username", username.read(secrets)?.reveal());
                form.add_secret("password", secrets.read(password)?);
            }
            Self::RefreshToken(_) => {
                if let Some(token) = asked.refresh_token {
                    form.add_secret("refresh_token", token.clone());
                }
            }
            Self::JwtBearer(assertion) => {
                let id = asked.client_id.map(|id| id.read(secrets)).transpose()?;
                let issuer: Vec<_> = id.iter().map(|id| ("iss", id.reveal())).collect();
                let made = assertion.make(&issuer, asked.subject, secrets, asked.now)?;
                form.add_secret("assertion", made);
            }
            Self::TokenExchange(exchange) => exchange.add_to(form, secrets)?,
        }
        Ok(())
    }
}

/// What a grant's parameters are made from, besides the configuration.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) subject: &'a Subject,
    pub(super) client_id: Option<&'a ClientId>,
    pub(super) secrets: &'a Secrets,
    /// The one whose turn it is.
    pub(super) refresh_token: Option<&'a Secret>,
    pub(super) now: SystemTime,
}

impl TokenExchange {
    fn add_to(&self, form: &mut Form, secrets: &Secrets) -> Result<(), FetchError> {
        form.add_secret("subject_token", secrets.read(&self.subject.token)?);
        form.add("subject_token_type", &self.subject.token_type);
        if let Some(actor) = &self.actor {
            form.add_secret("actor_token", secrets.read(&actor.token)?);
            form.add("actor_token_type", &actor.token_type);
        }
        if let Some(wanted) = &self.requested_token_type {
            form.add("requested_token_type", wanted);
        }
        for audience in &self.audience {
            form.add("audience", audience);
        }
        Ok(())
    }
}
