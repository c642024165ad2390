//! How long a provider that failed is left alone.

use std::time::Duration;

use crate::clock::Moment;
use crate::provider::FetchError;

/// The state after a failed fetch.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub error: FetchError,
    failed_at: Moment,
    delay: Duration,
    /// The end of the window in which the next attempt falls.
    window_ends: Moment,
    /// What the jitter leaves of the time that a request has to wait at the most.
    share: f64,
}

impl Backoff {
    /// After `error`, and after `previous` if that was not the first. `chance` from 0 to 1 is the jitter.
    ///
    /// Attempts fall into windows that follow each other, of 1 s, 2 s, 4 s up to 60 s, and anywhere within theirs: many
    /// processes that failed together do not come back together, and still no more than eleven attempts of each fall into
    /// five minutes. Drawing each delay from nought on would make that sixteen.
    #[must_use]
    pub fn after(error: FetchError, previous: Option<&Self>, now: Moment, chance: f64) -> Self {
        let failures = previous.map_or(0, |previous| previous.failures);
        let doubled = |first: Duration, most| (first * (1 << failures.min(16))).min(most);
        let (window, lands_at) = match Kind::of(&error) {
            Kind::Configuration => (doubled(CONFIGURATION_FIRST, CONFIGURATION_MOST), 1.0),
            Kind::Connection | Kind::Other => (doubled(TRANSIENT_FIRST, TRANSIENT_MOST), chance),
        };
        // An attempt that a request has brought forward begins a row of windows anew.
        let in_a_row = |previous: &&Self| previous.until(false) <= now;
        let begins = previous
            .filter(in_a_row)
            .map_or(now, |previous| previous.window_ends.max(now));
        let delay = (begins - now) + window.mul_f64(lands_at);
        Self {
            failures: failures + 1,
            delay: error.retry_after().unwrap_or(delay).max(FLOOR),
            error,
            failed_at: now,
            window_ends: begins + window,
            share: 1.0 - WANTED_JITTER * chance,
        }
    }

    /// When the provider may be asked again. Sooner while a request wants a token and there is none (`wanted`).
    #[must_use]
    pub fn until(&self, wanted: bool) -> Moment {
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
const TRANSIENT_FIRST: Duration = Duration::from_secs(1);
const TRANSIENT_MOST: Duration = Duration::from_secs(60);
const CONFIGURATION_FIRST: Duration = Duration::from_secs(60);
const CONFIGURATION_MOST: Duration = Duration::from_mins(15);
const WANTED_AFTER_CONNECTION_FAILURE: Duration = Duration::from_secs(2);
const WANTED_AFTER_ANSWER: Duration = Duration::from_secs(10);
/// Of these two, up to this share less: tokens that end together are not wanted in step for ever.
const WANTED_JITTER: f64 = 0.25;

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

    /// The whole seconds until the next attempt after this many failures in a row.
    fn delay(error: &FetchError, previous: u32, chance: f64, wanted: bool) -> u64 {
        let mut backoff = Backoff::after(error.clone(), None, Moment::now(), chance);
        for _ in 0..previous {
            let failed_at = backoff.until(false);
            backoff = Backoff::after(error.clone(), Some(&backoff), failed_at, chance);
        }
        (backoff.until(wanted) - backoff.failed_at).as_secs()
    }

    #[test]
    fn transient_failures_double_from_a_second_to_a_minute() {
        let most: Vec<_> = (0..9)
            .map(|n| delay(&unavailable(None), n, 1.0, false))
            .collect();
        assert_eq!(most, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(
            delay(&unavailable(None), 0, 0.0, false),
            1,
            "never less than a second"
        );
    }

    #[test]
    fn an_attempt_falls_anywhere_within_its_window() {
        let first = Backoff::after(unreachable(), None, Moment::now(), 1.0);
        let (mut previous, mut begins) = (first.clone(), first.until(false));
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let window = Duration::from_secs(seconds);
            for chance in [0.0, 0.25, 0.5, 0.99] {
                let failed_at = previous.until(false);
                let next = Backoff::after(unreachable(), Some(&previous), failed_at, chance);
                let lands_at = begins + window.mul_f64(chance);
                assert!(
                    next.until(false) - lands_at <= FLOOR,
                    "{seconds} s, {chance}"
                );
                assert!(next.until(false) >= lands_at, "{seconds} s, {chance}");
            }
            // Somewhere in it: where, makes no difference to the next window.
            previous = Backoff::after(unreachable(), Some(&previous), previous.until(false), 0.3);
            begins = begins + window;
        }
    }

    #[test]
    fn whatever_the_jitter_five_minutes_cost_eleven_attempts_at_the_most() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let began = Moment::now();
            let mut backoff = Backoff::after(unreachable(), None, began, random.f64());
            while backoff.until(false) < began + Duration::from_mins(5) {
                let failed_at = backoff.until(false);
                backoff = Backoff::after(unreachable(), Some(&backoff), failed_at, random.f64());
            }
            assert!((9..=11).contains(&backoff.failures), "{}", backoff.failures);
        }
    }

    #[test]
    fn a_wanted_token_is_tried_for_soon_after_the_provider_may_be_back() {
        assert_eq!(delay(&refused(), 8, 0.5, true), 900);
        for chance in [0.0, 0.5, 1.0] {
            let now = Moment::now();
            let long = Backoff::after(unavailable(None), None, now, chance);
            let long = Backoff {
                delay: TRANSIENT_MOST,
                ..long
            };
            let soon = 10.0 - 2.5 * chance;
            assert_eq!((long.until(true) - now).as_secs_f64(), soon);
            let long = Backoff {
                error: unreachable(),
                ..long
            };
            assert_eq!((long.until(true) - now).as_secs_f64(), soon / 5.0);
        }
    }

    #[test]
    fn an_attempt_that_a_request_brought_forward_delays_no_other() {
        let (mut now, mut previous) = (Moment::now(), None);
        for _ in 0..100 {
            let backoff = Backoff::after(unreachable(), previous.as_ref(), now, 1.0);
            assert!(backoff.until(false) - now <= TRANSIENT_MOST);
            now = backoff.until(true);
            previous = Some(backoff);
        }
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
