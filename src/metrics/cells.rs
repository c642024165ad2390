//! What each request counts: cells that only one worker writes, summed when somebody looks.

use std::array::from_fn;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};

use super::RouteMetrics;

/// The cells of all routes, as a collector.
#[derive(Clone, Debug)]
pub(super) struct RequestCells {
    pub(super) workers: usize,
    in_flight: Arc<[InFlight]>,
    routes: Arc<Mutex<Routes>>,
    descriptions: Arc<[Desc; 4]>,
}

type Routes = BTreeMap<Arc<str>, Arc<RouteMetrics>>;

/// What one worker counts for one route. Only that worker writes, so a load and a store are enough.
#[derive(Debug, Default)]
#[repr(align(128))] // a cache line of its own, and its neighbour that the processor prefetches
pub(super) struct Cells {
    classes: [AtomicU64; CLASSES.len()],
    duration: HistogramCells,
    upstream_duration: HistogramCells,
}

/// What a route has counted, summed over the workers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    classes: [u64; CLASSES.len()],
    durations: [u64; DURATION_BUCKETS.len() + 1],
    replays: u64,
}

/// The requests of one worker. Only that worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlight(AtomicI64);

#[derive(Debug, Default)]
struct HistogramCells {
    buckets: [AtomicU64; DURATION_BUCKETS.len() + 1],
    sum_nanoseconds: AtomicU64,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

fn add(cell: &AtomicU64, n: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl Cells {
    /// A request has been answered.
    pub(super) fn answered(&self, status: u16, took: Duration, upstream: Option<Duration>) {
        if let Some(class) = self.classes.get(usize::from(status / 100).wrapping_sub(1)) {
            add(class, 1);
        }
        self.duration.observe(took);
        if let Some(upstream) = upstream {
            self.upstream_duration.observe(upstream);
        }
    }
}

impl HistogramCells {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(cell) = self.buckets.get(bucket.unwrap_or(DURATION_BUCKETS.len())) {
            add(cell, 1);
        }
        add(
            &self.sum_nanoseconds,
            u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        );
    }
}

impl RequestCells {
    pub(super) fn new(workers: usize) -> prometheus::Result<Self> {
        let describe = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(
                name.to_owned(),
                help.to_owned(),
                labels,
                std::collections::HashMap::new(),
            )
        };
        Ok(Self {
            workers,
            in_flight: (0..workers).map(|_| InFlight::default()).collect(),
            routes: Arc::default(),
            descriptions: Arc::new([
                describe(
                    "pillion_requests_total",
                    "Requests answered, by route and class of status.",
                    &["route", "status_class"],
                )?,
                describe(
                    "pillion_request_duration_seconds",
                    "From the request's head to the end of its answer.",
                    &["route"],
                )?,
                describe(
                    "pillion_upstream_duration_seconds",
                    "From sending a request to the head of the upstream's answer.",
                    &["route"],
                )?,
                describe("pillion_requests_in_flight", "Requests being served.", &[])?,
            ]),
        })
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.in_flight
            .iter()
            .map(|InFlight(cell)| cell.load(Ordering::Relaxed))
            .sum()
    }

    /// A request has begun (1) or ended (-1) on this worker.
    pub(super) fn change_in_flight(&self, worker: usize, change: i64) {
        if let Some(InFlight(cell)) = self.in_flight.get(worker) {
            cell.store(cell.load(Ordering::Relaxed) + change, Ordering::Relaxed);
        }
    }

    // A std mutex: held while somebody scrapes or a configuration is loaded, never by a request.
    pub(super) fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouteMetrics {
    pub(super) fn traffic(&self) -> Traffic {
        let cells = &self.cells;
        Traffic {
            classes: from_fn(|class| sum(cells, |cells| cells.classes.get(class))),
            durations: from_fn(|bucket| sum(cells, |cells| cells.duration.buckets.get(bucket))),
            replays: self.replays.iter().map(IntCounter::get).sum(),
        }
    }
}

impl Traffic {
    /// What has come since `earlier`; all of it if the counting began anew in between.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.requests() < earlier.requests() {
            return self.clone();
        }
        let less = |now: u64, then: u64| now.saturating_sub(then);
        let pairs = |now: &[u64], then: &[u64], at: usize| {
            less(
                now.get(at).copied().unwrap_or_default(),
                then.get(at).copied().unwrap_or_default(),
            )
        };
        Self {
            classes: from_fn(|class| pairs(&self.classes, &earlier.classes, class)),
            durations: from_fn(|bucket| pairs(&self.durations, &earlier.durations, bucket)),
            replays: less(self.replays, earlier.replays),
        }
    }

    /// Requests answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Those answered with 4xx.
    #[must_use]
    pub const fn client_errors(&self) -> u64 {
        let [.., client_errors, _] = self.classes;
        client_errors
    }

    /// Those answered with 5xx.
    #[must_use]
    pub const fn server_errors(&self) -> u64 {
        let [.., server_errors] = self.classes;
        server_errors
    }

    /// Requests sent again with a new token.
    #[must_use]
    pub const fn replays(&self) -> u64 {
        self.replays
    }

    /// So many seconds or less took this share of the requests, as Prometheus guesses it from the buckets; 30 is the most
    /// that it can tell. None without requests.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let whole: u64 = self.durations.iter().sum();
        if whole == 0 {
            return None;
        }
        let (mut before, mut lower) = (0.0, 0.0);
        let rank = as_f64(whole) * share;
        for (count, upper) in self.durations.iter().zip(DURATION_BUCKETS) {
            let count = as_f64(*count);
            if count > 0.0 && before + count >= rank {
                return Some(lower + (upper - lower) * (rank - before) / count);
            }
            before += count;
            lower = upper;
        }
        Some(lower)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a guess from buckets anyway")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

impl Collector for RequestCells {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [requests, duration, upstream, in_flight] = self.descriptions.as_ref();
        let mut counters = Vec::new();
        let mut durations = Vec::new();
        let mut upstreams = Vec::new();
        for (name, route) in self.lock().iter() {
            for (class, label) in CLASSES.iter().enumerate() {
                let sum = sum(&route.cells, |cells| cells.classes.get(class));
                counters.push(counter(&[("route", name), ("status_class", label)], sum));
            }
            durations.push(histogram(name, &route.cells, |cells| &cells.duration));
            upstreams.push(histogram(name, &route.cells, |cells| {
                &cells.upstream_duration
            }));
        }
        let mut gauge = proto::Gauge::default();
        #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
        gauge.set_value(self.in_flight() as f64);
        vec![
            family(requests, MetricType::COUNTER, counters),
            family(duration, MetricType::HISTOGRAM, durations),
            family(upstream, MetricType::HISTOGRAM, upstreams),
            family(
                in_flight,
                MetricType::GAUGE,
                vec![proto::Metric::from_gauge(gauge)],
            ),
        ]
    }
}

fn sum<'a>(cells: &'a [Cells], of: impl Fn(&'a Cells) -> Option<&'a AtomicU64>) -> u64 {
    cells
        .iter()
        .filter_map(of)
        .map(|cell| cell.load(Ordering::Relaxed))
        .sum()
}

fn family(description: &Desc, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(description.fq_name.clone());
    family.set_help(description.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labels(pairs: &[(&str, &str)]) -> Vec<proto::LabelPair> {
    pairs
        .iter()
        .map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]
fn counter(pairs: &[(&str, &str)], value: u64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value as f64);
    let mut metric = proto::Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

fn histogram(
    route: &str,
    cells: &[Cells],
    of: impl Fn(&Cells) -> &HistogramCells,
) -> proto::Metric {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(DURATION_BUCKETS.len());
    for (index, bound) in DURATION_BUCKETS.iter().enumerate() {
        count += sum(cells, |cells| of(cells).buckets.get(index));
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    count += sum(cells, |cells| of(cells).buckets.last());
    let nanoseconds = sum(cells, |cells| Some(&of(cells).sum_nanoseconds));
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(count);
    histogram.set_sample_sum(Duration::from_nanos(nanoseconds).as_secs_f64());
    let mut metric = proto::Metric::from_label(labels(&[("route", route)]));
    metric.set_histogram(histogram);
    metric
}
