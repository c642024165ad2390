//! `grant_type`, and the keys that belong to each.

use super::assertion::{AssertionFile, assertion};
use super::provider::{ClientId, client_id};
use super::reader::{Table, Value};
use super::secret::secret;
use super::value::{choice, one_or_list, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::grant_type::{TokenExchange, TypedToken};
use crate::provider::secret::SecretRef;

/// What a token is asked for.
#[derive(Clone, Debug)]
pub enum GrantFile {
    /// `client_credentials`
    ClientCredentials,
    /// `password`
    Password {
        /// Whose password it is.
        username: ClientId,
        /// Where it is.
        password: SecretRef,
    },
    /// `refresh_token`
    RefreshToken(SecretRef),
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`
    JwtBearer(AssertionFile),
    /// `urn:ietf:params:oauth:grant-type:token-exchange`
    TokenExchange(Box<TokenExchange>),
}

/// A grant type without what belongs to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    ClientCredentials,
    Password,
    RefreshToken,
    JwtBearer,
    TokenExchange,
}

pub(super) fn kind(value: &Value<'_>, report: &mut Report) -> Option<Kind> {
    let choices = [
        ("client_credentials", Kind::ClientCredentials),
        ("password", Kind::Password),
        ("refresh_token", Kind::RefreshToken),
        ("jwt-bearer", Kind::JwtBearer),
        ("token-exchange", Kind::TokenExchange),
        (
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Kind::JwtBearer,
        ),
        (
            "urn:ietf:params:oauth:grant-type:token-exchange",
            Kind::TokenExchange,
        ),
    ];
    choice(value, &choices, report)
}

impl Kind {
    /// Whether the grant itself can say who asks.
    pub(super) const fn identifies(self) -> bool {
        matches!(self, Self::JwtBearer | Self::TokenExchange)
    }

    const fn short(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
            Self::JwtBearer => "jwt-bearer",
            Self::TokenExchange => "token-exchange",
        }
    }
}

/// Keys that have a meaning with one grant only. `assertion` has one with some ways of client authentication too.
const KEYS: [(&str, Kind); 9] = [
    ("username", Kind::Password),
    ("password", Kind::Password),
    ("refresh_token", Kind::RefreshToken),
    ("subject_token", Kind::TokenExchange),
    ("subject_token_type", Kind::TokenExchange),
    ("actor_token", Kind::TokenExchange),
    ("actor_token_type", Kind::TokenExchange),
    ("requested_token_type", Kind::TokenExchange),
    ("audience", Kind::TokenExchange),
];

/// Whether the grant sets a parameter of this name.
pub(super) fn sets(kind: Kind, parameter: &str) -> bool {
    KEYS.contains(&(parameter, kind)) || (parameter == "assertion" && kind == Kind::JwtBearer)
}

pub(super) fn grant(kind: Kind, table: &mut Table<'_>, report: &mut Report) -> Option<GrantFile> {
    for (key, owner) in KEYS {
        if owner == kind {
            continue;
        }
        table.refuse(key, report, |span| {
            let (diagnostic, hint) = match key {
                "audience" => (
                    Diagnostic::error("`audience` is no key of its own with this grant type", span),
                    "write `params = { audience = \"...\" }`".to_owned(),
                ),
                _ => (
                    Diagnostic::error(format!("`{key}` has no meaning with this grant type"), span),
                    format!(
                        "leave it out, or write `grant_type = \"{}\"`",
                        owner.short()
                    ),
                ),
            };
            diagnostic.hint(hint)
        });
    }
    Some(match kind {
        Kind::ClientCredentials => GrantFile::ClientCredentials,
        Kind::Password => {
            let example = "username = { env = \"USERNAME\" }";
            let username = table.require("username", example, report, client_id);
            let example = "password = { env = \"PASSWORD\" }";
            let password = table.require("password", example, report, secret);
            GrantFile::Password {
                username: username?.value,
                password: password?.value,
            }
        }
        Kind::RefreshToken => {
            let example = "refresh_token = { file = \"/run/secrets/refresh_token\" }";
            let token = table.require("refresh_token", example, report, secret);
            GrantFile::RefreshToken(token?.value)
        }
        Kind::JwtBearer => {
            let example = "assertion = { key = { file = \"/run/secrets/key.pem\" }, alg = \"RS256\", claims = { iss = \"...\" } }";
            let read = table.require("assertion", example, report, assertion)?;
            if let AssertionFile::Signed { jwt, .. } = &read.value
                && !jwt.has_claim("iss")
                && !table.has("client_id")
            {
                report.push(
                    Diagnostic::error("nobody issues this assertion", read.span)
                        .hint("add `claims = { iss = \"...\", sub = \"...\" }`, or `client_id` beside it, which is `iss` then"),
                );
                return None;
            }
            GrantFile::JwtBearer(read.value)
        }
        Kind::TokenExchange => GrantFile::TokenExchange(Box::new(token_exchange(table, report)?)),
    })
}

fn token_exchange(table: &mut Table<'_>, report: &mut Report) -> Option<TokenExchange> {
    let example = "subject_token = { file = \"/var/run/secrets/tokens/subject\" }";
    let subject = table.require("subject_token", example, report, secret);
    let example = "subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\"";
    let subject_type = table.require("subject_token_type", example, report, identifier);
    let is_acting = table.has("actor_token") || table.has("actor_token_type");
    let actor = is_acting.then(|| {
        let example = "actor_token = { file = \"/var/run/secrets/tokens/actor\" }";
        let actor = table.require("actor_token", example, report, secret);
        let example = "actor_token_type = \"urn:ietf:params:oauth:token-type:jwt\"";
        let actor_type = table.require("actor_token_type", example, report, identifier);
        typed(actor, actor_type)
    });
    let requested = table.read("requested_token_type", report, identifier);
    let audience = table.read("audience", report, |value, report| {
        one_or_list(value, report, identifier)
    });
    if !is_acting {
        // Known, so that "did you mean" can name them.
        table.take("actor_token");
        table.take("actor_token_type");
    }
    let audience = value_or(audience, Vec::new());
    Some(TokenExchange {
        subject: typed(subject, subject_type)?,
        actor: match actor {
            Some(actor) => Some(actor?),
            None => None,
        },
        requested_token_type: requested.map(|it| it.value),
        audience: audience.into_iter().map(|it| it.value).collect(),
    })
}

fn typed(
    token: Option<Spanned<SecretRef>>,
    token_type: Option<Spanned<String>>,
) -> Option<TypedToken> {
    Some(TypedToken {
        token: token?.value,
        token_type: token_type?.value,
    })
}

fn identifier(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = string(value, "a string", report)?;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        report.push(
            Diagnostic::error("this cannot be an identifier", value.span())
                .hint("write visible characters without a space"),
        );
    }
    good.then(|| text.to_owned())
}

/// `resource`: absolute URIs without a fragment (RFC 8707 §2).
pub(super) fn resource(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    let all = one_or_list(value, report, |value, report| {
        let text = string(value, "a string", report)?;
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let good = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(in_scheme)
            && !text.contains('#')
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            report.push(
                Diagnostic::error("this cannot be a resource", value.span())
                    .hint("write an absolute URI without a fragment, like \"https://api.example.com/\" (RFC 8707 §2)"),
            );
        }
        good.then(|| text.to_owned())
    })?;
    Some(all.into_iter().map(|it| it.value).collect())
}
