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
}

impl Backoff {
    /// After `error`, which followed `previous` failures. `chance` from 0 to 1 is the jitter: full, so that many
    /// processes that failed together do not come back together.
    #[must_use]
    pub fn after(error: FetchError, previous: u32, now: Instant, chance: f64) -> Self {
        let doublings = previous.min(16);
        let delay = match Kind::of(&error) {
            Kind::Configuration => (CONFIGURATION_FIRST * (1 << doublings)).min(CONFIGURATION_MOST),
            Kind::Connection | Kind::Other => {
                let most = (TRANSIENT_FIRST * (1 << doublings)).min(TRANSIENT_MOST);
                FLOOR + (most - FLOOR).mul_f64(chance)
            }
        };
        let delay = error.retry_after().map_or(delay, |asked| asked.max(FLOOR));
        Self {
            failures: previous + 1,
            error,
            failed_at: now,
            delay,
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
            Some(most) if wanted => self.delay.min(most),
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
    fn transient_failures_double_from_a_second_to_a_minute_with_full_jitter() {
        let most: Vec<_> = (0..9)
            .map(|n| delay(&unavailable(None), n, 1.0, false))
            .collect();
        assert_eq!(most, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(delay(&unavailable(None), 8, 0.5, false), 30);
        assert_eq!(
            delay(&unavailable(None), 8, 0.0, false),
            1,
            "never less than a second"
        );
    }

    #[test]
    fn a_wanted_token_is_tried_for_soon_after_the_provider_may_be_back() {
        assert_eq!(delay(&unreachable(), 8, 1.0, true), 2);
        assert_eq!(delay(&unavailable(None), 8, 1.0, true), 10);
        assert_eq!(delay(&refused(), 8, 1.0, true), 900);
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
