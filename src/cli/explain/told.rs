//! An explanation in words.

use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};

use super::ask::Ask;
use crate::cli::sheet::{Sheet, columns};
use crate::config::file::{File, RouteFile};
use crate::provider::grant_type::GrantType;
use crate::provider::graphql::GraphQl;
use crate::provider::reading::SingleUse;
use crate::provider::{Provider, Source};
use crate::proxy::Plan;
use crate::proxy::attach::{MASK, OnConflict};
use crate::proxy::explain::{Course, Explanation, Forwarded, PassedOver};
use crate::proxy::inputs::{Inputs, RequestPart};
use crate::proxy::problem::ProxyError;
use crate::proxy::route::{Destination, Onward, Route};
use crate::proxy::verdict::{Condition, Renew, Rule};
use crate::token::Tokens;

/// What there is to tell, and the file that it is about.
pub(super) struct Told<'a> {
    pub(super) ask: &'a Ask,
    pub(super) explanation: &'a Explanation,
    pub(super) plan: &'a Plan,
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    /// Of the file.
    pub(super) text: &'a str,
}

impl Told<'_> {
    /// All of it.
    pub(super) fn text(&self) -> String {
        let mut sheet = Sheet::default();
        let ask = self.ask;
        sheet.heading(&format!(
            "{} http://{}{}",
            ask.method(),
            ask.authority(),
            ask.target()
        ));
        if let Some(route) = &self.explanation.route {
            sheet.section("route", [self.route(route)]);
        }
        sheet.section("not", columns(self.passed_over()));
        match (&self.explanation.course, self.explanation.route.as_deref()) {
            (Err(error), _) => sheet.section("answer", own_answer(error)),
            (Ok(_), None) => {}
            (Ok(Course::HandOut { inputs, is_new }), Some(route)) => {
                sheet.section("inputs", columns(self.inputs(route, inputs)));
                sheet.section("token", columns(chain(&route.tokens)));
                sheet.section("answer", [handed_out(route, *is_new)]);
                sheet.section("limits", [token_limit(route)]);
            }
            (Ok(Course::Onward(forwarded)), Some(route)) => {
                if let Destination::Upstream(onward) = &route.destination {
                    self.onward(&mut sheet, route, onward, forwarded);
                }
            }
        }
        sheet.into_text()
    }

    fn onward(&self, sheet: &mut Sheet, route: &Route, onward: &Onward, forwarded: &Forwarded) {
        sheet.section("inputs", columns(self.inputs(route, &forwarded.inputs)));
        sheet.section("token", columns(chain(&route.tokens)));
        for other in &onward.others {
            sheet.section("and", columns(chain(&other.tokens)));
        }
        let sent = self.ask.headers();
        sheet.section("removed", removed(sent, &forwarded.head));
        sheet.section(
            "set",
            set(sent, forwarded, &private(route, &forwarded.inputs)),
        );
        sheet.section("kept", kept(sent, onward, forwarded));
        sheet.section("upstream", upstream(self.ask, onward, forwarded));
        sheet.section("limits", limits(route, onward, self.plan.limits.body_idle));
        sheet.section("refusal", self.refusal(route, onward, forwarded));
    }

    fn route(&self, route: &Route) -> String {
        let name = route.name.as_str();
        let (at, count) = (self.place(route), self.file.routes.len());
        match self.of_file(route) {
            Some((index, file)) => {
                let pattern = self.source(&file.path.span);
                let named = if file.name.is_some() {
                    format!("{name}, {pattern}")
                } else {
                    name.to_owned()
                };
                format!("{named}, number {} of {count} ({at})", index + 1)
            }
            None => name.to_owned(),
        }
    }

    fn passed_over(&self) -> Vec<(String, String)> {
        let passed_over = self.explanation.passed_over.iter();
        passed_over
            .map(|it| (it.route.name.clone(), self.why_not(it)))
            .collect()
    }

    fn why_not(&self, passed_over: &PassedOver) -> String {
        let matcher = &passed_over.route.matcher;
        let mut reasons = Vec::new();
        if passed_over.path {
            let named = self
                .of_file(&passed_over.route)
                .filter(|(_, file)| file.name.is_some());
            reasons.push(match named {
                Some((_, file)) => format!("its path is {}", self.source(&file.path.span)),
                None => "another path".to_owned(),
            });
        }
        if passed_over.host {
            reasons.push(format!("its host is {}", matcher.hosts.join(" or ")));
        }
        if passed_over.method {
            let methods: Vec<_> = matcher.methods.iter().map(http::Method::as_str).collect();
            reasons.push(format!("it takes {}", methods.join(" and ")));
        }
        reasons.join(", ")
    }

    fn inputs(&self, route: &Route, inputs: &Inputs) -> Vec<(String, String)> {
        let Some((_, file)) = self.of_file(route) else {
            return Vec::new();
        };
        let private = private(route, inputs);
        let rules = route.inputs.iter().zip(&file.inputs).enumerate();
        let rows = rules.map(|(index, (rule, (_, template)))| {
            let value = masked(inputs.get(index), &private);
            (
                format!("{} = {value}", rule.name),
                format!("from {}", self.source(&template.span)),
            )
        });
        rows.collect()
    }

    fn refusal(&self, route: &Route, onward: &Onward, forwarded: &Forwarded) -> Vec<String> {
        if forwarded.keeps_authorization {
            return vec![
                "passed on: the caller's own credentials were refused, not a token".to_owned(),
            ];
        }
        let tokens = &route.tokens;
        if matches!(tokens.provider().single_use(), SingleUse::Yes) {
            return vec!["passed on: the token is good for one use, and it is spent".to_owned()];
        }
        let rules = onward.unauthorized.iter();
        let mut lines = columns(
            rules
                .map(|rule| (when(rule), renewal(rule.renew, tokens)))
                .collect(),
        );
        lines.push(replay(
            self.ask,
            onward,
            forwarded,
            self.file.limits.replay_budget_bytes,
        ));
        lines
    }

    /// What the user wrote: the plan's routes are the file's, in its order.
    fn of_file(&self, route: &Route) -> Option<(usize, &RouteFile)> {
        let mut routes = self.plan.routes.0.iter();
        let index = routes.position(|it| std::ptr::eq(std::sync::Arc::as_ptr(it), route))?;
        Some((index, self.file.routes.get(index)?))
    }

    fn place(&self, route: &Route) -> String {
        let start = self.of_file(route).map_or(0, |(_, file)| file.span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// A text of the file, without its quotes.
    fn source(&self, span: &std::ops::Range<usize>) -> &str {
        let text = self.text.get(span.clone()).unwrap_or_default();
        text.trim_matches(['"', '\''])
    }
}

fn own_answer(error: &ProxyError) -> Vec<String> {
    vec![
        format!("{} by pillion itself: {error}", error.status().as_u16()),
        error.problem_type(),
    ]
}

fn handed_out(route: &Route, is_new: bool) -> String {
    let name = &route.tokens.provider().name;
    if is_new {
        format!("200 by pillion itself: a new token of {name}, because of Cache-Control: no-cache")
    } else {
        format!("200 by pillion itself: the token of {name}")
    }
}

/// A provider and what its tokens are made from.
fn chain(tokens: &Tokens) -> Vec<(String, String)> {
    let mut rows = vec![(tokens.provider().name.to_string(), kind(tokens.provider()))];
    let mut parent = tokens.parent();
    while let Some(tokens) = parent {
        rows.push((
            format!("<- {}", tokens.provider().name),
            kind(tokens.provider()),
        ));
        parent = tokens.parent();
    }
    rows
}

fn kind(provider: &Provider) -> String {
    let mut text = match &provider.source {
        Source::OAuth2(source) => {
            let host = source.token_endpoint.host.to_str().unwrap_or_default();
            let mut text = format!("oauth2 {} at {host}", grant(&source.grant));
            if !source.scope.is_empty() {
                text = format!("{text}, scope {}", source.scope.join(" "));
            }
            text
        }
        Source::Http(source) => format!(
            "http at {}",
            source.request.host.to_str().unwrap_or_default()
        ),
        Source::GraphQl(GraphQl(source)) => {
            format!(
                "graphql at {}",
                source.request.host.to_str().unwrap_or_default()
            )
        }
        Source::Static(source) => format!("static, {}", source.secret),
        Source::Jwt(_) => "jwt, signed here".to_owned(),
    };
    if !provider.inputs.is_empty() {
        text = format!("{text}, one for each {}", provider.inputs.join(" and "));
    }
    match provider.single_use() {
        SingleUse::No => text,
        SingleUse::Yes => format!("{text}, good for one use"),
        SingleUse::When(..) => format!("{text}, perhaps good for one use"),
    }
}

const fn grant(grant: &GrantType) -> &'static str {
    match grant {
        GrantType::ClientCredentials => "client_credentials",
        GrantType::Password { .. } => "password",
        GrantType::RefreshToken(_) => "refresh_token",
        GrantType::JwtBearer(_) => "jwt-bearer",
        GrantType::TokenExchange(_) => "token-exchange",
    }
}

fn removed(sent: &HeaderMap, head: &HeaderMap) -> Option<String> {
    let gone = sent
        .keys()
        .filter(|name| !head.contains_key(*name) && !is_framing(name));
    let names: Vec<_> = gone.map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn set(sent: &HeaderMap, forwarded: &Forwarded, private: &[&str]) -> Vec<String> {
    let head = &forwarded.head;
    let differs = |name: &&HeaderName| {
        !is_framing(name) && !sent.get_all(*name).iter().eq(head.get_all(*name))
    };
    let lines = head.keys().filter(differs).map(|name| {
        let value = head
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let instead = if sent.contains_key(name) {
            "  (in place of the caller's)"
        } else {
            ""
        };
        format!("{name}: {}{instead}", masked(value, private))
    });
    lines.collect()
}

fn kept(sent: &HeaderMap, onward: &Onward, forwarded: &Forwarded) -> Option<String> {
    if onward.attach.on_conflict != OnConflict::Keep {
        return None;
    }
    let same = |name: &&HeaderName| sent.get_all(*name).iter().eq(forwarded.head.get_all(*name));
    let fields = onward.attach.fields.iter().map(|field| &field.name);
    let names: Vec<_> = fields
        .filter(|name| sent.contains_key(*name))
        .filter(same)
        .collect();
    let names: Vec<_> = names.into_iter().map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| format!("{}, the caller's own", names.join(", ")))
}

// The connection's own, made anew for each.
fn is_framing(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
}

fn upstream(ask: &Ask, onward: &Onward, forwarded: &Forwarded) -> Vec<String> {
    let settings = onward.upstream.endpoint.settings();
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let host = onward.upstream.host.to_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{} {scheme}://{host}{}",
        ask.method(),
        forwarded.target
    )];
    if let Some(path) = &settings.socket {
        lines.push(format!("through the Unix socket {}", path.display()));
    }
    if let Some(address) = settings.resolved {
        lines.push(format!("at {address}, because of `resolve`"));
    }
    if let Some(proxy) = &settings.egress_proxy {
        lines.push(format!(
            "through the egress proxy {}:{}",
            proxy.host, proxy.port
        ));
    }
    lines
}

fn limits(route: &Route, onward: &Onward, body_idle: Duration) -> Vec<String> {
    let connect = onward.upstream.endpoint.settings().connect_timeout;
    let timeouts = &onward.timeouts;
    vec![
        format!("{}, a connection within {connect:?}", token_limit(route)),
        format!(
            "an answer within {:?}; it may stand still for {:?}, the request's body for {body_idle:?}",
            timeouts.response, timeouts.idle
        ),
    ]
}

fn token_limit(route: &Route) -> String {
    format!(
        "a token within {:?}",
        route.tokens.provider().policy.token_wait
    )
}

fn when(rule: &Rule) -> String {
    let status = rule.status.as_u16();
    match &rule.condition {
        Condition::None => format!("{status}"),
        Condition::Header(name, values) => {
            let values: Vec<_> = values
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect();
            format!("{status} with {name}: {}", values.join(" or "))
        }
        Condition::Json(pointer, values) => {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            format!("{status} with {} at {pointer}", values.join(" or "))
        }
    }
}

fn renewal(renew: Renew, tokens: &Tokens) -> String {
    let own = &tokens.provider().name;
    match (renew, tokens.parent()) {
        (Renew::Parent, Some(parent)) => {
            format!("renews {}, and from it {own}", parent.provider().name)
        }
        (Renew::Own, _) | (Renew::Parent, None) => format!("renews {own}"),
    }
}

fn replay(ask: &Ask, onward: &Onward, forwarded: &Forwarded, budget_bytes: usize) -> String {
    let length = ask.body().len();
    match onward.replay_limit {
        None => "this request is not sent again: replay = \"never\"".to_owned(),
        Some(_) if length == 0 => "this request is sent once more: it has no body".to_owned(),
        Some(limit) if forwarded.is_replayable => {
            let limit = bytes(limit);
            format!(
                "this request is sent once more: its body of {} is within {limit}",
                bytes(length)
            )
        }
        Some(limit) => {
            let limit = bytes(limit.min(budget_bytes));
            format!(
                "this request is not sent again: its body of {} is over {limit}",
                bytes(length)
            )
        }
    }
}

fn bytes(count: usize) -> String {
    match count {
        1 => "1 byte".to_owned(),
        _ if count > 0 && count.is_multiple_of(1024) => format!("{} KiB", count / 1024),
        _ => format!("{count} bytes"),
    }
}

/// Values that come from where callers keep credentials. Their own, but a terminal is looked at.
fn private<'a>(route: &Route, inputs: &'a Inputs) -> Vec<&'a str> {
    let is_private = |part: &RequestPart| match part {
        RequestPart::Header(name) => is_private_name(name.as_str()),
        RequestPart::Query(name) => is_private_name(name),
        RequestPart::Path(_) | RequestPart::Body(_) => false,
    };
    let rules = route.inputs.iter().enumerate();
    let rules = rules.filter(|(_, rule)| rule.value.references().any(is_private));
    rules.map(|(index, _)| inputs.get(index)).collect()
}

fn is_private_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PRIVATE_NAMES.iter().any(|part| name.contains(part))
}

const PRIVATE_NAMES: [&str; 6] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "key",
];

fn masked(text: &str, private: &[&str]) -> String {
    private
        .iter()
        .fold(text.to_owned(), |text, value| text.replace(value, MASK))
}
