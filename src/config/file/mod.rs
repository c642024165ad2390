//! The mirror of `proxy.toml`: what the user wrote, in types, with the place of everything that can be pointed at.

mod provider;
mod route;

pub use provider::{ClientAuth, ClientId, OAuth2File, ProviderFile, SourceFile, StaticFile};
pub use route::{OnConflict, PathPattern, PathSegment, Replay, RouteFile, TimeoutsFile};

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::span::Spanned;

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
    /// `resolve`, in the order of the file.
    pub resolve: Vec<ResolveFile>,
    /// `[provider.NAME]`, in the order of the file; names are unique.
    pub providers: Vec<ProviderFile>,
    /// `[[route]]`, in the order of the file: the first match wins.
    pub routes: Vec<RouteFile>,
}

/// `[listen]`: where the app calls.
#[derive(Clone, Debug)]
pub struct ListenFile {
    /// Where to listen: at least one.
    pub addresses: Vec<Spanned<SocketAddr>>,
    /// The addresses are the default: one that the machine does not have (IPv6) may be left out.
    pub defaulted: bool,
    /// Threads; as many as there are cores if left out.
    pub workers: Option<Spanned<NonZeroUsize>>,
    /// Further names of this listener that a request's Host may have, in lower case.
    pub hosts: Vec<Spanned<String>>,
    /// A field that every request must have.
    pub require_header: Option<Spanned<HeaderName>>,
    /// How long requests in flight may take at the end.
    pub drain_timeout: Duration,
    /// How long new connections are still accepted at the end.
    pub drain_delay: Duration,
}

/// `[admin]`: where the SRE looks.
#[derive(Clone, Debug)]
pub struct AdminFile {
    /// Where to listen.
    pub address: Spanned<SocketAddr>,
}

/// `[limits]`: everything that could grow.
#[derive(Clone, Debug)]
pub struct LimitsFile {
    /// Connections of the app, at once.
    pub connections: usize,
    /// The head of a request.
    pub head_size_bytes: usize,
    /// How long a head may take.
    pub header_timeout: Duration,
    /// How long a body may stand still.
    pub body_idle: Duration,
    /// Bodies kept for a replay, together.
    pub replay_budget_bytes: usize,
    /// Requests that wait for one token, at once.
    pub waiters: usize,
    /// Idle connections kept for one upstream.
    pub idle_per_upstream: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How old a connection may become.
    pub connection_age: Duration,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogFile {
    /// What is worth a line.
    pub level: tracing::Level,
    /// For people or for programs.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// One line of `resolve`: curl's `--resolve`.
#[derive(Clone, Debug)]
pub struct ResolveFile {
    /// The host in lower case and the port that a URL names.
    pub host: Spanned<(String, u16)>,
    /// Where to connect instead.
    pub address: Spanned<SocketAddr>,
}

/// `tls = { ca, cert, key }` of a provider or a route. Paths are absolute.
#[derive(Clone, Debug)]
pub struct TlsFile {
    /// Roots to trust instead of the system's.
    pub ca: Option<Spanned<PathBuf>>,
    /// What to show to a server that asks.
    pub client: Option<TlsClientFile>,
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsClientFile {
    /// The chain, PEM.
    pub cert: Spanned<PathBuf>,
    /// The key, PEM.
    pub key: Spanned<PathBuf>,
}
