//! What there is to tell about a request when it is over: to the log, and to whoever traces.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;

use super::UNMATCHED;
use super::problem::ProxyError;
use super::request_id::RequestId;
use super::route::{Destination, Route};
use super::verdict::MissingScopes;
use crate::metrics::spans::{Begun, Span, SpanKind, SpanValue, Spans, below};
use crate::metrics::{Replay, Unauthorized};

/// What there is to tell about a request when it is over. Filled in on the way, told by [`Proxy::handle`](super::Proxy::handle).
#[derive(Default)]
pub(super) struct Record {
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) span: Option<Begun>,
    pub(super) error: Option<ProxyError>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) upstream_took: Option<Duration>,
    pub(super) unauthorized: Option<Unauthorized>,
    pub(super) replay: Option<Replay>,
    pub(super) replay_took: Option<Duration>,
    pub(super) conflict: bool,
    pub(super) missing_scopes: Option<MissingScopes>,
}

impl Record {
    /// The upstream has refused the token, and nothing is done about it.
    pub(super) fn ignore_refusal(&mut self, missing_scopes: Option<MissingScopes>) {
        self.unauthorized = Some(Unauthorized::Ignored);
        self.missing_scopes = missing_scopes;
    }

    /// One line, of which nothing is made unless somebody wants it. The names are those of OpenTelemetry's conventions for
    /// HTTP; the path is not among them, because subjects and secrets may be in it.
    pub(super) fn tell(&self, status: u16, took: Duration) {
        tracing::debug!(
            http.request.method = self.method.as_str(),
            http.route = self.route_name(),
            http.response.status_code = status,
            server.address = self.upstream(),
            http.server.request.duration = took.as_secs_f64(),
            request_id = self.id.as_str(),
            unauthorized = self.unauthorized.map(Unauthorized::as_str),
            replay = self.replay.map(Replay::as_str),
            "error.type" = self.error.as_ref().map(ProxyError::slug),
            error = self.error.as_ref().map(tracing::field::display),
            "request"
        );
    }

    /// A span for the request, and below it one for its replay.
    pub(super) fn trace(&self, begun: Begun, status: u16, took: Duration, spans: &Spans) {
        let (method, route) = (self.method.as_str(), self.route_name());
        let now = SystemTime::now();
        let text = |key, value: Option<&str>| Some((key, SpanValue::Text(value?.to_owned())));
        let common = [
            text("http.request.method", Some(method)),
            text("http.route", Some(route)),
            text("server.address", self.upstream()),
            Some((
                "http.response.status_code",
                SpanValue::Number(i64::from(status)),
            )),
            text("error.type", self.error.as_ref().map(ProxyError::slug)),
        ];
        let common: Vec<_> = common.into_iter().flatten().collect();
        let unauthorized = text(
            "pillion.unauthorized",
            self.unauthorized.map(Unauthorized::as_str),
        );
        let mut attributes = common.clone();
        attributes.extend(unauthorized);
        spans.end(Span {
            place: begun,
            name: format!("{method} {route}"),
            kind: SpanKind::Server,
            began: now - took,
            took,
            failed: status >= 500,
            attributes,
        });
        if let (Some(outcome), Some(replay_took)) = (self.replay, self.replay_took) {
            let mut attributes = common;
            attributes.extend(text("pillion.replay", Some(outcome.as_str())));
            spans.end(Span {
                place: below(begun.own),
                name: "replay".to_owned(),
                kind: SpanKind::Client,
                began: now - replay_took,
                took: replay_took,
                failed: outcome == Replay::Error,
                attributes,
            });
        }
    }

    fn route_name(&self) -> &str {
        let route = self.route.as_ref();
        route.map_or(UNMATCHED, |route| route.name.as_str())
    }

    fn upstream(&self) -> Option<&str> {
        match &self.route.as_ref()?.destination {
            Destination::Upstream(onward) => Some(&onward.upstream.endpoint.settings().host),
            Destination::HandOut => None,
        }
    }
}
