//! What the webhook counts: reviews, by what became of them, and the certificate that it shows.

use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, Registry};

use super::register::{build_info, counters, rendered};

/// All metrics of a webhook. A clone counts into the same.
#[derive(Clone, Debug)]
pub struct Reviews {
    registry: Registry,
    answered: [IntCounter; OUTCOMES.len()],
    duration: Histogram,
    certificate_expiration: Gauge,
    certificate_reloads: [IntCounter; RELOADS.len()],
}

/// What became of a review.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReviewOutcome {
    /// pillion is put into the pod.
    Patched,
    /// The pod has not asked for it, or has it already.
    Unchanged,
    /// The pod's annotations make no sense.
    Refused,
    /// It was no review, too large, or broke off: the API server has no answer.
    Failed,
}

impl Reviews {
    /// All at 0.
    ///
    /// # Errors
    ///
    /// When two metrics have one name: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        build_info(&registry)?;
        let answered = counters(
            &registry,
            "pillion_webhook_reviews_total",
            "Reviews of pods, by what became of them.",
            &["outcome"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "pillion_webhook_review_duration_seconds",
                "How long a review takes, from its head to its answer.",
            )
            .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(duration.clone()))?;
        let certificate_expiration = Gauge::new(
            "pillion_webhook_certificate_expiration_timestamp_seconds",
            "When the certificate in use expires; 0 if it does not say so.",
        )?;
        registry.register(Box::new(certificate_expiration.clone()))?;
        let reloads = counters(
            &registry,
            "pillion_webhook_certificate_reloads_total",
            "Certificates loaded after the first, by outcome.",
            &["outcome"],
        )?;
        Ok(Self {
            registry,
            answered: OUTCOMES.map(|outcome| answered.with_label_values(&[outcome])),
            duration,
            certificate_expiration,
            certificate_reloads: RELOADS.map(|outcome| reloads.with_label_values(&[outcome])),
        })
    }

    /// A review has its answer.
    pub fn answered(&self, outcome: ReviewOutcome, took: Duration) {
        if let Some(counter) = self.answered.get(outcome as usize) {
            counter.inc();
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// The certificate in use is good until then, since the epoch.
    pub fn certificate_expires(&self, end: Duration) {
        self.certificate_expiration.set(end.as_secs_f64());
    }

    /// The files of the certificate have changed, and were loaded or not.
    pub fn certificate_reloaded(&self, is_loaded: bool) {
        let [loaded, failed] = &self.certificate_reloads;
        if is_loaded { loaded } else { failed }.inc();
    }

    /// All of it in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        rendered(&self.registry)
    }
}

// In the order of the enum above.
const OUTCOMES: [&str; 4] = ["patched", "unchanged", "refused", "failed"];
const RELOADS: [&str; 2] = ["ok", "error"];
/// The API server gives up after 5 s, if the chart's `timeoutSeconds` is not changed.
const BUCKETS: &[f64] = &[0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0];
