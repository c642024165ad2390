//! How long a provider that failed is left alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::FetchError;

/// The state after a failed fetch.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub error: FetchError,
    failed_at: Instant,
    delay: Duration,
    /// What is left of a delay by the jitter.
    share: f64,
}

impl Backoff {
    /// After `error`, which followed `previous` failures. `chance` from 0 to 1 makes the delay up to a quarter shorter, so
    /// that many processes that failed together do not come back together. More would be more attempts: with a quarter, an
    /// outage of five minutes costs twelve at the most.
    #[must_use]
    pub fn after(error: FetchError, previous: u32, now: Instant, chance: f64) -> Self {
        let (first, most) = match Kind::of(&error) {
            Kind::Configuration => (CONFIGURATION_FIRST, CONFIGURATION_MOST),
            Kind::Connection | Kind::Other => (TRANSIENT_FIRST, TRANSIENT_MOST),
        };
        let share = 1.0 - JITTER * chance;
        let doubled = (first * (1 << previous.min(16))).min(most);
        let delay = error.retry_after().unwrap_or(doubled.mul_f64(share));
        Self {
            failures: previous + 1,
            error,
            failed_at: now,
            delay: delay.max(FLOOR),
            share,
        }
    }

    /// When the provider may be asked again. Sooner while a request wants a token and there is none (`wanted`).
    #[must_use]
    pub fn until(&self, wanted: bool) -> Instant {
        let sooner = match Kind::of(&self.error) {
            _ if self.error.retry_after().is_some() => None,
            Kind::Connection => Some(WANTED_AFTER_CONNECTION_FAILURE),
            Kind::Other => Some(WANTED_AFTER_ANSWER),
            Kind::Configuration => None,
        };
        let delay = match sooner {
            Some(most) if wanted => self.delay.min(most.mul_f64(self.share)),
            _ => self.delay,
        };
        self.failed_at + delay
    }
}

/// What kind of failure it is, as far as waiting is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// The attempt cost the provider nothing.
    Connection,
    /// The provider answered, or may have worked on an answer.
    Other,
    /// Trying again changes nothing until somebody changes something.
    Configuration,
}

impl Kind {
    const fn of(error: &FetchError) -> Self {
        match error {
            FetchError::Unreachable { .. } => Self::Connection,
            FetchError::Refused { .. } => Self::Configuration,
            FetchError::Secret(_)
            | FetchError::Throttled { .. }
            | FetchError::Unavailable { .. }
            | FetchError::Timeout { .. }
            | FetchError::Malformed { .. } => Self::Other,
        }
    }
}

/// Between two attempts for one token there is at least this.
pub(super) const FLOOR: Duration = Duration::from_secs(1);
const JITTER: f64 = 0.25;
const TRANSIENT_FIRST: Duration = Duration::from_secs(1);
const TRANSIENT_MOST: Duration = Duration::from_secs(60);
const CONFIGURATION_FIRST: Duration = Duration::from_secs(60);
const CONFIGURATION_MOST: Duration = Duration::from_mins(15);
const WANTED_AFTER_CONNECTION_FAILURE: Duration = Duration::from_secs(2);
const WANTED_AFTER_ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(retry_after: Option<u64>) -> FetchError {
        FetchError::Unavailable {
            reason: "503".into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn unreachable() -> FetchError {
        FetchError::Unreachable {
            reason: "cannot connect".into(),
            detail: "refused".into(),
        }
    }

    fn refused() -> FetchError {
        FetchError::Refused {
            error: "invalid_client".into(),
        }
    }

    fn delay(error: &FetchError, previous: u32, chance: f64, wanted: bool) -> u64 {
        let now = Instant::now();
        let backoff = Backoff::after(error.clone(), previous, now, chance);
        (backoff.until(wanted) - now).as_secs()
    }

    #[test]
    fn transient_failures_double_from_a_second_to_a_minute_less_up_to_a_quarter() {
        let most: Vec<_> = (0..9)
            .map(|n| delay(&unavailable(None), n, 0.0, false))
            .collect();
        assert_eq!(most, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(delay(&unavailable(None), 8, 1.0, false), 45);
        assert_eq!(
            delay(&unavailable(None), 0, 1.0, false),
            1,
            "never less than a second"
        );
    }

    #[test]
    fn a_wanted_token_is_tried_for_soon_after_the_provider_may_be_back() {
        assert_eq!(delay(&unreachable(), 8, 0.0, true), 2);
        assert_eq!(delay(&unavailable(None), 8, 0.0, true), 10);
        assert_eq!(delay(&refused(), 8, 0.0, true), 900);
        let spread = |chance| Backoff::after(unavailable(None), 8, Instant::now(), chance);
        let first = spread(1.0);
        assert_eq!(
            first.until(true) - first.failed_at,
            Duration::from_millis(7500)
        );
    }

    #[test]
    fn retry_after_is_obeyed_up_to_an_hour() {
        assert_eq!(delay(&unavailable(Some(120)), 0, 0.0, true), 120);
        assert_eq!(delay(&unavailable(Some(1_000_000)), 0, 0.0, true), 3600);
        assert_eq!(delay(&unavailable(Some(0)), 0, 0.0, true), 1);
    }

    #[test]
    fn configuration_faults_double_from_a_minute_to_a_quarter_of_an_hour() {
        let most: Vec<_> = (0..6).map(|n| delay(&refused(), n, 0.0, false)).collect();
        assert_eq!(most, [60, 120, 240, 480, 900, 900]);
    }
}
