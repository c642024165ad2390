//! `tls = { ca, cert, key }` of a provider or a route, and `tls = { cert, key }` of the listener.

use std::ops::Range;
use std::path::PathBuf;

use super::reader::{Table, Value};
use super::secret::file_path;
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;

/// `tls = { ca, cert, key }` of a provider or a route. Paths are absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFile {
    /// Roots to trust instead of the system's.
    pub ca: Option<Spanned<PathBuf>>,
    /// What to show to a server that asks.
    pub client: Option<TlsClientFile>,
}

impl TlsFile {
    /// Where the first of its files is named.
    pub(in crate::config) fn first_place(&self) -> Option<Range<usize>> {
        let ca = self.ca.as_ref().map(|path| path.span.clone());
        ca.or_else(|| self.client.as_ref().map(|client| client.cert.span.clone()))
    }
}

/// A client certificate and its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsClientFile {
    /// The chain, PEM.
    pub cert: Spanned<PathBuf>,
    /// The key, PEM.
    pub key: Spanned<PathBuf>,
}

/// `tls = { cert, key }` of the listener. Paths are absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenTlsFile {
    /// The chain, PEM.
    pub cert: Spanned<PathBuf>,
    /// The key, PEM.
    pub key: Spanned<PathBuf>,
}

pub(super) fn listen_tls(value: &Value<'_>, report: &mut Report) -> Option<ListenTlsFile> {
    let mut table = Table::of(value, report)?;
    let cert = table.require("cert", "cert = \"/etc/pillion/tls.crt\"", report, pem_file);
    let key = table.require("key", "key = \"/etc/pillion/tls.key\"", report, pem_file);
    table.finish(report);
    Some(ListenTlsFile {
        cert: cert?,
        key: key?,
    })
}

/// A path that looks like one is shown: somebody may have put the key itself here.
fn pem_file(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let endings = [".pem", ".crt", ".cer", ".key"];
    let is_path = |text: &str| !text.contains('\n') && endings.iter().any(|it| text.ends_with(it));
    if value.get_ref().as_str().is_some_and(is_path) {
        report.show(value.span());
    }
    file_path(value, report)
}

pub(super) fn tls(value: &Value<'_>, report: &mut Report) -> Option<TlsFile> {
    let mut table = Table::of(value, report)?;
    let ca = table.read("ca", report, pem_file);
    let pair = (table.has("cert"), table.has("key"));
    let cert = table.read("cert", report, pem_file);
    let key = table.read("key", report, pem_file);
    table.finish(report);
    if let (true, false) | (false, true) = pair {
        let (there, missing) = if pair.0 {
            ("cert", "key")
        } else {
            ("key", "cert")
        };
        report.push(
            Diagnostic::error(format!("`{there}` without `{missing}`"), value.span())
                .hint(format!("add `{missing} = \"/...\"`: a client shows a certificate and proves it with its key")),
        );
    }
    let client = cert.zip(key).map(|(cert, key)| TlsClientFile { cert, key });
    Some(TlsFile { ca, client })
}
