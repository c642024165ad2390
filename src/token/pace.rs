//! How often one provider is asked, whoever's tokens are wanted: so many at once, and one after another while it fails.
//!
//! Each token has its own [`backoff`](super::backoff). A provider with thousands of subjects needs more: after an outage
//! all of them want a token.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

use crate::provider::FetchError;

/// The turns to ask one provider. What it promises:
///
/// * there are never more than so many attempts at once;
/// * while the provider fails, ten attempts a second find out whether it is back, and one a second if it throttles;
///   for whom there is no turn within a second, it has failed again;
/// * the first good answer opens it for everybody;
/// * a refusal is about one subject, and slows down nobody else.
#[derive(Debug)]
pub struct Pace {
    places: Semaphore,
    trouble: Mutex<Option<Trouble>>,
}

/// The provider's last attempt failed.
#[derive(Debug)]
struct Trouble {
    error: FetchError,
    /// When the next attempt may begin.
    next_at: Instant,
}

/// The right to ask the provider once, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    pace: &'a Pace,
    _place: SemaphorePermit<'a>,
}

impl Pace {
    /// For at most this many attempts at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            places: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)),
            trouble: Mutex::default(),
        }
    }

    /// Waits for a turn, not longer than `patience` and a second.
    ///
    /// # Errors
    ///
    /// The provider's last failure, if too many wait to find out whether it is back already.
    pub async fn turn(&self, patience: Duration) -> Result<Turn<'_>, FetchError> {
        let Ok(Ok(place)) = timeout(patience, self.places.acquire()).await else {
            return Err(FetchError::unavailable(
                "too many of its tokens are being fetched",
            ));
        };
        sleep_until(self.book(Instant::now())?).await;
        Ok(Turn {
            pace: self,
            _place: place,
        })
    }

    /// When the next attempt may begin.
    fn book(&self, now: Instant) -> Result<Instant, FetchError> {
        let mut trouble = self.lock();
        let Some(trouble) = trouble.as_mut() else {
            return Ok(now);
        };
        let at = trouble.next_at.max(now);
        if at > now + WAIT_MOST {
            return Err(trouble.error.clone());
        }
        trouble.next_at = at + gap(&trouble.error);
        Ok(at)
    }

    // A std mutex: held for a few assignments, once an attempt.
    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Tells how the attempt went.
    pub fn end<T>(self, result: &Result<T, FetchError>) {
        let mut trouble = self.pace.lock();
        match result {
            Err(error) if is_trouble(error) => {
                let soonest = Instant::now() + gap(error);
                let next_at = trouble
                    .as_ref()
                    .map_or(soonest, |trouble| trouble.next_at.max(soonest));
                *trouble = Some(Trouble {
                    error: error.clone(),
                    next_at,
                });
            }
            Ok(_) | Err(_) => *trouble = None,
        }
    }
}

/// Whether the failure is the provider's, whatever it was asked for.
const fn is_trouble(error: &FetchError) -> bool {
    match error {
        FetchError::Throttled { .. }
        | FetchError::Unreachable { .. }
        | FetchError::Unavailable { .. }
        | FetchError::Timeout { .. } => true,
        FetchError::Refused { .. } | FetchError::Secret(_) | FetchError::Malformed { .. } => false,
    }
}

/// Between two attempts while the provider fails in this way.
const fn gap(error: &FetchError) -> Duration {
    match error {
        FetchError::Throttled { .. } => THROTTLED_GAP,
        FetchError::Unreachable { .. }
        | FetchError::Unavailable { .. }
        | FetchError::Timeout { .. }
        | FetchError::Refused { .. }
        | FetchError::Secret(_)
        | FetchError::Malformed { .. } => GAP,
    }
}

const GAP: Duration = Duration::from_millis(100);
const THROTTLED_GAP: Duration = Duration::from_secs(1);
/// Who would wait for longer than this learns at once that the provider fails.
const WAIT_MOST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn unreachable() -> FetchError {
        FetchError::Unreachable {
            reason: "cannot connect".into(),
            detail: "refused".into(),
        }
    }

    fn throttled() -> FetchError {
        FetchError::Throttled { retry_after: None }
    }

    /// A thousand subjects want a token at the same moment: how many attempts there are until nobody waits any more.
    async fn rush(pace: &Pace, answer: &Result<(), FetchError>) -> usize {
        let asked = join_all((0..1000).map(|_| async {
            let turn = pace.turn(PATIENCE).await.ok()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            turn.end(answer);
            Some(())
        }));
        asked.await.into_iter().flatten().count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_is_asked_so_many_times_at_once_and_no_more() {
        let pace = Pace::new(4);
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(pace.turn(PATIENCE).await.unwrap());
        }
        let began = Instant::now();
        let error = pace.turn(PATIENCE).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provider failed: too many of its tokens are being fetched"
        );
        assert_eq!(began.elapsed(), PATIENCE);
        turns.pop();
        assert!(pace.turn(PATIENCE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_provider_fails_a_thousand_subjects_ask_ten_times_a_second() {
        let pace = Pace::new(64);
        let failure = Err(unreachable());
        assert_eq!(
            rush(&pace, &failure).await,
            64 + 10,
            "those under way, then ten"
        );
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let attempts = rush(&pace, &failure).await;
            assert!((10..=11).contains(&attempts), "{attempts}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_throttles_is_asked_once_a_second() {
        let pace = Pace::new(64);
        pace.turn(PATIENCE)
            .await
            .unwrap()
            .end(&Err::<(), _>(throttled()));
        let failure = Err(throttled());
        assert!(rush(&pace, &failure).await <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_opens_a_provider_for_everybody() {
        let pace = Pace::new(64);
        assert!(rush(&pace, &Err(unreachable())).await < 100);
        let turn = pace.turn(PATIENCE).await.unwrap();
        turn.end(&Ok::<_, FetchError>(()));
        assert_eq!(rush(&pace, &Ok(())).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subject_that_is_refused_slows_down_nobody_else() {
        let pace = Pace::new(64);
        let refused = Err(FetchError::Refused {
            error: "access_denied".into(),
        });
        assert_eq!(rush(&pace, &refused).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_subject_that_makes_its_provider_fail_costs_others_a_moment() {
        let pace = Pace::new(64);
        pace.turn(PATIENCE)
            .await
            .unwrap()
            .end(&Err::<(), _>(unreachable()));
        let began = Instant::now();
        assert!(pace.turn(PATIENCE).await.is_ok());
        assert_eq!(began.elapsed(), GAP);
    }
}
