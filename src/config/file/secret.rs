//! References to secrets, and paths of files. Nothing of what is written here is ever shown.

use std::path::PathBuf;

use toml::de::DeValue;

use super::reader::{Table, Value};
use super::value::hidden_string;
use crate::config::report::{Diagnostic, Report};
use crate::provider::secret::SecretRef;

/// An absolute path of the file system.
pub(super) fn file_path(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = hidden_string(value, "the path of a file", report)?;
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    report.push(
        Diagnostic::error("expected an absolute path", value.span())
            .hint("begin it with `/`: where the program is started says nothing about the file"),
    );
    None
}

/// Where a secret is kept. Nothing of it is ever shown.
pub(super) fn secret(value: &Value<'_>, report: &mut Report) -> Option<SecretRef> {
    let DeValue::Table(table) = value.get_ref() else {
        report.push(
            Diagnostic::error("a secret cannot be written here", value.span())
                .hint("write { env = \"NAME\" } or { file = \"/run/secrets/...\" }")
                .note("only a reference can be read again when the secret is rotated, and kept in a repository"),
        );
        return None;
    };
    let mut table = Table::new(table, value.span());
    let env = table.take("env");
    let file = table.take("file");
    let unknown = table.finish(report);
    match (env, file) {
        (Some(env), None) => environment_variable(env, report),
        (None, Some(file)) => file_path(file, report).map(SecretRef::File),
        (Some(_), Some(_)) => {
            report.push(
                Diagnostic::error("a secret is in one place", value.span())
                    .hint("keep `env` or `file`, not both"),
            );
            None
        }
        (None, None) => {
            if !unknown {
                report.push(
                    Diagnostic::error("expected a reference to a secret", value.span())
                        .hint("write { env = \"NAME\" } or { file = \"/run/secrets/...\" }"),
                );
            }
            None
        }
    }
}

fn environment_variable(value: &Value<'_>, report: &mut Report) -> Option<SecretRef> {
    let name = hidden_string(value, "the name of an environment variable", report)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && !digit_first && name.chars().all(plain) {
        return Some(SecretRef::Env(name.to_owned()));
    }
    report.push(
        Diagnostic::error(
            "this cannot be the name of an environment variable",
            value.span(),
        )
        .hint("write the variable's name, like { env = \"CLIENT_SECRET\" }, not what is in it"),
    );
    None
}
