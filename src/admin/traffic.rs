//! What the routes did in the last minutes: looks, now and then, at what is counted anyway.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Moment;
use crate::metrics::{Metrics, Traffic};

/// The looks of the last five minutes.
#[derive(Debug)]
pub struct Recent {
    metrics: Metrics,
    looks: Mutex<VecDeque<Look>>,
    started_at: Moment,
}

#[derive(Debug)]
struct Look {
    at: Moment,
    /// Sorted by name.
    routes: Vec<(Arc<str>, Traffic)>,
}

/// What came between the oldest look and now.
#[derive(Debug)]
pub struct Window {
    /// How long that is.
    pub length: Duration,
    now: Vec<(Arc<str>, Traffic)>,
    then: Vec<(Arc<str>, Traffic)>,
}

impl Recent {
    /// Looks at `metrics`, of which nothing has been counted before `started_at`.
    #[must_use]
    pub fn new(metrics: Metrics, started_at: Moment) -> Self {
        Self {
            metrics,
            looks: Mutex::default(),
            started_at,
        }
    }

    /// Looks every [`PAUSE`], for ever.
    pub async fn follow(&self) {
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pause.tick().await;
        loop {
            pause.tick().await;
            self.look(Moment::now());
        }
    }

    fn look(&self, now: Moment) {
        let look = Look {
            at: now,
            routes: self.metrics.traffic(),
        };
        let mut looks = self.lock();
        looks.push_back(look);
        // The one before the first that is young enough stays: it is where five minutes begin.
        while looks.get(1).is_some_and(|second| now - second.at >= WINDOW) {
            looks.pop_front();
        }
    }

    /// What came in the last five minutes, or since the start if that was later.
    #[must_use]
    pub fn window(&self, now: Moment) -> Window {
        let looks = self.lock();
        let oldest = looks.front().filter(|_| now - self.started_at > WINDOW);
        Window {
            length: now - oldest.map_or(self.started_at, |look| look.at),
            then: oldest.map_or_else(Vec::new, |look| look.routes.clone()),
            now: self.metrics.traffic(),
        }
    }

    // A std mutex: held to add one look or to copy one, by the control thread.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// What the route of this name did.
    #[must_use]
    pub fn of(&self, name: &str) -> Traffic {
        let now = find(&self.now, name);
        match (now, find(&self.then, name)) {
            (Some(now), Some(then)) => now.since(then),
            (Some(now), None) => now.clone(),
            (None, _) => Traffic::default(),
        }
    }
}

fn find<'a>(routes: &'a [(Arc<str>, Traffic)], name: &str) -> Option<&'a Traffic> {
    let at = routes.binary_search_by(|(known, _)| (**known).cmp(name));
    Some(&routes.get(at.ok()?)?.1)
}

/// Rates are about this time.
const WINDOW: Duration = Duration::from_mins(5);
/// Between two looks: 16 of them are kept, which is 3 KiB for each route.
const PAUSE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_traffic_is_forgotten_and_the_window_never_grows() {
        let metrics = Metrics::new(1).unwrap();
        let route = metrics.route("r");
        let answer = || route.answered(0, 200, Duration::from_millis(1), None);
        let start = Moment::now();
        let recent = Recent::new(metrics.clone(), start);
        answer();
        let soon = start + Duration::from_secs(10);
        assert_eq!(recent.window(soon).of("r").requests(), 1);
        assert_eq!(recent.window(soon).length, Duration::from_secs(10));
        let mut now = start;
        for _ in 0..100 {
            now = now + PAUSE;
            recent.look(now);
            let length = recent.window(now).length;
            assert!(length <= WINDOW + PAUSE, "{length:?}");
        }
        assert_eq!(recent.window(now).of("r").requests(), 0, "long ago");
        answer();
        assert_eq!(recent.window(now).of("r").requests(), 1);
        assert_eq!(recent.window(now).of("nobody"), Traffic::default());
        assert!(recent.lock().len() <= 17);
    }
}
