//! `fields = { merchant = "/merchant_id" }`: further members of a token response, by a name of one's own.

use super::names::is_name;
use super::reader::{Table, Value};
use super::value::{part_of_string, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::pointer::Pointer;

type Fields = Vec<(Spanned<String>, Spanned<Pointer>)>;

pub(super) fn fields(table: &mut Table<'_>, report: &mut Report) -> Fields {
    value_or(table.read("fields", report, read), Vec::new())
}

fn read(value: &Value<'_>, report: &mut Report) -> Option<Fields> {
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        if !is_name(key.value, key.span.clone(), report) {
            continue;
        }
        if let Some(member) = TAKEN.iter().find(|taken| **taken == key.value) {
            report.push(
                Diagnostic::error(format!("`{member}` is a name of OAuth's own"), key.span).hint(
                    "give it another name: a token that is handed out has its fields beside that",
                ),
            );
            continue;
        }
        if let Some(pointer) = pointer(value, report) {
            let key = Spanned::new(key.value.to_owned(), key.span);
            read.push((key, Spanned::new(pointer, value.span())));
        }
    }
    Some(read)
}

/// A JSON pointer (RFC 6901), `*` for any element.
pub(super) fn pointer(value: &Value<'_>, report: &mut Report) -> Option<Pointer> {
    let text = string(value, "a pointer like \"/errors/*/code\"", report)?;
    match Pointer::parse(text) {
        Ok(pointer) => Some(pointer),
        Err(error) => {
            let span = part_of_string(report.source(), &value.span(), error.offset, error.length);
            report.push(Diagnostic::error(error.message, span).hint(error.hint));
            None
        }
    }
}

/// Members of a token response (RFC 6749 §5.1) that are not a provider's to name.
const TAKEN: [&str; 4] = ["access_token", "token_type", "expires_in", "refresh_token"];
