//! `[[route]]`: which requests, which token, where to.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{self, AUTHORIZATION};
use http::{HeaderName, Method, Uri};

use super::egress::{EgressFile, egress_proxy};
use super::hand_out::{asked_with, body, hand_out, nothing_is_sent};
use super::names::{is_name, name, unique};
use super::network::{header_name, host, method, parse_header_name};
use super::path::{PathPattern, path};
use super::reader::{Table, Value};
use super::scope::scope;
use super::template::{Verdict, template};
use super::tls::{TlsFile, tls};
use super::unauthorized::{RuleFile, unauthorized};
use super::unit::{size, some_time};
use super::url::upstream;
use super::value::{boolean, choice, is_not_empty, list, one_or_list};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::template::{Reference, Template};

/// One route.
#[derive(Clone, Debug)]
pub struct RouteFile {
    /// The head of the table, to point at the route as a whole.
    pub span: Range<usize>,
    /// What it is called in metrics and logs; unique.
    pub name: Option<Spanned<String>>,
    /// The beginning of the path that it takes.
    pub path: Spanned<PathPattern>,
    /// Host names that it takes, in lower case; any if empty.
    pub hosts: Vec<Spanned<String>>,
    /// Methods that it takes; any if empty.
    pub methods: Vec<Spanned<Method>>,
    /// Where the request goes: scheme, authority and base path, no query. None where the token is handed out.
    pub upstream: Option<Spanned<Uri>>,
    /// The Unix socket through which it goes there; over the network if absent.
    pub socket: Option<PathBuf>,
    /// The token is the answer; the place is that of the word.
    pub hand_out: Option<Spanned<()>>,
    /// Whose token it carries.
    pub provider: Spanned<String>,
    /// What the provider's inputs are for a request. `Path`, `Header`, `Query` and `Body` in them.
    pub inputs: Vec<(Spanned<String>, Spanned<Template>)>,
    /// Fields that are set, `Authorization = "Bearer {token}"` among them where it is the default. `Token`, `TokenOf`, `Field` and `Input` in them.
    pub headers: Vec<(Spanned<HeaderName>, Spanned<Template>)>,
    /// What happens to a field of that name that the app sent itself.
    pub on_conflict: OnConflict,
    /// Fields that are removed from the request.
    pub remove: Vec<Spanned<HeaderName>>,
    /// Body kept for a replay; 0 keeps none, so that only requests without a body are replayed.
    pub replay_limit_bytes: usize,
    /// When a request is sent a second time.
    pub replay: Replay,
    /// How long the upstream may take.
    pub timeouts: TimeoutsFile,
    /// The token may go over `http://` to another machine.
    pub allow_plaintext: bool,
    /// How to connect to the upstream.
    pub tls: Option<TlsFile>,
    /// Which way, in place of the file's.
    pub egress_proxy: Option<EgressFile>,
    /// Which answers say that the token is no good.
    pub unauthorized: Option<Vec<Spanned<RuleFile>>>,
    /// Replaces the provider's scope.
    pub scope: Option<Spanned<Vec<Spanned<String>>>>,
}

/// What happens to a field that the app sent itself and that the route would set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnConflict {
    /// The route's replaces it.
    Overwrite,
    /// The app's stays.
    Keep,
    /// The request is refused.
    Reject,
}

/// When a request is sent a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// `"401"`: after a 401, with a renewed token.
    Unauthorized,
    /// `"never"`
    Never,
}

/// `timeouts = { connect, response, idle }`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeoutsFile {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until there is the head of an answer.
    pub response: Duration,
    /// While a body stands still.
    pub idle: Duration,
}

impl Default for TimeoutsFile {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

const REPLAY_LIMIT_BYTES: usize = 64 << 10;

/// Reads a route. None if there is not enough of it to be held against the rest of the file.
pub(super) fn route(value: &Value<'_>, report: &mut Report) -> Option<RouteFile> {
    let mut table = Table::of(value, report)?;
    let span = table.span();
    let route_name = table.read("name", report, name);
    let route_path = if table.has("path") {
        table.read("path", report, path)
    } else {
        table.take("path");
        Some(Spanned::new(PathPattern::default(), span.clone()))
    };
    let hosts = table.read("host", report, |value, report| {
        let hint = "leave it out to take every host";
        is_not_empty(value, "this route would take no request", hint, report)?;
        Some(unique(one_or_list(value, report, host)?, "a host", report))
    });
    let methods = table.read("methods", report, |value, report| {
        let hint = "leave it out to take every method";
        is_not_empty(value, "this route would take no request", hint, report)?;
        let all = list(value, "a list of methods", report, method)?;
        Some(unique(all, "a method", report))
    });
    let hand_out = hand_out(&mut table, report);
    let route_upstream = if hand_out.is_some() {
        nothing_is_sent(&mut table, report);
        asked_with(methods.as_ref(), report);
        None
    } else {
        let example = "upstream = \"https://api.example.com\"";
        let upstream = table.require("upstream", example, report, upstream);
        // What is reported as wrong is never used; the other checks go on with this in its place.
        let otherwise = || {
            let url = Uri::from_static("http://localhost");
            Spanned::new((url, None), span.clone())
        };
        Some(upstream.unwrap_or_else(otherwise))
    };
    let (route_upstream, socket) = match route_upstream {
        Some(Spanned {
            value: (url, socket),
            span,
        }) => (Some(Spanned::new(url, span)), socket),
        None => (None, None),
    };
    let provider = table.require("provider", "provider = \"NAME\"", report, name);
    let inputs = table.read("inputs", report, |value, report| {
        inputs(value, hand_out.is_some(), report)
    });
    let headers = table.read("headers", report, headers);
    let on_conflict = table.read("on_conflict", report, |value, report| {
        let choices = [
            ("overwrite", OnConflict::Overwrite),
            ("keep", OnConflict::Keep),
            ("reject", OnConflict::Reject),
        ];
        choice(value, &choices, report)
    });
    let remove = table.read("remove", report, |value, report| {
        let all = list(value, "a list of header names", report, removed_header)?;
        Some(unique(all, "a header", report))
    });
    let replay_limit = table.read("replay_limit", report, size);
    let replay = table.read("replay", report, |value, report| {
        let choices = [("401", Replay::Unauthorized), ("never", Replay::Never)];
        choice(value, &choices, report)
    });
    let timeouts = table.read("timeouts", report, timeouts);
    let allow_plaintext = table.read("allow_plaintext", report, boolean);
    let tls = table.read("tls", report, tls);
    let egress_proxy = table.read("egress_proxy", report, egress_proxy);
    let scope = table.read("scope", report, scope);
    let unauthorized = table.read("unauthorized", report, unauthorized);
    table.finish(report);

    let provider = provider?;
    let headers = if hand_out.is_some() {
        Vec::new()
    } else {
        with_default_authorization(headers, &provider, &span)
    };
    Some(RouteFile {
        name: route_name,
        path: route_path?,
        hosts: value_or(hosts, Vec::new()),
        methods: value_or(methods, Vec::new()),
        upstream: route_upstream,
        socket,
        provider,
        inputs: value_or(inputs, Vec::new()),
        headers,
        hand_out,
        on_conflict: value_or(on_conflict, OnConflict::Overwrite),
        remove: value_or(remove, Vec::new()),
        replay_limit_bytes: value_or(replay_limit, REPLAY_LIMIT_BYTES),
        replay: value_or(replay, Replay::Unauthorized),
        timeouts: value_or(timeouts, TimeoutsFile::default()),
        allow_plaintext: value_or(allow_plaintext, false),
        tls: tls.map(|tls| tls.value),
        egress_proxy: egress_proxy.map(|it| it.value),
        unauthorized: unauthorized.map(|it| it.value),
        scope,
        span,
    })
}

type Inputs = Vec<(Spanned<String>, Spanned<Template>)>;

fn inputs(value: &Value<'_>, hands_out: bool, report: &mut Report) -> Option<Inputs> {
    let verdict = |reference: &Reference| match reference {
        Reference::Path(_) | Reference::Query(_) => Verdict::Fine,
        Reference::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if is_framing(&name) => Verdict::Wrong(
                "use another header: this one is taken out of the request, which needs it",
            ),
            Ok(_) => Verdict::Fine,
            Err(_) => Verdict::Wrong("the name of a header is letters, digits and `-`"),
        },
        Reference::Body(_) if !hands_out => Verdict::Wrong(
            "take it from {path.NAME}, {header.NAME} or {query.NAME}: a body on its way to an upstream is not read, only that of a route with `hand_out = true`",
        ),
        Reference::Body(pointer) => body(pointer),
        _ => {
            Verdict::Wrong("an input is made of {path.NAME}, {header.NAME}, {query.NAME} and text")
        }
    };
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        if !is_name(key.value, key.span.clone(), report) {
            continue;
        }
        let key = Spanned::new(key.value.to_owned(), key.span);
        if let Some(template) = template(value, verdict, report) {
            read.push((key, Spanned::new(template, value.span())));
        }
    }
    Some(read)
}

type Headers = Vec<(Spanned<HeaderName>, Spanned<Template>)>;

fn headers(value: &Value<'_>, report: &mut Report) -> Option<Headers> {
    let verdict = |reference: &Reference| match reference {
        Reference::Token | Reference::TokenOf(_) | Reference::Field(_) | Reference::Input(_) => {
            Verdict::Fine
        }
        Reference::Path(_) | Reference::Header(_) | Reference::Query(_) | Reference::Body(_) => {
            Verdict::Wrong(
                "make it an input first, `inputs = { x = \"{path.x}\" }`, and write {input.x} here",
            )
        }
        Reference::Secret(_)
        | Reference::Parent
        | Reference::RefreshToken
        | Reference::KeyFingerprint => Verdict::Wrong(
            "a header is made of {token}, {token.PROVIDER}, {field.NAME}, {input.NAME} and text",
        ),
    };
    let mut read: Headers = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let Some(name) = parse_header_name(key.value, key.span.clone(), report) else {
            continue;
        };
        let name = Spanned::new(name, key.span);
        if is_framing(&name.value) {
            report.push(framing_is_not_yours(name.span.clone()));
            continue;
        }
        if let Some((first, _)) = read.iter().find(|(other, _)| are_twins(other, &name)) {
            report.push(
                Diagnostic::error("a header is set twice", name.span.clone())
                    .also(first.span.clone(), "the first time")
                    .note("case makes no difference, and many servers take `_` for `-`"),
            );
            continue;
        }
        let Some(template) = template(value, verdict, report) else {
            continue;
        };
        if name.value == AUTHORIZATION && template.as_literal().is_some() {
            report.push(
                Diagnostic::error("a credential cannot be written here", value.span())
                    .hint("keep it in a provider with `type = \"static\"`, and write \"Bearer {token}\" here"),
            );
            continue;
        }
        read.push((name, Spanned::new(template, value.span())));
    }
    Some(read)
}

/// `Authorization = "Bearer {token}"`, unless the token goes elsewhere or the field is set otherwise.
fn with_default_authorization(
    headers: Option<Spanned<Headers>>,
    provider: &Spanned<String>,
    route: &Range<usize>,
) -> Headers {
    let mut all = value_or(headers, Vec::new());
    let is_own = |reference: &Reference| match reference {
        Reference::Token => true,
        Reference::TokenOf(name) => provider.value == *name,
        _ => false,
    };
    let says_where = all
        .iter()
        .any(|(name, template)| name.value == AUTHORIZATION || template.references().any(is_own));
    if !says_where && let Ok(bearer) = Template::parse("Bearer {token}") {
        all.push((
            Spanned::new(AUTHORIZATION, route.clone()),
            Spanned::new(bearer, route.clone()),
        ));
    }
    all
}

/// Fields that say where a message goes and where it ends.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    const FIELDS: [HeaderName; 8] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
    ];
    FIELDS.contains(name) || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn framing_is_not_yours(span: Range<usize>) -> Diagnostic {
    Diagnostic::error("a route cannot touch this header", span)
        .hint("leave it out")
        .note("it says where a message goes or where it ends, which the proxy does itself")
}

/// Whether a server could take one for the other.
fn are_twins(one: &HeaderName, other: &HeaderName) -> bool {
    one.as_str().replace('_', "-") == other.as_str().replace('_', "-")
}

fn removed_header(value: &Value<'_>, report: &mut Report) -> Option<HeaderName> {
    let name = header_name(value, report)?;
    if is_framing(&name) {
        report.push(framing_is_not_yours(value.span()));
        return None;
    }
    Some(name)
}

fn timeouts(value: &Value<'_>, report: &mut Report) -> Option<TimeoutsFile> {
    let default = TimeoutsFile::default();
    let mut table = Table::of(value, report)?;
    let mut read = |key, otherwise| {
        table
            .read(key, report, some_time)
            .map_or(otherwise, |timeout| timeout.value)
    };
    let timeouts = TimeoutsFile {
        connect: read("connect", default.connect),
        response: read("response", default.response),
        idle: read("idle", default.idle),
    };
    table.finish(report);
    Some(timeouts)
}
