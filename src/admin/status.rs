//! What is going on, as data.

use std::hash::RandomState;
use std::net::SocketAddr;

use serde::Serialize;

use crate::clock::Moment;
use crate::config::reload::ConfigFile;
use crate::proxy::Plan;
use crate::proxy::route::{Destination, Route};
use crate::token::status::ProviderStatus;

/// Which process this is.
#[derive(Debug)]
pub struct Identity {
    /// When it started.
    pub started_at: Moment,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// With what subjects are hashed: another key in every process, so that nobody can look one up.
    pub subject_key: RandomState,
}

/// `/status`
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    uptime_seconds: u64,
    listening: Vec<SocketAddr>,
    config: ConfigStatus,
    providers: Vec<ProviderStatus>,
    routes: Vec<RouteStatus>,
}

#[derive(Debug, Serialize)]
struct ConfigStatus {
    loaded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    provider: String,
    /// None for a route that hands its token out.
    upstream: Option<String>,
}

impl Identity {
    /// Everything there is to tell.
    #[must_use]
    pub fn status(&self, plan: &Plan, config: &ConfigFile, now: Moment) -> Status {
        let error = config.last_error();
        let tokens = plan.providers.iter();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: (now - self.started_at).as_secs(),
            listening: self.listening.clone(),
            config: ConfigStatus {
                loaded: error.is_none(),
                error,
            },
            providers: tokens
                .map(|tokens| tokens.status(&self.subject_key, now))
                .collect(),
            routes: plan
                .routes
                .iter()
                .map(|route| route_status(route))
                .collect(),
        }
    }
}

fn route_status(route: &Route) -> RouteStatus {
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
    }
}
