//! The tables that are about the process as a whole: `[listen]`, `[admin]`, `[limits]`, `[log]`, `[trace]`, `resolve`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::names::{name, unique};
use super::network::{Place, address, header_name, host, place};
use super::reader::{Table, Value};
use super::unit::{duration, size, some_time};
use super::url;
use super::value::{choice, count, integer, is_not_empty, list, one_or_list, share};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::log::{LEVELS, LogFormat};

/// `[listen]`: where the app calls.
#[derive(Clone, Debug)]
pub struct ListenFile {
    /// Where to listen: at least one, or a socket.
    pub addresses: Vec<Spanned<SocketAddr>>,
    /// Unix sockets to listen on.
    pub sockets: Vec<Spanned<PathBuf>>,
    /// Users, besides our own and root, whose processes may call through the sockets.
    pub peer_uids: Vec<Spanned<u32>>,
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
    /// The address is the default.
    pub defaulted: bool,
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
    /// Token fetches of one provider, at once.
    pub fetches: usize,
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

/// `[trace]`
#[derive(Clone, Debug)]
pub struct TraceFile {
    /// The collector: spans go to `/v1/traces` there.
    pub otlp: Spanned<Uri>,
    /// Of requests that bring no `traceparent`, and of fetches, from 0 to 1.
    pub sample: f64,
    /// `service.name`
    pub service: String,
}

/// One line of `resolve`: curl's `--resolve`.
#[derive(Clone, Debug)]
pub struct ResolveFile {
    /// The host in lower case and the port that a URL names.
    pub host: Spanned<(String, u16)>,
    /// Where to connect instead.
    pub address: Spanned<SocketAddr>,
}

const PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9901;

pub(super) fn listen(table: Option<Table<'_>>, report: &mut Report) -> ListenFile {
    let mut table = table.unwrap_or_default();
    let addresses = table.read("address", report, |value, report| {
        let hint = format!("write \"127.0.0.1:{PORT}\", or leave it out");
        is_not_empty(value, "there would be nowhere to listen", &hint, report)?;
        Some(unique(
            one_or_list(value, report, place)?,
            "an address",
            report,
        ))
    });
    let peer_uids = table.read("peer_uids", report, |value, report| {
        let all = list(value, "a list of user ids", report, user_id)?;
        Some(unique(all, "a user id", report))
    });
    let workers = table.read("workers", report, |value, report| {
        NonZeroUsize::new(count(value, report)?)
    });
    let hosts = table.read("hosts", report, |value, report| {
        let all = list(value, "a list of host names", report, host)?;
        Some(unique(all, "a host", report))
    });
    let require_header = table.read("require_header", report, header_name);
    let drain_timeout = table.read("drain_timeout", report, duration);
    let drain_delay = table.read("drain_delay", report, duration);
    let span = table.span();
    table.finish(report);
    let defaulted = addresses.is_none();
    let (mut listed, mut sockets) = (Vec::new(), Vec::new());
    for place in value_or(addresses, Vec::new()) {
        match place.value {
            Place::Address(address) => listed.push(Spanned::new(address, place.span)),
            Place::Socket(path) => sockets.push(Spanned::new(path, place.span)),
        }
    }
    if let Some(peer_uids) = peer_uids.as_ref().filter(|_| sockets.is_empty()) {
        report.push(
            Diagnostic::error("only through a Unix socket is it known who calls", peer_uids.span.clone())
                .hint("add something like \"unix:/run/pillion/proxy.sock\" to `address`, or leave this out"),
        );
    }
    if defaulted {
        let own = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        listed = own
            .map(|ip| Spanned::new(SocketAddr::new(ip, PORT), span.clone()))
            .to_vec();
    }
    ListenFile {
        defaulted,
        addresses: listed,
        sockets,
        peer_uids: value_or(peer_uids, Vec::new()),
        workers,
        hosts: value_or(hosts, Vec::new()),
        require_header,
        drain_timeout: value_or(drain_timeout, Duration::from_secs(25)),
        drain_delay: value_or(drain_delay, Duration::from_secs(1)),
    }
}

fn user_id(value: &Value<'_>, report: &mut Report) -> Option<u32> {
    let number = integer(value, "a user id, which is a number", report)?;
    let id = u32::try_from(number).ok();
    if id.is_none() {
        report.push(Diagnostic::error("this is not a user id", value.span()));
    }
    id
}

pub(super) fn admin(table: Option<Table<'_>>, report: &mut Report) -> AdminFile {
    let mut table = table.unwrap_or_default();
    let span = table.span();
    let address = table.read("address", report, address);
    table.finish(report);
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    AdminFile {
        defaulted: address.is_none(),
        address: address.unwrap_or(Spanned::new(default, span)),
    }
}

pub(super) fn limits(table: Option<Table<'_>>, report: &mut Report) -> LimitsFile {
    let mut table = table.unwrap_or_default();
    let limits = LimitsFile {
        connections: value_or(table.read("connections", report, count), 10_000),
        head_size_bytes: value_or(table.read("head_size", report, some_size), 64 << 10),
        header_timeout: value_or(
            table.read("header_timeout", report, some_time),
            Duration::from_secs(10),
        ),
        body_idle: value_or(
            table.read("body_idle", report, some_time),
            Duration::from_secs(30),
        ),
        replay_budget_bytes: value_or(table.read("replay_budget", report, size), 16 << 20),
        waiters: value_or(table.read("waiters", report, count), 10_000),
        fetches: value_or(table.read("fetches", report, count), 64),
        idle_per_upstream: value_or(table.read("idle_per_upstream", report, count), 64),
        idle_timeout: value_or(
            table.read("idle_timeout", report, some_time),
            Duration::from_secs(15),
        ),
        connection_age: value_or(
            table.read("connection_age", report, some_time),
            Duration::from_secs(300),
        ),
    };
    table.finish(report);
    limits
}

/// The smallest head that a server may be expected to take, and that hyper can be told (RFC 9112 §3).
const LEAST_HEAD_BYTES: usize = 8 << 10;

fn some_size(value: &Value<'_>, report: &mut Report) -> Option<usize> {
    let bytes = size(value, report)?;
    if bytes < LEAST_HEAD_BYTES {
        report.push(
            Diagnostic::error("too small for the head of a request", value.span())
                .hint("write at least \"8KiB\""),
        );
        return None;
    }
    Some(bytes)
}

pub(super) fn log(table: Option<Table<'_>>, report: &mut Report) -> LogFile {
    let mut table = table.unwrap_or_default();
    let level = table.read("level", report, |value, report| {
        choice(value, &LEVELS, report)
    });
    let format = table.read("format", report, |value, report| {
        let choices = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            // As it was called once.
            ("human", LogFormat::Text),
        ];
        choice(value, &choices, report)
    });
    table.finish(report);
    LogFile {
        level: value_or(level, tracing::Level::INFO),
        format: value_or(format, LogFormat::Auto),
    }
}

pub(super) fn trace(table: Option<Table<'_>>, report: &mut Report) -> Option<TraceFile> {
    let mut table = table?;
    let example = "otlp = \"http://127.0.0.1:4318\"";
    let otlp = table.require("otlp", example, report, url::base);
    let sample = table.read("sample", report, share);
    let service = table.read("service", report, name);
    table.finish(report);
    Some(TraceFile {
        otlp: otlp?,
        sample: value_or(sample, 1.0),
        service: value_or(service, "pillion".to_owned()),
    })
}

pub(super) fn resolve(value: &Value<'_>, report: &mut Report) -> Option<Vec<ResolveFile>> {
    let mut read: Vec<ResolveFile> = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let host = host_and_port(key.value);
        if host.is_none() {
            report.push(
                Diagnostic::error("expected a host and a port", key.span.clone())
                    .hint("write them like \"api.example.com:443\""),
            );
        }
        let address = address(value, report);
        let (Some(host), Some(address)) = (host, address) else {
            continue;
        };
        let host = Spanned::new(host, key.span);
        if let Some(first) = read.iter().find(|other| other.host.value == host.value) {
            report.push(
                Diagnostic::error("a host and its port twice", host.span.clone())
                    .also(first.host.span.clone(), "the first time"),
            );
            continue;
        }
        let address = Spanned::new(address, value.span());
        read.push(ResolveFile { host, address });
    }
    Some(read)
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    let is_host = !host.is_empty() && host.chars().all(plain);
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    (is_host && !is_bare_ipv6).then(|| (host.to_ascii_lowercase(), port))
}
