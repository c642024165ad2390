//! The clock that tokens, connections and requests age by: it goes on while the machine sleeps, and nobody can set it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment in the life of this machine since it was started, time in suspend included (`CLOCK_BOOTTIME`).
///
/// tokio's `Instant` stands still in suspend: a token of an hour would look fresh after a night in a closed laptop, or
/// in a virtual machine that was moved. It is for timers and timeouts, which are about time that is spent waiting.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(Duration);

impl Moment {
    /// This moment. In the unit tests it follows the paused clock.
    #[must_use]
    pub fn now() -> Self {
        Self(now())
    }

    /// The time since then; none if it is still to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// The time from `earlier` to this moment, if it is not the earlier one.
    #[must_use]
    pub const fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// The time from `earlier` to this moment; none if this is the earlier one.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Waits until then. If the machine sleeps in between, perhaps longer: timers stand still with it.
pub async fn sleep_until(then: Moment) {
    tokio::time::sleep(then - Moment::now()).await;
}

#[cfg(not(test))]
fn now() -> Duration {
    use nix::time::{ClockId, clock_gettime};

    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

    // Cannot fail for a clock that there is.
    clock_gettime(CLOCK).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
use self::paused::now;

/// The clock of a test: tokio's, so that it can be paused, and the sleep that the test tells of.
#[cfg(test)]
pub(crate) mod paused {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::time::Duration;

    use tokio::time::Instant;

    thread_local! {
        static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// The machine sleeps for this long, as this thread sees it.
    pub(crate) fn suspend(time: Duration) {
        SLEPT.set(SLEPT.get() + time);
    }

    pub(super) fn now() -> Duration {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        let (beginning, now) = (*BEGINNING.get_or_init(Instant::now), Instant::now());
        // Another test's clock may have begun later.
        let since = LONG_AGO + (now - beginning) - (beginning - now);
        since + SLEPT.get()
    }

    const LONG_AGO: Duration = Duration::from_hours(24);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_in_suspend_counts() {
        let before = Moment::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        paused::suspend(Duration::from_hours(1));
        assert_eq!(before.elapsed(), Duration::from_secs(3605));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_is_over_is_not_waited_for() {
        let began = tokio::time::Instant::now();
        sleep_until(Moment::now()).await;
        sleep_until(Moment::now() + Duration::from_secs(3)).await;
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
