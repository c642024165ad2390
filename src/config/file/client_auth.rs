//! `client_auth`, and what each method needs.

use super::assertion::{AssertionFile, assertion, shared};
use super::grant::Kind;
use super::reader::{Table, Value};
use super::secret::secret;
use super::value::choice;
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::provider::secret::SecretRef;

/// A method of the OAuth client authentication method registry, with what it needs.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// `client_secret_basic`
    Basic(Spanned<SecretRef>),
    /// `client_secret_post`
    Post(Spanned<SecretRef>),
    /// `client_secret_jwt` and `private_key_jwt`
    Assertion(AssertionFile),
    /// `tls_client_auth` and `self_signed_tls_client_auth`: the certificate is in `tls`.
    Certificate,
    /// `none`: a public client, or one whom the grant names.
    None,
}

/// A method without what it needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Basic,
    Post,
    SecretJwt,
    PrivateKeyJwt,
    Certificate,
    None,
}

pub(super) fn method(value: &Value<'_>, report: &mut Report) -> Option<Method> {
    let choices = [
        ("client_secret_basic", Method::Basic),
        ("client_secret_post", Method::Post),
        ("client_secret_jwt", Method::SecretJwt),
        ("private_key_jwt", Method::PrivateKeyJwt),
        ("tls_client_auth", Method::Certificate),
        ("self_signed_tls_client_auth", Method::Certificate),
        ("none", Method::None),
    ];
    choice(value, &choices, report)
}

impl Method {
    /// The method of a provider that does not name one.
    pub(super) fn implied(grant: Kind, table: &Table<'_>) -> Self {
        if grant.identifies() && !table.has("client_secret") {
            Self::None
        } else {
            Self::Basic
        }
    }

    /// Whether a request can do without a client id.
    pub(super) fn id_is_optional(self, grant: Kind, auth: Option<&ClientAuth>) -> bool {
        match auth {
            // Its `sub` is who asks.
            Some(ClientAuth::Assertion(AssertionFile::Kept(_))) => true,
            _ => self == Self::None && grant.identifies(),
        }
    }
}

/// Where the assertion of a client is: under another name if the grant has an `assertion` of its own.
const fn assertion_key(grant: Kind) -> &'static str {
    match grant {
        Kind::JwtBearer => "client_assertion",
        _ => "assertion",
    }
}

pub(super) fn client_auth(
    method: Method,
    grant: Kind,
    table: &mut Table<'_>,
    report: &mut Report,
) -> Option<ClientAuth> {
    let key = assertion_key(grant);
    if !matches!(method, Method::SecretJwt | Method::PrivateKeyJwt) {
        table.refuse(key, report, |span| {
            Diagnostic::error(format!("nothing uses `{key}`"), span)
                .hint("leave it out, or write `client_auth = \"private_key_jwt\"`")
        });
    }
    let without_secret = match method {
        Method::Basic | Method::Post | Method::SecretJwt => None,
        Method::PrivateKeyJwt => Some((
            "a client that signs with its own key has no secret",
            "private_key_jwt",
        )),
        Method::Certificate => Some((
            "a client that shows a certificate has no secret",
            "tls_client_auth",
        )),
        Method::None => Some(("a client without authentication has no secret", "none")),
    };
    if let Some((message, name)) = without_secret {
        table.refuse("client_secret", report, |span| {
            Diagnostic::error(message, span).hint(format!(
                "leave `client_secret` out, or `client_auth = \"{name}\"`"
            ))
        });
    }
    let client_secret = |table: &mut Table<'_>, report: &mut Report| {
        let example = "client_secret = { env = \"CLIENT_SECRET\" }";
        table.require("client_secret", example, report, secret)
    };
    match method {
        Method::Basic => client_secret(table, report).map(ClientAuth::Basic),
        Method::Post => client_secret(table, report).map(ClientAuth::Post),
        Method::SecretJwt => {
            let secret = client_secret(table, report);
            let value = table.take(key);
            let assertion = shared(value, secret?.value, report)?;
            Some(ClientAuth::Assertion(assertion))
        }
        Method::PrivateKeyJwt => {
            let example = format!(
                "{key} = {{ key = {{ file = \"/run/secrets/client.pem\" }}, alg = \"RS256\" }}"
            );
            let assertion = table.require(key, &example, report, assertion)?;
            Some(ClientAuth::Assertion(assertion.value))
        }
        Method::Certificate => Some(ClientAuth::Certificate),
        Method::None => Some(ClientAuth::None),
    }
}
