//! What one provider counts.

use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::events::{EventKind, Events};
use super::spans::Spans;

/// The counters and gauges of one provider.
#[derive(Clone, Debug)]
pub struct ProviderMetrics {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
    pub(super) spans: Option<Spans>,
    /// `pillion_token_expiration_timestamp_seconds`
    pub expiration: Gauge,
    /// `pillion_token_issued_timestamp_seconds`
    pub issued: Gauge,
    /// `pillion_token_ready`
    pub ready: IntGauge,
    /// `pillion_tokens`
    pub tokens: IntGauge,
    pub(super) fetches: [[IntCounter; FETCH_OUTCOMES.len()]; FETCH_REASONS.len()],
    /// `pillion_token_fetch_duration_seconds`
    pub fetch_duration: Histogram,
    /// `pillion_token_wait_duration_seconds`
    pub wait_duration: Histogram,
    /// `pillion_token_consecutive_failures`
    pub consecutive_failures: IntGauge,
    /// `pillion_token_backoff_seconds`
    pub backoff: Gauge,
    /// `pillion_token_last_success_timestamp_seconds`
    pub last_success: Gauge,
    /// `pillion_token_lifetimes_clamped_total`
    pub lifetimes_clamped: IntCounter,
}

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FetchReason {
    /// The first for this subject.
    Startup,
    /// The one at hand is due.
    Scheduled,
    /// The one at hand has expired.
    Expired,
    /// An upstream refused the one at hand.
    Unauthorized,
    /// Somebody asked for it.
    Forced,
    /// The configuration changed.
    Reload,
}

/// How a fetch went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FetchOutcome {
    /// A token.
    Ok,
    /// The provider does not want us: a configuration fault.
    Refused,
    /// Too many requests.
    Throttled,
    /// Not reachable, or a server error.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// An answer without a usable token in it.
    Malformed,
}

impl ProviderMetrics {
    /// A fetch has ended.
    pub fn fetched(&self, reason: FetchReason, outcome: FetchOutcome, took: Duration) {
        let counters = self.fetches.get(reason as usize);
        if let Some(counter) = counters.and_then(|counters| counters.get(outcome as usize)) {
            counter.inc();
        }
        self.fetch_duration.observe(took.as_secs_f64());
    }

    /// Where the spans of its fetches go, if they are traced.
    #[must_use]
    pub const fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// A subject as status, events and log have it: hashed; none for the process itself.
    #[must_use]
    pub fn hashed<S: Hash>(&self, subject: Option<&S>) -> Option<String> {
        let key = self.events.subject_key();
        subject.map(|subject| format!("{:016x}", key.hash_one(subject)))
    }

    /// Something has happened to the token of `subject`; none is the process itself. `told` is in our words: nothing of a
    /// secret, and nothing that a provider said.
    pub fn happened<S: Hash>(&self, kind: EventKind, subject: Option<&S>, told: String) {
        self.events.happened_to(&self.name, subject, kind, told);
    }
}

impl FetchReason {
    /// As in the metric's label and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        FETCH_REASONS
            .get(self as usize)
            .copied()
            .unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Startup => "the first",
            Self::Scheduled => "the one before was due",
            Self::Expired => "the one before had expired",
            Self::Unauthorized => "the one before was refused",
            Self::Forced => "somebody asked for it",
            Self::Reload => "the configuration changed",
        }
    }
}

impl FetchOutcome {
    /// As in the metric's label and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        FETCH_OUTCOMES
            .get(self as usize)
            .copied()
            .unwrap_or_default()
    }
}

// In the order of the enums above.
pub(super) const FETCH_REASONS: [&str; 6] = [
    "startup",
    "scheduled",
    "expired",
    "unauthorized",
    "forced",
    "reload",
];
pub(super) const FETCH_OUTCOMES: [&str; 6] = [
    "ok",
    "refused",
    "throttled",
    "unavailable",
    "timeout",
    "malformed",
];
