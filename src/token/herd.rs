//! A fleet of processes with tokens of the same expiry: it does not arrive at the provider as a herd, neither to renew
//! nor after an outage. Ten thousand lives, drawn; no clock runs.

use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::life::Life;
use crate::clock::Moment;
use crate::provider::{FetchError, Lifetime};

const FLEET: usize = 10_000;

/// When each of the fleet renews a token of this lifetime, in seconds, in order.
fn renewals(lifetime: u64) -> Vec<f64> {
    let now = Moment::now();
    let mut random = fastrand::Rng::with_seed(1);
    let mut renewals: Vec<f64> = (0..FLEET)
        .map(|_| {
            let length = Lifetime::For(Duration::from_secs(lifetime));
            let life = Life::new(length, None, now, SystemTime::UNIX_EPOCH, random.f64());
            (life.due_at - now).as_secs_f64()
        })
        .collect();
    renewals.sort_by(f64::total_cmp);
    renewals
}

/// When each of the fleet arrives at a provider that was away for so long, in seconds since it is back, in order. All
/// have begun to ask at the same moment, after it had left.
fn arrivals(outage: Duration, error: &FetchError, wanted: bool) -> Vec<f64> {
    let began = Moment::now();
    let back_at = began + outage;
    let mut random = fastrand::Rng::with_seed(2);
    let mut arrivals: Vec<f64> = (0..FLEET)
        .map(|_| {
            let (mut asked_at, mut previous) = (began, None);
            while asked_at < back_at {
                let previous_one = previous.as_ref();
                let backoff = Backoff::after(error.clone(), previous_one, asked_at, random.f64());
                asked_at = backoff.until(wanted);
                previous = Some(backoff);
            }
            (asked_at - back_at).as_secs_f64()
        })
        .collect();
    arrivals.sort_by(f64::total_cmp);
    arrivals
}

/// The largest share of the fleet in any `seconds`.
fn peak(moments: &[f64], seconds: f64) -> f64 {
    let most = (0..moments.len())
        .map(|first| {
            let end = moments[first] + seconds;
            moments[first..].partition_point(|moment| *moment < end)
        })
        .max();
    most.unwrap_or(0) as f64 / FLEET as f64
}

fn unreachable() -> FetchError {
    FetchError::Unreachable {
        reason: "cannot connect".into(),
        detail: "refused".into(),
    }
}

#[test]
fn renewals_of_one_expiry_spread_evenly_over_a_tenth_of_the_life() {
    for (lifetime, window) in [(3600, 360.0), (600, 60.0), (60, 6.0), (30, 5.8)] {
        let renewals = renewals(lifetime);
        let spread = renewals[FLEET - 1] - renewals[0];
        assert!(spread > 0.99 * window, "{lifetime}: {spread}");
        let peak = peak(&renewals, 1.0);
        assert!(peak <= 2.0 / window, "{lifetime}: {peak} in one second");
    }
}

#[test]
fn a_fleet_whose_apps_wait_is_back_within_seconds_but_not_in_step() {
    for seconds in [5, 10, 30, 60, 600] {
        let outage = Duration::from_secs(seconds);
        // An attempt that cannot connect costs the provider nothing: within 2 s.
        let refused = arrivals(outage, &unreachable(), true);
        assert!(refused[FLEET - 1] <= 2.0);
        let at_once = peak(&refused, 0.1);
        assert!(
            at_once <= 0.15,
            "{seconds}: {at_once} in a tenth of a second"
        );
    }
    for seconds in [30, 60, 600] {
        let outage = Duration::from_secs(seconds);
        // Any other does: within 10 s, of which each is as good as the other.
        let answered = arrivals(outage, &FetchError::unavailable("503"), true);
        assert!(answered[FLEET - 1] <= 10.0);
        let peak = peak(&answered, 1.0);
        assert!(peak <= 0.16, "{seconds}: {peak} in one second");
    }
}

#[test]
fn a_fleet_that_nobody_calls_comes_back_over_minutes() {
    for error in [unreachable(), FetchError::unavailable("503")] {
        let arrivals = arrivals(Duration::from_mins(1), &error, false);
        assert!(arrivals[FLEET - 1] <= 120.0);
        let peak = peak(&arrivals, 1.0);
        assert!(peak <= 0.05, "{peak} in one second");
    }
}
