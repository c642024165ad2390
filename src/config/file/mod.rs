//! The mirror of `proxy.toml`: what the user wrote, in types, with the place of everything that can be pointed at.

mod assertion;
mod client_auth;
mod egress;
mod expiry;
mod fields;
mod grant;
mod graphql;
mod hand_out;
mod http;
mod json;
mod jwt;
mod names;
mod network;
mod path;
mod pointer;
mod process;
mod provider;
mod reader;
mod refresh;
mod request;
mod route;
mod rules;
mod scope;
mod secret;
pub(super) mod template;
mod tls;
mod toml_text;
mod unauthorized;
pub mod unit;
mod upgrade;
mod url;
mod value;

pub use assertion::AssertionFile;
pub use client_auth::ClientAuth;
pub use egress::{EgressFile, EgressProxyFile, NoProxy};
pub use expiry::ExpiryFile;
pub use grant::GrantFile;
pub use http::{ExpectedFile, HttpFile, ReadingFile, SingleUseFile, TokenPlaceFile};
pub use jwt::{JwtFile, JwtSourceFile};
pub use path::{PathPattern, PathSegment};
pub use process::{AdminFile, LimitsFile, ListenFile, LogFile, ResolveFile, TraceFile};
pub use provider::{ClientId, OAuth2File, ProviderFile, SourceFile, StaticFile};
pub use refresh::RefreshFile;
pub use request::{BodyFile, Params, RequestFile, UrlFile};
pub use route::{OnConflict, Replay, RouteFile, TimeoutsFile};
pub use rules::InputRuleFile;
pub use tls::{ListenTlsFile, TlsClientFile, TlsFile};
pub use unauthorized::{ConditionFile, RuleFile};

use toml::de::DeValue;

use self::reader::{Table, Value};
use super::report::{Diagnostic, Report};
use super::span::value_or;

/// The whole file.
#[derive(Clone, Debug)]
pub struct File {
    /// `[listen]`
    pub listen: ListenFile,
    /// `[admin]`
    pub admin: AdminFile,
    /// `[limits]`
    pub limits: LimitsFile,
    /// `[log]`
    pub log: LogFile,
    /// `[trace]`, if requests are traced.
    pub trace: Option<TraceFile>,
    /// `resolve`, in the order of the file.
    pub resolve: Vec<ResolveFile>,
    /// `egress_proxy`, for providers and routes that do not say otherwise.
    pub egress_proxy: Option<EgressFile>,
    /// `[provider.NAME]`, in the order of the file; names are unique.
    pub providers: Vec<ProviderFile>,
    /// `[[route]]`, in the order of the file: the first match wins.
    pub routes: Vec<RouteFile>,
}

impl File {
    /// How much it holds, for people: `1 provider, 3 routes`.
    #[must_use]
    pub fn contents(&self) -> String {
        let counted = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {one}s"),
        };
        let providers = counted(self.providers.len(), "provider");
        format!("{providers}, {}", counted(self.routes.len(), "route"))
    }

    /// The same without certificates and keys of connections: what compiles of it reads no other file, and connects nowhere.
    #[must_use]
    pub fn without_certificates(mut self) -> Self {
        for provider in &mut self.providers {
            match &mut provider.source {
                SourceFile::OAuth2(source) => source.tls = None,
                SourceFile::Http(source) | SourceFile::GraphQl(source) => source.tls = None,
                SourceFile::Static(_) | SourceFile::Jwt(_) => {}
            }
        }
        for route in &mut self.routes {
            route.tls = None;
        }
        self
    }
}

/// What could be read of a file, for the checks that need more than one place.
pub(super) struct Draft {
    pub(super) file: File,
    /// The names of all providers, also of those that could not be read. None if that cannot be told.
    pub(super) declared: Option<Vec<String>>,
}

/// Reads a file; what is wrong goes into the report. None if it is not TOML.
pub(super) fn read(report: &mut Report) -> Option<Draft> {
    let text = report.source().to_owned();
    let tree = toml_text::parse(&text, report)?;
    let mut table = Table::new(tree.get_ref(), 0..0);
    let mut process = |key, report: &mut Report| table.read(key, report, Table::of);
    let listen = process("listen", report);
    let admin = process("admin", report);
    let limits = process("limits", report);
    let log = process("log", report);
    let trace = process("trace", report);
    let resolve = table.read("resolve", report, process::resolve);
    let egress_proxy = table.read("egress_proxy", report, egress::egress_proxy);
    let mut declared = Vec::new();
    let has_providers = table.has("provider");
    let providers = table.read("provider", report, |value, report| {
        providers(value, &mut declared, report)
    });
    let routes = table.read("route", report, routes);
    let unknown = table.finish(report);
    // A misspelt `provider` may hold them.
    let declared = (providers.is_some() || !(unknown || has_providers)).then_some(declared);
    let file = File {
        listen: process::listen(listen.map(|table| table.value), report),
        admin: process::admin(admin.map(|table| table.value), report),
        limits: process::limits(limits.map(|table| table.value), report),
        log: process::log(log.map(|table| table.value), report),
        trace: trace.and_then(|table| process::trace(Some(table.value), report)),
        resolve: value_or(resolve, Vec::new()),
        egress_proxy: egress_proxy.map(|it| it.value),
        providers: value_or(providers, Vec::new()),
        routes: value_or(routes, Vec::new()),
    };
    Some(Draft { file, declared })
}

fn providers(
    value: &Value<'_>,
    declared: &mut Vec<String>,
    report: &mut Report,
) -> Option<Vec<ProviderFile>> {
    if let DeValue::Array(_) = value.get_ref() {
        report.push(
            Diagnostic::error("a provider has a name", value.span())
                .hint("write [provider.NAME], in single brackets"),
        );
        return None;
    }
    let mut read = Vec::new();
    for (name, value) in Table::of(value, report)?.entries() {
        declared.push(name.value.to_owned());
        read.extend(provider::provider(&name, value, report));
    }
    Some(read)
}

fn routes(value: &Value<'_>, report: &mut Report) -> Option<Vec<RouteFile>> {
    if let DeValue::Table(_) = value.get_ref() {
        report.push(
            Diagnostic::error("expected a list of routes, found one table", value.span())
                .hint("write [[route]], in double brackets: there may be more than one"),
        );
        return None;
    }
    let routes = value::list(value, "a list of routes", report, route::route)?;
    Some(routes.into_iter().map(|route| route.value).collect())
}
