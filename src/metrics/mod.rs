//! Every metric: its name, its help, its labels.
//!
//! What each request counts lies in [`cells`] that only its worker writes, and is summed when somebody looks. The rest
//! happens seldom and is counted by the prometheus crate's own types. No label ever holds a subject, a path or a secret.

mod cells;
pub mod events;
mod provider;
mod register;
pub mod reviews;
mod route;
pub mod spans;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

pub use self::cells::Traffic;
use self::cells::{Cells, RequestCells};
use self::events::Events;
use self::provider::{FETCH_OUTCOMES, FETCH_REASONS};
pub use self::provider::{FetchOutcome, FetchReason, ProviderMetrics};
use self::register::{build_info, counters, gauges, histograms, int_gauges, rendered};
use self::route::{REPLAYS, UNAUTHORIZED};
pub use self::route::{Replay, RouteMetrics, Unauthorized};
use self::spans::Spans;

/// All metrics of the process.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    requests: RequestCells,
    unauthorized: IntCounterVec,
    replays: IntCounterVec,
    header_conflicts: IntCounterVec,
    token_expiration: GaugeVec,
    token_issued: GaugeVec,
    token_ready: IntGaugeVec,
    tokens: IntGaugeVec,
    token_fetches: IntCounterVec,
    token_fetch_duration: HistogramVec,
    token_wait_duration: HistogramVec,
    token_consecutive_failures: IntGaugeVec,
    token_backoff: GaugeVec,
    token_last_success: GaugeVec,
    token_lifetimes_clamped: IntCounterVec,
    config_reloads: IntCounterVec,
    config_last_reload_successful: IntGauge,
    events: Events,
    spans: OnceLock<Spans>,
    trace_spans: IntCounterVec,
    ready: IntGauge,
    time: Gauge,
}

impl Metrics {
    /// Metrics for this many workers, all at 0.
    ///
    /// # Errors
    ///
    /// When two metrics have one name: a mistake in this file.
    pub fn new(workers: usize) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let requests = RequestCells::new(workers)?;
        registry.register(Box::new(requests.clone()))?;
        let families = Families {
            requests,
            unauthorized: counters(
                &registry,
                "pillion_unauthorized_total",
                "401 answers of upstreams, by what was done about them.",
                &["route", "action"],
            )?,
            replays: counters(
                &registry,
                "pillion_replays_total",
                "Requests sent again with a new token, by how that went.",
                &["route", "outcome"],
            )?,
            header_conflicts: counters(
                &registry,
                "pillion_header_conflicts_total",
                "Requests that brought a header which the route sets.",
                &["route"],
            )?,
            token_expiration: gauges(
                &registry,
                "pillion_token_expiration_timestamp_seconds",
                "When the provider's token expires, soonest first; 0 without one, +Inf if it never does.",
            )?,
            token_issued: gauges(
                &registry,
                "pillion_token_issued_timestamp_seconds",
                "When the provider's newest token was issued; 0 without one.",
            )?,
            token_ready: int_gauges(
                &registry,
                "pillion_token_ready",
                "1 while the provider has a token that can be used.",
            )?,
            tokens: int_gauges(&registry, "pillion_tokens", "Tokens held for the provider.")?,
            token_fetches: counters(
                &registry,
                "pillion_token_fetches_total",
                "Token fetches, by why and by how they went.",
                &["provider", "reason", "outcome"],
            )?,
            token_fetch_duration: histograms(
                &registry,
                "pillion_token_fetch_duration_seconds",
                "How long token fetches take.",
                FETCH_BUCKETS,
            )?,
            token_wait_duration: histograms(
                &registry,
                "pillion_token_wait_duration_seconds",
                "How long requests wait for a token that is not at hand.",
                WAIT_BUCKETS,
            )?,
            token_consecutive_failures: int_gauges(
                &registry,
                "pillion_token_consecutive_failures",
                "Token fetches that failed since the last that did not.",
            )?,
            token_backoff: gauges(
                &registry,
                "pillion_token_backoff_seconds",
                "Time until the provider is asked again; 0 if at once.",
            )?,
            token_last_success: gauges(
                &registry,
                "pillion_token_last_success_timestamp_seconds",
                "When the last token fetch succeeded; 0 if none did.",
            )?,
            token_lifetimes_clamped: counters(
                &registry,
                "pillion_token_lifetimes_clamped_total",
                "Token answers whose lifetime was zero, negative or absurd.",
                &["provider"],
            )?,
            config_reloads: counters(
                &registry,
                "pillion_config_reloads_total",
                "Configurations loaded after the first, by outcome.",
                &["outcome"],
            )?,
            config_last_reload_successful: {
                let gauge = IntGauge::new(
                    "pillion_config_last_reload_successful",
                    "1 if the configuration on disk is the one in use.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge.set(1);
                gauge
            },
            events: Events::default(),
            spans: OnceLock::new(),
            trace_spans: counters(
                &registry,
                "pillion_trace_spans_total",
                "Spans on their way to the collector, by what became of them.",
                &["outcome"],
            )?,
            ready: {
                let gauge = IntGauge::new(
                    "pillion_ready",
                    "1 once every provider that is `warm` has had a token, as /readyz says.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            time: {
                let gauge = Gauge::new(
                    "pillion_time_seconds",
                    "What this machine's clock says, to be compared with Prometheus' own.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            registry,
        };
        build_info(&families.registry)?;
        for outcome in ["ok", "error"] {
            families.config_reloads.with_label_values(&[outcome]);
        }
        for outcome in ["sent", "dropped"] {
            families.trace_spans.with_label_values(&[outcome]);
        }
        Ok(Self(Arc::new(families)))
    }

    /// The metrics of one route; the same ones whenever the name is the same.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let families = &self.0;
        let mut routes = families.requests.lock();
        let metrics = routes.entry(name.into()).or_insert_with(|| {
            let by = |family: &IntCounterVec, label: &str| family.with_label_values(&[name, label]);
            Arc::new(RouteMetrics {
                cells: (0..families.requests.workers)
                    .map(|_| Cells::default())
                    .collect(),
                unauthorized: UNAUTHORIZED.map(|label| by(&families.unauthorized, label)),
                replays: REPLAYS.map(|label| by(&families.replays, label)),
                header_conflicts: families.header_conflicts.with_label_values(&[name]),
            })
        });
        Arc::clone(metrics)
    }

    /// The metrics of one provider.
    #[must_use]
    pub fn provider(&self, name: &str) -> ProviderMetrics {
        let families = &self.0;
        ProviderMetrics {
            name: name.into(),
            events: families.events.clone(),
            spans: families.spans.get().cloned(),
            expiration: families.token_expiration.with_label_values(&[name]),
            issued: families.token_issued.with_label_values(&[name]),
            ready: families.token_ready.with_label_values(&[name]),
            tokens: families.tokens.with_label_values(&[name]),
            fetches: FETCH_REASONS.map(|reason| {
                FETCH_OUTCOMES.map(|outcome| {
                    families
                        .token_fetches
                        .with_label_values(&[name, reason, outcome])
                })
            }),
            fetch_duration: families.token_fetch_duration.with_label_values(&[name]),
            wait_duration: families.token_wait_duration.with_label_values(&[name]),
            consecutive_failures: families
                .token_consecutive_failures
                .with_label_values(&[name]),
            backoff: families.token_backoff.with_label_values(&[name]),
            last_success: families.token_last_success.with_label_values(&[name]),
            lifetimes_clamped: families.token_lifetimes_clamped.with_label_values(&[name]),
        }
    }

    /// What each route has counted since the start, by its name.
    #[must_use]
    pub fn traffic(&self) -> Vec<(Arc<str>, Traffic)> {
        let routes = self.0.requests.lock();
        let each = routes.iter();
        each.map(|(name, route)| (Arc::clone(name), route.traffic()))
            .collect()
    }

    /// From now on requests and fetches that begin are traced, and their spans go to `spans`. To be called before anything
    /// is, and once.
    pub fn trace_to(&self, spans: Spans) {
        self.0.spans.set(spans).ok();
    }

    /// Where spans go, if requests are traced.
    #[must_use]
    pub fn spans(&self) -> Option<&Spans> {
        self.0.spans.get()
    }

    /// So many spans have reached the collector.
    pub fn spans_sent(&self, count: u64) {
        self.0
            .trace_spans
            .with_label_values(&["sent"])
            .inc_by(count);
    }

    /// So many spans have not, and will not.
    pub fn spans_dropped(&self, count: u64) {
        self.0
            .trace_spans
            .with_label_values(&["dropped"])
            .inc_by(count);
    }

    /// What has happened lately.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Forgets the series of routes and providers that are no longer configured.
    pub fn retain(&self, is_route: impl Fn(&str) -> bool, gone_providers: &[String]) {
        let families = &self.0;
        families.requests.lock().retain(|name, _| {
            let keep = is_route(name);
            if !keep {
                for label in UNAUTHORIZED {
                    families
                        .unauthorized
                        .remove_label_values(&[name, label])
                        .ok();
                }
                for label in REPLAYS {
                    families.replays.remove_label_values(&[name, label]).ok();
                }
                families.header_conflicts.remove_label_values(&[name]).ok();
            }
            keep
        });
        for name in gone_providers {
            self.forget_provider(name);
        }
    }

    fn forget_provider(&self, name: &str) {
        let families = &self.0;
        for gauges in [
            &families.token_expiration,
            &families.token_issued,
            &families.token_backoff,
            &families.token_last_success,
        ] {
            gauges.remove_label_values(&[name]).ok();
        }
        for gauges in [
            &families.token_ready,
            &families.tokens,
            &families.token_consecutive_failures,
        ] {
            gauges.remove_label_values(&[name]).ok();
        }
        for histograms in [
            &families.token_fetch_duration,
            &families.token_wait_duration,
        ] {
            histograms.remove_label_values(&[name]).ok();
        }
        for reason in FETCH_REASONS {
            for outcome in FETCH_OUTCOMES {
                families
                    .token_fetches
                    .remove_label_values(&[name, reason, outcome])
                    .ok();
            }
        }
        families
            .token_lifetimes_clamped
            .remove_label_values(&[name])
            .ok();
    }

    /// A configuration has been loaded after the first, or refused.
    pub fn reloaded(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "error" };
        self.0.config_reloads.with_label_values(&[outcome]).inc();
        self.0.config_last_reload_successful.set(i64::from(ok));
    }

    /// What is only known when somebody looks: whether pillion is ready, and how late it is.
    pub fn observe(&self, ready: bool, since_epoch: Duration) {
        self.0.ready.set(i64::from(ready));
        self.0.time.set(since_epoch.as_secs_f64());
    }

    /// A request has begun (1) or ended (-1) on this worker.
    pub fn in_flight(&self, worker: usize, change: i64) {
        self.0.requests.change_in_flight(worker, change);
    }

    /// Requests that are being served now.
    #[must_use]
    pub fn requests_in_flight(&self) -> i64 {
        self.0.requests.in_flight()
    }

    /// The text exposition (Prometheus format 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        rendered(&self.0.registry)
    }
}

const FETCH_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const WAIT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_at_nought_before_anything_happens() {
        let metrics = Metrics::new(2).unwrap();
        let _route = metrics.route("r");
        let _provider = metrics.provider("p");
        let text = metrics.render();
        for series in [
            r#"pillion_requests_total{route="r",status_class="5xx"} 0"#,
            r#"pillion_request_duration_seconds_count{route="r"} 0"#,
            r#"pillion_unauthorized_total{action="guarded",route="r"} 0"#,
            r#"pillion_token_fetches_total{outcome="malformed",provider="p",reason="expired"} 0"#,
            r#"pillion_token_ready{provider="p"} 0"#,
            "pillion_requests_in_flight 0",
            r#"pillion_config_reloads_total{outcome="error"} 0"#,
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn the_cells_of_all_workers_are_summed() {
        let metrics = Metrics::new(2).unwrap();
        let route = metrics.route("r");
        for worker in [0, 1, 1] {
            let (took, upstream) = (Duration::from_millis(2), Duration::from_millis(1));
            metrics.in_flight(worker, 1);
            route.answered(worker, 204, took, Some(upstream));
            metrics.in_flight(worker, -1);
        }
        metrics.in_flight(0, 1);
        assert_eq!(metrics.requests_in_flight(), 1);
        let text = metrics.render();
        assert!(text.contains(r#"pillion_requests_total{route="r",status_class="2xx"} 3"#));
        assert!(
            text.contains(r#"pillion_request_duration_seconds_bucket{route="r",le="0.0025"} 3"#)
        );
        assert!(
            text.contains(r#"pillion_upstream_duration_seconds_bucket{route="r",le="0.001"} 3"#)
        );
    }

    #[test]
    fn traffic_is_told_since_an_earlier_look() {
        let metrics = Metrics::new(2).unwrap();
        let route = metrics.route("r");
        let answer = |status, milliseconds| {
            route.answered(0, status, Duration::from_millis(milliseconds), None);
        };
        assert_eq!(Traffic::default().quantile(0.99), None);
        for _ in 0..100 {
            answer(200, 2);
        }
        let [(_, earlier)] = metrics.traffic().try_into().unwrap();
        // The second hundredth of a bucket from 1 ms to 2.5 ms, by whose end all are answered.
        assert!((earlier.quantile(0.99).unwrap() - 0.002_485).abs() < 1e-9);
        route.replayed(Replay::Recovered);
        for status in [200, 404, 500, 503] {
            answer(status, 60_000);
        }
        let [(name, now)] = metrics.traffic().try_into().unwrap();
        let since = now.since(&earlier);
        assert_eq!(&*name, "r");
        assert_eq!(
            (
                since.requests(),
                since.client_errors(),
                since.server_errors(),
                since.replays()
            ),
            (4, 1, 2, 1)
        );
        assert_eq!(since.quantile(0.99), Some(30.0));
        assert_eq!(earlier.since(&now), earlier, "counted anew");
    }

    #[test]
    fn what_is_no_longer_configured_is_forgotten() {
        let metrics = Metrics::new(1).unwrap();
        let _kept = metrics.route("kept");
        let _gone = (metrics.route("gone"), metrics.provider("lost"));
        metrics.retain(|name| name == "kept", &["lost".to_owned()]);
        let text = metrics.render();
        assert!(text.contains("kept") && !text.contains("gone") && !text.contains("lost"));
    }
}
