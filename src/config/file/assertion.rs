//! `assertion = { key, alg, .. }` or `{ file }`: a JWT by which a client proves who it is, or is granted a token.

use std::time::Duration;

use super::jwt::{JwtFile, Signer, jwt};
use super::reader::{Table, Value};
use super::secret::secret;
use super::value::string;
use crate::config::report::{Diagnostic, Report};
use crate::provider::secret::SecretRef;

/// Where an assertion comes from.
#[derive(Clone, Debug)]
pub enum AssertionFile {
    /// Somebody else puts it there.
    Kept(SecretRef),
    /// It is signed here.
    Signed {
        /// What is signed.
        jwt: Box<JwtFile>,
        /// For whom, if not for the token endpoint.
        audience: Option<String>,
    },
}

/// An assertion that a private key signs, or that somebody else has signed.
pub(super) fn assertion(value: &Value<'_>, report: &mut Report) -> Option<AssertionFile> {
    let table = Table::of(value, report)?;
    if table.has("file") || table.has("env") {
        return kept(table, value, report);
    }
    signed(table, Signer::Private, report)
}

/// An assertion that the client's secret signs. The table may be left out.
pub(super) fn shared(
    value: Option<&Value<'_>>,
    secret: SecretRef,
    report: &mut Report,
) -> Option<AssertionFile> {
    let mut table = match value {
        Some(value) => Table::of(value, report)?,
        None => Table::default(),
    };
    for key in ["file", "env"] {
        table.refuse(key, report, |span| {
            Diagnostic::error("`client_secret_jwt` signs with the client's secret", span)
                .hint("leave it out, or write `client_auth = \"private_key_jwt\"`: that takes an assertion that is there already")
        });
    }
    signed(table, Signer::Shared(secret), report)
}

fn signed(mut table: Table<'_>, signer: Signer, report: &mut Report) -> Option<AssertionFile> {
    let lifetime = Duration::from_secs(60);
    let jwt = jwt(&mut table, signer, lifetime, report);
    let audience = table.read("audience", report, |value, report| {
        string(value, "a string", report).map(str::to_owned)
    });
    table.finish(report);
    Some(AssertionFile::Signed {
        jwt: Box::new(jwt?),
        audience: audience.map(|it| it.value),
    })
}

// What somebody else has signed has all of its claims.
fn kept(mut table: Table<'_>, value: &Value<'_>, report: &mut Report) -> Option<AssertionFile> {
    let before = report.count();
    for key in [
        "key", "alg", "kid", "x5t", "x5t#S256", "x5c", "header", "claims", "audience", "lifetime",
    ] {
        table.refuse(key, report, |span| {
            Diagnostic::error("an assertion that is read is signed already", span)
                .hint("keep this and `key`, or only the place of the assertion")
        });
    }
    (report.count() == before).then_some(())?;
    secret(value, report).map(AssertionFile::Kept)
}
