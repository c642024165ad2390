//! What is going on, as data.

use std::hash::RandomState;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::traffic::{Recent, Window};
use crate::clock::Moment;
use crate::config::reload::ConfigFile;
use crate::metrics::events::{Event, Events};
use crate::metrics::{Metrics, Traffic};
use crate::proxy::route::{Destination, Route};
use crate::proxy::{Plan, UNMATCHED};
use crate::token::status::ProviderStatus;

/// Which process this is, and what it remembers.
#[derive(Debug)]
pub struct Identity {
    /// When it started.
    pub started_at: Moment,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// What its routes did lately.
    pub recent: Recent,
    /// What has happened lately.
    pub events: Events,
}

/// `/status`
#[derive(Debug, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Where the app calls.
    pub listening: Vec<SocketAddr>,
    /// The file on disk.
    pub config: ConfigStatus,
    /// All providers, in the order of the file.
    pub providers: Vec<ProviderStatus>,
    /// How far the figures of routes go back: five minutes, or to the start.
    pub window_seconds: f64,
    /// All routes, in the order of the file.
    pub routes: Vec<RouteStatus>,
    /// What no route took.
    pub unmatched: TrafficStatus,
    /// What has happened, the latest first.
    pub events: Vec<EventStatus>,
}

/// The file on disk.
#[derive(Debug, Serialize)]
pub struct ConfigStatus {
    /// Whether it is in use.
    pub loaded: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One route.
#[derive(Debug, Serialize)]
pub struct RouteStatus {
    /// As in the configuration.
    pub name: String,
    /// Whose token its requests carry.
    pub provider: String,
    /// None for a route that hands its token out.
    pub upstream: Option<String>,
    /// What it did lately.
    #[serde(flatten)]
    pub traffic: TrafficStatus,
}

/// What a route did in the window.
#[derive(Debug, Serialize)]
pub struct TrafficStatus {
    /// Requests answered.
    pub requests: u64,
    /// The same by time.
    pub requests_per_second: f64,
    /// Those answered with 4xx.
    pub client_errors: u64,
    /// Those answered with 5xx.
    pub server_errors: u64,
    /// 99 of 100 took no longer; 30 means that or more. None without requests.
    pub p99_seconds: Option<f64>,
    /// Those sent again with a new token.
    pub replays: u64,
}

/// Something that has happened.
#[derive(Debug, Serialize)]
pub struct EventStatus {
    /// Since then.
    pub age_seconds: f64,
    /// When, in seconds since 1970.
    pub timestamp_seconds: f64,
    /// `fetched`, `renewed`, `revoked`, `failed`, `reload`, `reload_failed`.
    pub kind: &'static str,
    /// Whose token it is about, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whose in particular, hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// In a sentence.
    pub told: String,
}

impl Identity {
    /// A process that starts now, and counts in `metrics`.
    #[must_use]
    pub fn new(listening: Vec<SocketAddr>, metrics: &Metrics) -> Self {
        let started_at = Moment::now();
        Self {
            started_at,
            listening,
            recent: Recent::new(metrics.clone(), started_at),
            events: metrics.events().clone(),
        }
    }

    /// Everything there is to tell.
    #[must_use]
    pub fn status(&self, plan: &Plan, config: &ConfigFile, now: Moment) -> Status {
        let error = config.last_error();
        let key: &RandomState = self.events.subject_key();
        let window = self.recent.window(now);
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: (now - self.started_at).as_secs(),
            listening: self.listening.clone(),
            config: ConfigStatus {
                loaded: error.is_none(),
                error,
            },
            providers: plan
                .providers
                .iter()
                .map(|tokens| tokens.status(key, now))
                .collect(),
            window_seconds: window.length.as_secs_f64(),
            routes: plan
                .routes
                .0
                .iter()
                .map(|route| route_status(route, &window))
                .collect(),
            unmatched: traffic_status(&window.of(UNMATCHED), &window),
            events: self
                .events
                .recent()
                .into_iter()
                .map(|event| event_status(event, now))
                .collect(),
        }
    }
}

fn route_status(route: &Route, window: &Window) -> RouteStatus {
    let upstream = match &route.destination {
        Destination::Upstream(onward) => {
            let host = onward.upstream.host.to_str().unwrap_or_default();
            Some(format!("{host}{}", onward.upstream.base_path))
        }
        Destination::HandOut => None,
    };
    RouteStatus {
        name: route.name.clone(),
        provider: route.tokens.provider().name.as_ref().to_owned(),
        upstream,
        traffic: traffic_status(&window.of(&route.name), window),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn traffic_status(traffic: &Traffic, window: &Window) -> TrafficStatus {
    let requests = traffic.requests();
    TrafficStatus {
        requests,
        requests_per_second: requests as f64 / window.length.as_secs_f64().max(1.0),
        client_errors: traffic.client_errors(),
        server_errors: traffic.server_errors(),
        p99_seconds: traffic.quantile(0.99),
        replays: traffic.replays(),
    }
}

fn event_status(event: Event, now: Moment) -> EventStatus {
    let since_1970 = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    EventStatus {
        age_seconds: (now - event.moment).as_secs_f64(),
        timestamp_seconds: since_1970.as_secs_f64(),
        kind: event.kind.as_str(),
        provider: event.provider.map(|name| name.as_ref().to_owned()),
        subject: event.subject.map(|hash| format!("{hash:016x}")),
        told: event.told,
    }
}
