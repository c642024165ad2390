//! A JWT that is signed here: `type = "jwt"`, and what `assertion` has in common with it.

use std::time::Duration;

use super::json::json;
use super::names::names;
use super::reader::{Table, Value};
use super::secret::secret;
use super::template::Verdict;
use super::unit::some_time;
use super::value::{boolean, choice, count, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::json::Json;
use crate::provider::jwt::{BACK_DATED, Claims, Jwt, KeyHints, Kid};
use crate::provider::secret::SecretRef;
use crate::provider::signing::Algorithm;
use crate::provider::template::{Reference, Template};

/// A JWT as it is written: with templates whose inputs have no index yet.
pub type JwtFile = Jwt<Spanned<Template>>;

/// `type = "jwt"`: a token that is signed here.
#[derive(Clone, Debug)]
pub struct JwtSourceFile {
    /// What is signed.
    pub jwt: JwtFile,
    /// What a route has to supply; a token per distinct value.
    pub inputs: Vec<Spanned<String>>,
    /// Tokens kept, at most.
    pub max_entries: usize,
    /// How long an unused one is kept.
    pub max_idle: Duration,
}

/// What signs.
pub(super) enum Signer {
    /// Whatever `key` says.
    Any,
    /// A private key that `key` names.
    Private,
    /// The client's secret.
    Shared(SecretRef),
}

pub(super) fn jwt_source(mut table: Table<'_>, report: &mut Report) -> Option<JwtSourceFile> {
    let lifetime = Duration::from_mins(10);
    let jwt = jwt(&mut table, Signer::Any, lifetime, report);
    let inputs = table.read("inputs", report, |value, report| {
        Some(names(value, "an input", report))
    });
    let max_entries = table.read("max_entries", report, count);
    let max_idle = table.read("max_idle", report, some_time);
    table.refuse("scope", report, |span| {
        Diagnostic::error("nobody is asked for a scope", span)
            .hint("write it as a claim: `claims = { scope = \"...\" }`")
    });
    table.finish(report);
    Some(JwtSourceFile {
        jwt: jwt?,
        inputs: value_or(inputs, Vec::new()),
        max_entries: value_or(max_entries, 10_000),
        max_idle: value_or(max_idle, Duration::from_hours(1)),
    })
}

/// Reads what makes a JWT out of a table that may hold more.
pub(super) fn jwt(
    table: &mut Table<'_>,
    signer: Signer,
    lifetime: Duration,
    report: &mut Report,
) -> Option<JwtFile> {
    let before = report.count();
    let algorithm = algorithm(table, &signer, report);
    let key = match signer {
        Signer::Shared(secret) => {
            table.refuse("key", report, |span| {
                Diagnostic::error("`client_secret_jwt` signs with the client's secret", span)
                    .hint("leave `key` out, or write `client_auth = \"private_key_jwt\"`")
            });
            Some(secret)
        }
        Signer::Any | Signer::Private => {
            let example = "key = { file = \"/run/secrets/client.pem\" }";
            let key = table.require("key", example, report, secret);
            key.map(|key| key.value)
        }
    };
    let hints = key_hints(table, algorithm, report);
    let header = table.read("header", report, |value, report| {
        members(value, in_header, report)
    });
    let claims = table.read("claims", report, |value, report| {
        members(value, in_claims, report)
    });
    let lifetime = match table.read("lifetime", report, some_time) {
        None => lifetime,
        Some(lifetime) if lifetime.value > BACK_DATED => lifetime.value,
        Some(lifetime) => {
            report.push(
                Diagnostic::error("a lifetime of 10s or less is over before it begins", lifetime.span)
                    .hint("write a longer one, like \"60s\": it begins 10s in the past, because clocks differ"),
            );
            return None;
        }
    };
    (report.count() == before).then_some(())?;
    Some(Jwt {
        key: key?,
        algorithm: algorithm?,
        hints,
        header: value_or(header, Vec::new()),
        claims: value_or(claims, Vec::new()),
        lifetime,
    })
}

fn algorithm(table: &mut Table<'_>, signer: &Signer, report: &mut Report) -> Option<Algorithm> {
    let read = |value: &Value<'_>, report: &mut Report| {
        let algorithm = choice(value, &Algorithm::ALL, report)?;
        let mistake = match signer {
            Signer::Shared(_) if !algorithm.is_shared() => {
                "a shared secret signs with \"HS256\", \"HS384\" or \"HS512\""
            }
            Signer::Private if algorithm.is_shared() => {
                "a private key signs with \"RS256\", \"PS256\", \"ES256\", \"EdDSA\", ..."
            }
            Signer::Any | Signer::Private | Signer::Shared(_) => return Some(algorithm),
        };
        let message = format!("`{}` takes another kind of key", algorithm.name());
        report.push(Diagnostic::error(message, value.span()).hint(mistake));
        None
    };
    let algorithm = match signer {
        Signer::Shared(_) if !table.has("alg") => {
            table.know("alg");
            return Some(Algorithm::Hs256);
        }
        Signer::Shared(_) => table.read("alg", report, read),
        Signer::Any | Signer::Private => table.require("alg", "alg = \"RS256\"", report, read),
    };
    algorithm.map(|it| it.value)
}

fn key_hints(table: &mut Table<'_>, algorithm: Option<Algorithm>, report: &mut Report) -> KeyHints {
    let kid = table.read("kid", report, |value, report| {
        Some(match string(value, "\"auto\" or a key's id", report)? {
            "auto" => Kid::Certificate,
            literal => Kid::Literal(literal.to_owned()),
        })
    });
    if algorithm.is_some_and(Algorithm::is_shared) {
        let no_certificate = |span| {
            Diagnostic::error("a shared secret has no certificate", span)
                .hint("leave it out: it is made from the certificate beside a private key")
        };
        for key in ["x5t", "x5t#S256", "x5c"] {
            table.refuse(key, report, no_certificate);
        }
        let auto = kid.as_ref().filter(|kid| kid.value == Kid::Certificate);
        if let Some(auto) = auto {
            report.push(no_certificate(auto.span.clone()));
        }
        return KeyHints {
            kid: kid.map(|kid| kid.value),
            ..KeyHints::default()
        };
    }
    let mut flag = |key| value_or(table.read(key, report, boolean), false);
    KeyHints {
        kid: kid.map(|kid| kid.value),
        x5t: flag("x5t"),
        x5t_s256: flag("x5t#S256"),
        x5c: flag("x5c"),
    }
}

/// What to write instead of a field of the header that has a key of its own.
fn in_header(name: &str) -> Option<&'static str> {
    match name {
        "alg" | "kid" | "x5t" | "x5t#S256" | "x5c" => {
            Some("it has a key of its own beside `header`")
        }
        _ => None,
    }
}

/// What to write instead of a claim that is set anyway.
fn in_claims(name: &str) -> Option<&'static str> {
    match name {
        "exp" => Some("write `lifetime` beside `claims`"),
        "iat" | "nbf" | "jti" => Some("leave it out: it is set anew whenever a token is signed"),
        _ => None,
    }
}

fn members(
    value: &Value<'_>,
    reserved: fn(&str) -> Option<&'static str>,
    report: &mut Report,
) -> Option<Claims<Spanned<Template>>> {
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        if let Some(hint) = reserved(key.value) {
            let message = format!("`{}` is not set here", key.value);
            report.push(Diagnostic::error(message, key.span).hint(hint));
        } else if let Some(claim) = claim(value, report) {
            read.push((key.value.to_owned(), claim));
        }
    }
    Some(read)
}

fn claim(value: &Value<'_>, report: &mut Report) -> Option<Json<Spanned<Template>>> {
    let verdict = |reference: &Reference| match reference {
        Reference::Input(_) | Reference::KeyFingerprint => Verdict::Fine,
        _ => Verdict::Wrong("a claim is made of {input.NAME}, {key.sha256} and text"),
    };
    json(value, &verdict, report)
}
