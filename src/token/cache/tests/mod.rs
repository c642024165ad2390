//! What a [`Slot`] promises, on a paused clock and without a socket.

mod family;
mod model;
mod outage;
mod slots;

use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::slot::*;
use super::slots::Slots;
use crate::clock::{Moment, paused, sleep_until};
use crate::metrics::FetchReason;
use crate::provider::secret::Secret;
use crate::provider::{FetchError, Grant, Input, Lifetime, RefreshGrant};
use crate::token::life::{Freshness, Token};
use crate::token::pace::Pace;

/// A fetch that no other stands in the way of.
fn fetching<F>(future: F) -> Fetch<F> {
    Fetch {
        future,
        runtime: Handle::current(),
        timeout: LIMIT,
        max_lifetime: None,
        pace: Arc::new(Pace::new(1)),
        patience: LIMIT,
    }
}

/// A way to fetch that does what it is told, and remembers when it was asked and what for.
#[derive(Clone)]
struct Script(Arc<Mutex<Lines>>);

struct Lines {
    answer: Answer,
    latency: Duration,
    asked: Vec<(Moment, FetchReason)>,
    running: usize,
    violations: Vec<String>,
}

#[derive(Clone, Debug)]
enum Answer {
    /// A new token, for so many seconds.
    Seconds(f64),
    /// The same token each time.
    Same,
    /// The same token each time, as long as it lives.
    SameUntil(Moment),
    /// A token for which its provider stated nonsense.
    Clamped,
    Failure(FetchError),
    Panic,
    Hang,
}

impl Script {
    fn new(answer: Answer) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            answer,
            latency: millis(100),
            asked: Vec::new(),
            running: 0,
            violations: Vec::new(),
        })))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(
        &self,
        reason: FetchReason,
    ) -> Fetch<impl Future<Output = Result<Minted, FetchError>> + Send + 'static> {
        let script = self.clone();
        fetching(async move { script.answer(reason).await })
    }

    async fn answer(&self, reason: FetchReason) -> Result<Minted, FetchError> {
        let (answer, latency, number) = self.lines().begin(reason);
        let _running = Running(self.clone());
        tokio::time::sleep(latency).await;
        let (number, lifetime) = match answer {
            Answer::Seconds(seconds) => (number, Lifetime::For(Duration::from_secs_f64(seconds))),
            Answer::Same => (0, Lifetime::For(HOUR)),
            Answer::SameUntil(end) => (0, Lifetime::For(end - Moment::now())),
            Answer::Clamped => (number, Lifetime::Clamped(secs(1))),
            Answer::Failure(error) => return Err(error),
            Answer::Panic => panic!("as the test wants it"),
            Answer::Hang => pending().await,
        };
        let token = Secret::new(format!("token-{number}"));
        Ok(Grant::new(token, lifetime).into())
    }
}

impl Lines {
    fn begin(&mut self, reason: FetchReason) -> (Answer, Duration, usize) {
        let now = Moment::now();
        if self.running > 0 {
            self.violations.push("two fetches at once".to_owned());
        }
        if let Some((last, _)) = self.asked.last()
            && now < *last + secs(1)
        {
            let gap = now - *last;
            self.violations.push(format!("attempts only {gap:?} apart"));
        }
        self.asked.push((now, reason));
        self.running += 1;
        (self.answer.clone(), self.latency, self.asked.len())
    }
}

/// Counts a fetch as over however it ends.
struct Running(Script);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lines().running -= 1;
    }
}

/// A slot, its script, and what [`Tokens`](crate::token::Tokens) does with both.
#[derive(Clone)]
struct Stage {
    slot: Arc<Slot>,
    script: Script,
}

impl Stage {
    fn new(answer: Answer) -> Self {
        Self {
            slot: Arc::default(),
            script: Script::new(answer),
        }
    }

    /// A stage that has its first token.
    async fn with_token(answer: Answer) -> (Self, Arc<Token>) {
        let stage = Self::new(answer);
        let token = stage.get().await.unwrap();
        (stage, token)
    }

    fn answer(&self, answer: Answer) {
        self.script.lines().answer = answer;
    }

    fn fetches(&self) -> usize {
        self.script.lines().asked.len()
    }

    /// Seconds between one attempt and the next.
    fn gaps(&self) -> Vec<f64> {
        let lines = self.script.lines();
        let pairs = lines.asked.iter().zip(lines.asked.iter().skip(1));
        pairs.map(|(a, b)| (b.0 - a.0).as_secs_f64()).collect()
    }

    fn ask(&self) -> Asked {
        self.slot
            .ask(Moment::now(), |reason| self.script.fetch(reason))
    }

    fn reject(&self, refused: &Arc<Token>) -> Rejected {
        self.slot
            .reject(refused, Moment::now(), |reason| self.script.fetch(reason))
    }

    fn force(&self) -> Flight {
        self.slot
            .force(Moment::now(), |reason| self.script.fetch(reason))
    }

    async fn get(&self) -> Result<Arc<Token>, FetchError> {
        match self.ask() {
            Asked::Token(token) => Ok(token),
            Asked::Wait(flight, old) => flight.await.or_else(|error| old.ok_or(error)),
            Asked::NotNow(backoff) => Err(backoff.error),
        }
    }

    /// Asks ten times a second until there is a token: how long that takes.
    async fn time_to_token(&self) -> Duration {
        let began = Moment::now();
        while self.get().await.is_err() {
            tokio::time::sleep(millis(100)).await;
        }
        began.elapsed()
    }

    /// Ten requests a second for this long, every one of them answered with 401 by the upstream.
    async fn refuse_everything(&self, time: Duration) {
        let end = Moment::now() + time;
        while Moment::now() < end {
            let token = self.get().await.unwrap();
            if let Rejected::Renewing(flight) = self.reject(&token) {
                let _ = flight.await;
            }
            tokio::time::sleep(millis(100)).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.script.lines().violations, [""; 0]);
        }
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn renewing(rejected: Rejected) -> Flight {
    match rejected {
        Rejected::Renewing(flight) => flight,
        other => panic!("{other:?}"),
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn unreachable() -> Answer {
    Answer::Failure(FetchError::Unreachable {
        reason: "cannot connect".into(),
        detail: "refused".into(),
    })
}

fn failing(retry_after: Option<Duration>) -> Answer {
    Answer::Failure(FetchError::Unavailable {
        reason: "it answered 503".into(),
        retry_after,
    })
}

fn refusing() -> Answer {
    Answer::Failure(FetchError::Refused {
        error: "invalid_client".into(),
    })
}

const LIMIT: Duration = secs(10);
const HOUR: Duration = Duration::from_hours(1);
const AN_HOUR: Answer = Answer::Seconds(3600.0);

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_make_one_fetch() {
    let stage = Stage::new(AN_HOUR);
    let asked = (0..1000).map(|_| stage.get());
    let tokens = futures_util::future::join_all(asked).await;
    assert!(tokens.iter().all(|token| token.is_ok()));
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_share_one_failure() {
    let stage = Stage::new(failing(None));
    let asked = (0..1000).map(|_| stage.get());
    let tokens = futures_util::future::join_all(asked).await;
    assert!(tokens.iter().all(|token| token.is_err()));
    assert_eq!(stage.fetches(), 1);
    assert_eq!(stage.slot.backoff().unwrap().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_handed_out_without_a_fetch() {
    let (stage, token) = Stage::with_token(AN_HOUR).await;
    pass(secs(2500)).await;
    assert!(Arc::ptr_eq(
        &stage.slot.fresh(Moment::now()).unwrap(),
        &token
    ));
    assert!(Arc::ptr_eq(&stage.get().await.unwrap(), &token));
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_due_token_is_handed_out_at_once_while_the_next_is_fetched() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    pass(secs(2900)).await;
    assert!(stage.slot.fresh(Moment::now()).is_none());
    for _ in 0..100 {
        let Asked::Token(token) = stage.ask() else {
            panic!("a due token is good");
        };
        assert!(Arc::ptr_eq(&token, &first));
    }
    pass(secs(1)).await;
    assert_eq!(stage.get().await.unwrap().generation(), 2);
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_ages_while_the_machine_sleeps() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    paused::suspend(HOUR - secs(5));
    assert_eq!(first.freshness(Moment::now()), Freshness::Expired);
    assert!(matches!(stage.ask(), Asked::Wait(_, None)));
    assert_eq!(stage.get().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_waited_for_and_never_handed_out() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    sleep_until(first.life().expires_at.unwrap()).await;
    stage.answer(failing(None));
    assert!(matches!(stage.ask(), Asked::Wait(_, None)));
    assert!(stage.get().await.is_err());
    assert!(matches!(stage.ask(), Asked::NotNow(_)));
    stage.answer(AN_HOUR);
    pass(secs(10)).await;
    assert_eq!(stage.get().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_token_counts_from_before_it_was_asked_for() {
    let stage = Stage::new(Answer::Seconds(600.0));
    stage.script.lines().latency = secs(5);
    let asked_at = Moment::now();
    let token = stage.get().await.unwrap();
    assert_eq!(token.life().expires_at.unwrap() - asked_at, secs(590));
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_life_was_over_before_it_came_is_a_failure() {
    let stage = Stage::new(Answer::Seconds(3.0));
    stage.script.lines().latency = secs(4);
    let error = stage.get().await.unwrap_err();
    assert!(matches!(error, FetchError::Malformed { .. }), "{error:?}");
    assert!(stage.slot.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_with_a_nonsensical_life_serves_those_who_waited_for_it() {
    let stage = Stage::new(Answer::Clamped);
    stage.script.lines().latency = secs(4);
    let token = stage.get().await.unwrap();
    assert_ne!(token.freshness(Moment::now()), Freshness::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_outlives_the_request_that_started_it() {
    let stage = Stage::new(AN_HOUR);
    let hasty = tokio::time::timeout(millis(50), stage.get()).await;
    assert!(hasty.is_err(), "the first to ask hangs up");
    assert_eq!(stage.get().await.unwrap().generation(), 1);
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_nobody_waits_for_still_lands() {
    let stage = Stage::new(AN_HOUR);
    drop(stage.ask());
    pass(secs(1)).await;
    assert!(stage.slot.fresh(Moment::now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hung_fetch_ends_at_its_limit_and_the_slot_goes_on() {
    let stage = Stage::new(Answer::Hang);
    let began = Moment::now();
    let error = stage.get().await.unwrap_err();
    assert_eq!(error, FetchError::Timeout { after: LIMIT });
    assert!(began.elapsed() < LIMIT + secs(1));
    stage.answer(AN_HOUR);
    assert!(stage.time_to_token().await < secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_fetch_is_a_failure_and_the_slot_recovers() {
    let stage = Stage::new(Answer::Panic);
    let error = stage.get().await.unwrap_err();
    assert_eq!(error.to_string(), "the provider failed: an internal error");
    stage.answer(AN_HOUR);
    assert!(stage.time_to_token().await < secs(11));
}

#[tokio::test(start_paused = true)]
async fn failures_do_not_replace_a_good_token() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    stage.answer(failing(None));
    while Moment::now() < first.life().expires_at.unwrap() {
        assert!(Arc::ptr_eq(&stage.get().await.unwrap(), &first));
        pass(secs(1)).await;
    }
    assert!(stage.get().await.is_err());
    // From the due time on, in back-off that doubles up to a minute with full jitter.
    assert!((10..200).contains(&stage.fetches()), "{}", stage.fetches());
}

#[tokio::test(start_paused = true)]
async fn in_back_off_requests_fail_at_once() {
    let stage = Stage::new(failing(Some(secs(30))));
    assert!(stage.get().await.is_err());
    let failed_at = Moment::now();
    let Asked::NotNow(backoff) = stage.ask() else {
        panic!("it is too soon");
    };
    assert_eq!(backoff.until(true) - failed_at, secs(30));
    assert_eq!(Moment::now(), failed_at);
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wanted_token_comes_two_seconds_after_a_connection_failure_at_the_latest() {
    let stage = Stage::new(unreachable());
    for _ in 0..3000 {
        let _ = stage.get().await;
        pass(millis(100)).await;
    }
    stage.answer(AN_HOUR);
    let healed_after = stage.time_to_token().await;
    assert!(healed_after < millis(2300), "{healed_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wanted_token_comes_ten_seconds_after_any_other_failure_at_the_latest() {
    let stage = Stage::new(failing(None));
    for _ in 0..3000 {
        let _ = stage.get().await;
        pass(millis(100)).await;
    }
    stage.answer(AN_HOUR);
    let healed_after = stage.time_to_token().await;
    assert!(healed_after < millis(10_300), "{healed_after:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_however_much_the_token_is_wanted() {
    let stage = Stage::new(failing(Some(secs(120))));
    assert!(stage.get().await.is_err());
    stage.answer(AN_HOUR);
    let waited = stage.time_to_token().await;
    assert!(waited >= secs(120) && waited < secs(121), "{waited:?}");
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn there_is_at_most_one_attempt_a_second_for_tokens_that_live_a_second() {
    let stage = Stage::new(Answer::Seconds(1.0));
    let end = Moment::now() + secs(60);
    while Moment::now() < end {
        let token = stage.get().await.unwrap();
        assert_ne!(token.freshness(Moment::now()), Freshness::Expired);
        pass(millis(10)).await;
    }
    assert!((55..=61).contains(&stage.fetches()), "{}", stage.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_token_refused_at_birth_is_renewed_a_second_later_at_the_soonest() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    renewing(stage.reject(&first)).await.unwrap();
    stage.force().await.unwrap();
    assert_eq!(stage.gaps(), [1.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn an_old_idea_of_now_does_not_bring_attempts_closer() {
    let stage = Stage::new(AN_HOUR);
    let before = Moment::now();
    pass(millis(700)).await;
    let fetch = |reason| stage.script.fetch(reason);
    stage.slot.force(before, fetch).await.unwrap();
    stage.force().await.unwrap();
    assert_eq!(stage.gaps(), [1.0]);
}

#[tokio::test(start_paused = true)]
async fn many_rejections_of_one_token_make_one_fetch() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    first.accept();
    let rejections = (0..1000).map(|_| renewing(stage.reject(&first)));
    for renewed in futures_util::future::join_all(rejections).await {
        assert_eq!(renewed.unwrap().generation(), 2);
    }
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejecting_an_old_token_gives_the_newer_one_without_a_fetch() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    renewing(stage.reject(&first)).await.unwrap();
    let Rejected::Newer(newer) = stage.reject(&first) else {
        panic!("there is a newer one");
    };
    assert_eq!(newer.generation(), 2);
    let now = Moment::now();
    assert!(stage.slot.fresh(now).is_some(), "the newer one is not hurt");
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejecting_an_old_token_while_the_newer_is_renewed_waits_for_the_newest() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    let second = renewing(stage.reject(&first)).await.unwrap();
    second.accept();
    drop(stage.reject(&second));
    let newest = renewing(stage.reject(&first)).await.unwrap();
    assert_eq!(newest.generation(), 3);
    assert_eq!(stage.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_under_a_new_generation_is_no_newer_one() {
    let (stage, first) = Stage::with_token(Answer::Same).await;
    let second = renewing(stage.reject(&first)).await.unwrap();
    assert_eq!(second.generation(), 2);
    assert!(matches!(stage.reject(&first), Rejected::Guarded));
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_token_of_an_evicted_slot_does_not_hurt_that_of_its_successor() {
    let (evicted, _) = Stage::with_token(AN_HOUR).await;
    evicted.force().await.unwrap();
    evicted.force().await.unwrap();
    let old = evicted.force().await.unwrap();
    assert_eq!(old.generation(), 4);
    let (stage, _) = Stage::with_token(AN_HOUR).await;
    assert!(matches!(stage.reject(&old), Rejected::Newer(_)));
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_everything_costs_two_fetches_and_then_ever_fewer() {
    let stage = Stage::new(Answer::Seconds(1e6));
    stage.refuse_everything(secs(29)).await;
    assert_eq!(stage.fetches(), 2);
    stage.refuse_everything(secs(3000)).await;
    let gaps: Vec<_> = stage.gaps().iter().map(|gap| gap.floor()).collect();
    assert_eq!(gaps, [1.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0]);
}

#[tokio::test(start_paused = true)]
async fn renewals_on_schedule_do_not_make_a_refusing_upstream_more_believable() {
    let stage = Stage::new(Answer::Seconds(100.0));
    stage.refuse_everything(secs(3600)).await;
    let lines = stage.script.lines();
    let unauthorized = lines
        .asked
        .iter()
        .filter(|asked| asked.1 == FetchReason::Unauthorized);
    assert!(unauthorized.count() <= 3);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_token_ends_the_doubt() {
    let stage = Stage::new(Answer::Seconds(1e6));
    stage.refuse_everything(secs(200)).await;
    let token = stage.get().await.unwrap();
    assert!(matches!(stage.reject(&token), Rejected::Guarded));
    token.accept();
    let next = renewing(stage.reject(&token)).await.unwrap();
    assert!(matches!(stage.reject(&next), Rejected::Guarded));
    pass(secs(30)).await;
    drop(renewing(stage.reject(&next)));
}

#[tokio::test(start_paused = true)]
async fn while_a_refused_token_is_renewed_requests_wait_for_the_new_one() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    drop(renewing(stage.reject(&first)));
    assert!(matches!(stage.ask(), Asked::Wait(_, Some(_))));
    assert_eq!(stage.get().await.unwrap().generation(), 2);
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn if_the_renewal_fails_a_refused_token_is_served_until_it_expires() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    stage.answer(failing(None));
    drop(renewing(stage.reject(&first)));
    while Moment::now() < first.life().expires_at.unwrap() {
        let token = stage.get().await;
        if Moment::now() < first.life().expires_at.unwrap() {
            assert!(Arc::ptr_eq(&token.unwrap(), &first));
        }
        pass(secs(5)).await;
    }
    assert!(stage.get().await.is_err());
    let lines = stage.script.lines();
    let renewals = lines.asked.iter().skip(1);
    let mut reasons = renewals.map(|asked| asked.1);
    assert_eq!(reasons.next(), Some(FetchReason::Unauthorized));
}

#[tokio::test(start_paused = true)]
async fn a_provider_in_back_off_is_not_asked_because_of_a_401() {
    let (stage, first) = Stage::with_token(AN_HOUR).await;
    stage.answer(failing(Some(secs(60))));
    assert!(stage.force().await.is_err());
    for _ in 0..59 {
        assert!(matches!(stage.reject(&first), Rejected::NotNow));
        pass(secs(1)).await;
    }
    assert_eq!(stage.fetches(), 2);
    pass(secs(2)).await;
    drop(renewing(stage.reject(&first)));
}

#[tokio::test(start_paused = true)]
async fn force_fetches_even_in_back_off_and_joins_a_fetch_under_way() {
    let stage = Stage::new(failing(Some(secs(600))));
    assert!(stage.get().await.is_err());
    stage.answer(AN_HOUR);
    let (one, other) = tokio::join!(stage.force(), stage.force());
    assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
    assert_eq!(stage.fetches(), 2);
    assert!(stage.slot.backoff().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_ends_the_back_off_of_a_configuration_fault() {
    let stage = Stage::new(refusing());
    assert!(stage.get().await.is_err());
    stage.answer(AN_HOUR);
    stage.slot.rearm(Moment::now(), || false);
    assert!(matches!(stage.ask(), Asked::NotNow(_)));
    stage
        .slot
        .rearm(Moment::now(), || panic!("looked at twice within a second"));
    pass(secs(1)).await;
    stage.slot.rearm(Moment::now(), || true);
    assert!(stage.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_looked_at_after_another_failure() {
    let stage = Stage::new(failing(Some(secs(60))));
    assert!(stage.get().await.is_err());
    let looked = || panic!("a secret does not cure a 503");
    stage.slot.rearm(Moment::now(), looked);
    assert!(matches!(stage.ask(), Asked::NotNow(_)));
}

#[test]
fn as_many_may_wait_as_there_are_places() {
    let slot = Slot::default();
    let (one, two) = (slot.queue(2), slot.queue(2));
    assert!(one.is_some() && two.is_some());
    assert!(slot.queue(2).is_none());
    drop(one);
    assert!(slot.queue(2).is_some());
}
