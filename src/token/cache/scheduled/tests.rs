//! What a slot promises to threads that use it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::poll_immediate;
use shuttle::future::{block_on, yield_now};
use shuttle::thread::{self, JoinHandle};

use super::slot::{Asked, Fetch, Flight, Minted, Rejected, Slot};
use super::sync::{Handle, Pace};
use crate::clock::{Moment, paused};
use crate::provider::secret::Secret;
use crate::provider::{FetchError, Grant, Lifetime};
use crate::token::life::{Freshness, Token};

/// A slot and its provider. Clones are the same.
#[derive(Clone, Default)]
struct Stage {
    slot: Arc<Slot>,
    provider: Arc<Provider>,
}

#[derive(Default)]
struct Provider {
    asked: AtomicUsize,
    running: AtomicUsize,
}

/// How a fetch ends.
#[derive(Clone, Copy)]
enum End {
    /// With a new token, of an hour.
    Token,
    /// With one that was not asked for in vain.
    Failure,
    Panic,
}

impl Stage {
    fn fetch(&self, end: End) -> Fetch<impl Future<Output = Result<Minted, FetchError>> + use<>> {
        let provider = Arc::clone(&self.provider);
        let future = async move {
            let number = provider.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let running = provider.running.fetch_add(1, Ordering::SeqCst);
            assert_eq!(running, 0, "two fetches at once");
            yield_now().await;
            provider.running.fetch_sub(1, Ordering::SeqCst);
            match end {
                End::Token => {
                    let token = Secret::new(format!("token-{number}"));
                    Ok(Grant::new(token, Lifetime::For(HOUR)).into())
                }
                End::Failure => Err(FetchError::unavailable("as the test wants it")),
                End::Panic => panic!("as the test wants it"),
            }
        };
        Fetch {
            future,
            runtime: Handle,
            timeout: HOUR,
            max_lifetime: None,
            pace: Arc::new(Pace),
            patience: HOUR,
        }
    }

    fn ask(&self, end: End) -> Asked {
        self.slot.ask(Moment::now(), |_| self.fetch(end))
    }

    fn get(&self) -> Result<Arc<Token>, FetchError> {
        match self.ask(End::Token) {
            Asked::Token(token) => Ok(token),
            Asked::Wait(flight, old) => block_on(flight).or_else(|error| old.ok_or(error)),
            Asked::NotNow(backoff) => Err(backoff.error),
        }
    }

    fn reject(&self, refused: &Arc<Token>, end: End) -> Rejected {
        self.slot
            .reject(refused, Moment::now(), |_| self.fetch(end))
    }

    /// The upstream refuses this token: the one to try instead.
    fn renew(&self, refused: &Arc<Token>) -> Option<Arc<Token>> {
        match self.reject(refused, End::Token) {
            Rejected::Newer(newer) => Some(newer),
            Rejected::Renewing(flight) => block_on(flight).ok(),
            Rejected::Guarded | Rejected::NotNow => None,
        }
    }

    fn fetches(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }

    fn at_once<T: Send + 'static>(
        &self,
        threads: usize,
        act: impl Fn(&Self) -> T + Clone + Send + 'static,
    ) -> Vec<JoinHandle<T>> {
        let start = || {
            let (stage, act) = (self.clone(), act.clone());
            thread::spawn(move || act(&stage))
        };
        (0..threads).map(|_| start()).collect()
    }
}

fn results<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    let joined = threads.into_iter().map(JoinHandle::join);
    joined.map(|result| result.unwrap()).collect()
}

/// In `ORDERS` orders of everything that happens at once.
fn in_many_orders(act: impl Fn(&Stage) + Send + Sync + 'static) {
    shuttle::check_random(move || act(&Stage::default()), ORDERS);
}

#[test]
fn whoever_asks_at_once_shares_one_fetch() {
    in_many_orders(|stage| {
        let tokens = results(stage.at_once(4, |stage| stage.get().unwrap().generation()));
        assert_eq!(tokens, [1; 4]);
        assert_eq!(stage.fetches(), 1);
    });
}

#[test]
fn whoever_refuses_the_same_token_shares_one_renewal() {
    in_many_orders(|stage| {
        let first = stage.get().unwrap();
        let refusing = move |stage: &Stage| stage.renew(&first).unwrap().generation();
        let refused = stage.at_once(3, refusing);
        let asked = stage.at_once(2, |stage| stage.get().unwrap().generation());
        assert_eq!(results(refused), [2; 3]);
        assert!(results(asked).into_iter().all(|it| it == 1 || it == 2));
        assert_eq!(stage.fetches(), 2);
    });
}

#[test]
fn a_late_refusal_of_an_old_token_does_not_touch_the_new_one() {
    in_many_orders(|stage| {
        let first = stage.get().unwrap();
        let second = stage.renew(&first).unwrap();
        second.accept();
        let late = stage.at_once(3, move |stage| stage.renew(&first).unwrap().generation());
        assert_eq!(results(late), [2; 3]);
        assert_eq!(second.freshness(Moment::now()), Freshness::Fresh);
        assert_eq!(stage.fetches(), 2);
    });
}

#[test]
fn a_leader_that_goes_takes_nothing_from_its_followers() {
    in_many_orders(|stage| {
        let leader = stage.at_once(1, |stage| match stage.ask(End::Token) {
            // It looks once, and hangs up.
            Asked::Wait(flight, _) => drop(block_on(poll_immediate(flight))),
            Asked::Token(_) => {}
            Asked::NotNow(backoff) => panic!("{backoff:?}"),
        });
        let followers = stage.at_once(2, |stage| stage.get().unwrap().generation());
        results(leader);
        assert_eq!(results(followers), [1; 2]);
        assert_eq!(stage.fetches(), 1);
        assert_eq!(stage.slot.current().map(|it| it.generation()), Some(1));
    });
}

#[test]
fn a_panic_in_a_fetch_is_a_failure_for_all_who_wait_and_not_for_ever() {
    for end in [End::Panic, End::Failure] {
        in_many_orders(move |stage| {
            let failed = results(stage.at_once(3, move |stage| match stage.ask(end) {
                Asked::Wait(flight, _) => block_on(flight).is_err(),
                Asked::NotNow(_) => true,
                Asked::Token(_) => false,
            }));
            assert_eq!(failed, [true; 3]);
            assert_eq!(stage.fetches(), 1);
            paused::suspend(HOUR);
            let healed = results(stage.at_once(2, |stage| stage.get().unwrap().generation()));
            assert_eq!(healed, [1; 2]);
            assert_eq!(stage.fetches(), 2);
        });
    }
}

#[test]
fn a_renewal_that_fails_takes_no_good_token_away() {
    in_many_orders(|stage| {
        let first = stage.get().unwrap();
        let refused = stage.at_once(2, move |stage| match stage.reject(&first, End::Failure) {
            Rejected::Renewing(flight) => block_on(flight).is_err(),
            Rejected::NotNow => true,
            Rejected::Newer(_) | Rejected::Guarded => false,
        });
        let asked = stage.at_once(2, |stage| stage.get().unwrap().generation());
        assert_eq!(results(refused), [true; 2]);
        assert_eq!(results(asked), [1; 2]);
    });
}

#[test]
fn whatever_happens_at_once_nobody_sees_an_older_token_than_before() {
    in_many_orders(|stage| {
        let first = stage.get().unwrap();
        let watched = stage.at_once(2, |stage| {
            let seen: Vec<u64> = (0..4)
                .filter_map(|_| Some(stage.slot.fresh(Moment::now())?.generation()))
                .collect();
            assert!(seen.is_sorted(), "{seen:?}");
        });
        let forced = stage.at_once(2, |stage| {
            let flight: Flight = stage.slot.force(Moment::now(), |_| stage.fetch(End::Token));
            block_on(flight.map(|token| token.unwrap().generation()))
        });
        let refused = stage.at_once(1, move |stage| stage.renew(&first).unwrap().generation());
        results(watched);
        for generation in results(forced).into_iter().chain(results(refused)) {
            assert!(generation > 1);
        }
        let current = stage.slot.current().unwrap().generation();
        assert_eq!(usize::try_from(current).unwrap(), stage.fetches());
    });
}

const HOUR: Duration = Duration::from_hours(1);
const ORDERS: usize = 2000;
