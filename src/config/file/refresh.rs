//! `[provider.NAME.refresh]`: how the next token is asked for with what came with the last one.

use super::expiry::{ExpiryFile, expiry};
use super::pointer::pointer;
use super::reader::{Table, Value};
use super::request::{RequestFile, Stage, body, headers, method_key, params, url};
use crate::config::report::Report;
use crate::config::span::value_or;
use crate::provider::pointer::Pointer;

/// A refresh.
#[derive(Clone, Debug)]
pub struct RefreshFile {
    /// What is sent.
    pub request: RequestFile,
    /// Where the refresh token is, in the answer to either request.
    pub token: Pointer,
    /// Where its own lifetime is.
    pub expiry: Vec<ExpiryFile>,
}

pub(super) fn refresh(value: &Value<'_>, report: &mut Report) -> Option<RefreshFile> {
    let mut table = Table::of(value, report)?;
    let stage = Stage::Refresh;
    let method = method_key(&mut table, report);
    let wants_url = table.has("url");
    let url = table.read("url", report, |value, report| url(value, stage, report));
    let headers = table.read("headers", report, |value, report| {
        headers(value, stage, report)
    });
    let query = table.read("query", report, |value, report| {
        params(value, stage, report)
    });
    let body = body(&mut table, stage, report);
    let token = table.require("token", "token = \"/refresh_token\"", report, pointer);
    let places = table.read("expiry", report, expiry);
    table.finish(report);
    if wants_url && url.is_none() {
        return None;
    }
    Some(RefreshFile {
        request: RequestFile {
            method,
            url: url.map(|url| url.value),
            headers: value_or(headers, Vec::new()),
            query: value_or(query, Vec::new()),
            body,
        },
        token: token?.value,
        expiry: value_or(places, Vec::new()),
    })
}
