//! `hand_out = true`: a token that may be, or is, the answer to a request.

use http::Method;

use super::reader::Table;
use super::template::Verdict;
use super::value::boolean;
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::provider::pointer::Pointer;

/// Where the table says so.
pub(super) fn hand_out(table: &mut Table<'_>, report: &mut Report) -> Option<Spanned<()>> {
    let said = table.read("hand_out", report, boolean)?;
    said.value.then(|| Spanned::new((), said.span))
}

/// Keys of a route that sends its requests somewhere.
const KEYS: [&str; 12] = [
    "upstream",
    "headers",
    "on_conflict",
    "remove",
    "replay",
    "replay_limit",
    "timeouts",
    "upgrades",
    "allow_plaintext",
    "unauthorized",
    "egress_proxy",
    "http_version",
];

/// A route that hands out has no use for what is about an upstream.
pub(super) fn nothing_is_sent(table: &mut Table<'_>, report: &mut Report) {
    for key in KEYS.into_iter().chain(["tls"]) {
        table.refuse(key, report, |span| {
            Diagnostic::error(format!("a route that hands out has no `{key}`"), span)
                .hint("leave it out, or `hand_out`: the token is the answer, and nothing is sent")
        });
    }
}

/// What asks for a token is GET or POST.
pub(super) fn asked_with(methods: Option<&Spanned<Vec<Spanned<Method>>>>, report: &mut Report) {
    for method in methods.into_iter().flat_map(|methods| &methods.value) {
        if !matches!(method.value, Method::GET | Method::POST) {
            report.push(
                Diagnostic::error("a token is handed out to GET and POST", method.span.clone())
                    .hint("leave it out"),
            );
        }
    }
}

/// Whether `{body./pointer}` can be an input.
pub(super) fn body(pointer: &str) -> Verdict {
    match Pointer::parse(pointer) {
        Err(error) => Verdict::Wrong(error.hint),
        Ok(pointer) if pointer.has_any() => {
            Verdict::Wrong("name one value: `*` stands for any number of them")
        }
        Ok(_) => Verdict::Fine,
    }
}
