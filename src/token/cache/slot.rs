//! A slot: one subject's token, and what is being done to get the next.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::sync::{
    ArcSwapOption, AtomicBool, AtomicU64, AtomicUsize, Handle, JoinSet, Mutex, MutexGuard, Pace,
    sleep_until, timeout,
};
use crate::clock::Moment;
use crate::metrics::FetchReason;
use crate::provider::secret::Secret;
use crate::provider::{FetchError, Grant, Lifetime, RefreshGrant};
use crate::token::backoff::{Backoff, FLOOR};
use crate::token::life::{Freshness, Life, Token};

/// A fetch under way. Clones wait for the same one.
pub type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, FetchError>>>;

/// One subject's token, and what is being done to get the next.
#[derive(Debug, Default)]
#[repr(C)] // as in a token: what every request touches is in one line
pub struct Slot {
    current: ArcSwapOption<Token>,
    /// When it was last used, in milliseconds of its [`Slots`](super::slots::Slots).
    used: AtomicU64,
    waiting: AtomicUsize,
    /// The last token was good for one use only, so the next will be, too.
    single_use: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    flight: Option<Flight>,
    backoff: Option<Backoff>,
    refresh: Option<Arc<RefreshToken>>,
    /// When the last attempt began, or is to begin.
    attempted_at: Option<Moment>,
    /// When its secrets were last looked at for a change.
    looked_at: Option<Moment>,
    generation: u64,
    /// How often in a row a doubted token was refused in its turn.
    guard: u32,
}

/// What a fetch brings.
#[derive(Debug)]
pub struct Minted {
    /// The answer.
    pub grant: Grant,
    /// The token that it was made from, if any.
    pub parent: Option<Arc<Token>>,
}

impl From<Grant> for Minted {
    fn from(grant: Grant) -> Self {
        Self {
            grant,
            parent: None,
        }
    }
}

/// What the next token can be asked for with.
#[derive(Debug)]
pub struct RefreshToken {
    /// The token itself.
    pub secret: Secret,
    good_until: Option<Moment>,
}

/// What [`Slot::ask`] says.
#[derive(Debug)]
pub enum Asked {
    /// Here it is.
    Token(Arc<Token>),
    /// It is being fetched. If that fails, the old one may still do.
    Wait(Flight, Option<Arc<Token>>),
    /// The last fetch failed, and it is too soon to try again.
    NotNow(Backoff),
}

/// What [`Slot::reject`] says.
#[derive(Debug)]
pub enum Rejected {
    /// There already is a newer one.
    Newer(Arc<Token>),
    /// The next one is being fetched.
    Renewing(Flight),
    /// The token before it was refused, too, and none accepted since: not again so soon.
    Guarded,
    /// The provider failed a moment ago: not now.
    NotNow,
}

/// How a token is fetched: by whom, and how long its life may be.
#[derive(Debug)]
pub struct Fetch<F> {
    /// The fetch itself. Not polled by whoever asks.
    pub future: F,
    /// What it runs on.
    pub runtime: Handle,
    /// Its time limit.
    pub timeout: Duration,
    /// The longest life that is believed.
    pub max_lifetime: Option<Duration>,
    /// When it is its turn, among all that ask the same provider.
    pub pace: Arc<Pace>,
    /// How long it waits for that.
    pub patience: Duration,
}

impl Slot {
    /// The token, if it needs nothing done about it. Takes no lock.
    #[must_use]
    pub fn fresh(&self, now: Moment) -> Option<Arc<Token>> {
        let token = self.current.load_full()?;
        (token.freshness(now) == Freshness::Fresh).then_some(token)
    }

    /// The token there is, however old.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    /// The token, or what there is to wait for. `fetch` is called only if a fetch has to be started.
    pub fn ask<F>(
        self: &Arc<Self>,
        now: Moment,
        fetch: impl FnOnce(FetchReason) -> Fetch<F>,
    ) -> Asked
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        let mut state = self.lock();
        let token = self.current.load_full();
        let freshness = token.as_ref().map(|token| token.freshness(now));
        match (token, freshness) {
            (Some(token), Some(Freshness::Fresh)) => Asked::Token(token),
            (Some(token), Some(Freshness::Due)) => {
                if state.flight.is_none() && !state.is_backing_off(now, false) {
                    let reason = if token.is_rejected() {
                        FetchReason::Unauthorized
                    } else {
                        FetchReason::Scheduled
                    };
                    let _behind = self.launch(&mut state, now, reason, fetch);
                }
                match &state.flight {
                    // Refused by its upstream: the next one is better, if it comes.
                    Some(flight) if token.is_rejected() => Asked::Wait(flight.clone(), Some(token)),
                    _ => Asked::Token(token),
                }
            }
            (token, _) => {
                if let Some(flight) = &state.flight {
                    return Asked::Wait(flight.clone(), None);
                }
                if let Some(backoff) = &state.backoff
                    && now < backoff.until(true)
                {
                    return Asked::NotNow(backoff.clone());
                }
                let reason = if token.is_some() {
                    FetchReason::Expired
                } else {
                    FetchReason::Startup
                };
                Asked::Wait(self.launch(&mut state, now, reason, fetch), None)
            }
        }
    }

    /// Tells that an upstream answered `refused` with 401. Names the token, not the slot: the second of two that tell
    /// must not undo what was done for the first.
    pub fn reject<F>(
        self: &Arc<Self>,
        refused: &Arc<Token>,
        now: Moment,
        fetch: impl FnOnce(FetchReason) -> Fetch<F>,
    ) -> Rejected
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        let mut state = self.lock();
        let usable = |token: &Arc<Token>| token.freshness(now) != Freshness::Expired;
        let refused = match self.current.load_full().filter(usable) {
            Some(current) if current.secret() != refused.secret() => {
                return match &state.flight {
                    // Refused in its turn: the next one is better.
                    Some(flight) if current.is_rejected() => Rejected::Renewing(flight.clone()),
                    _ => Rejected::Newer(current),
                };
            }
            // The provider may have given the same one again, under a new generation.
            Some(current) => current,
            None => Arc::clone(refused),
        };
        if let Some(flight) = &state.flight {
            refused.set_rejected();
            return Rejected::Renewing(flight.clone());
        }
        if state.is_backing_off(now, false) {
            return Rejected::NotNow;
        }
        if refused.is_accepted() || !refused.is_doubted() {
            state.guard = 0;
        } else if now < refused.life().issued_at + guard_time(state.guard) {
            return Rejected::Guarded;
        } else {
            state.guard += 1;
        }
        refused.set_rejected();
        Rejected::Renewing(self.launch(&mut state, now, FetchReason::Unauthorized, fetch))
    }

    /// Fetches whatever the token's state, unless a fetch is under way: then that one.
    pub fn force<F>(
        self: &Arc<Self>,
        now: Moment,
        fetch: impl FnOnce(FetchReason) -> Fetch<F>,
    ) -> Flight
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        let mut state = self.lock();
        match &state.flight {
            Some(flight) => flight.clone(),
            None => self.launch(&mut state, now, FetchReason::Forced, fetch),
        }
    }

    /// Fetches a token for whoever asks and for nobody else: it is not joined, and ends when nobody waits for it.
    ///
    /// # Errors
    ///
    /// The failure after which it is too soon to try again.
    pub fn alone<F>(
        self: &Arc<Self>,
        now: Moment,
        fetch: impl FnOnce(FetchReason) -> Fetch<F>,
    ) -> Result<Flight, Backoff>
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        let reason = FetchReason::Startup;
        if let Some(backoff) = &self.lock().backoff
            && now < backoff.until(true)
        {
            return Err(backoff.clone());
        }
        let fetch = fetch(reason);
        let runtime = fetch.runtime.clone();
        let slot = Arc::clone(self);
        let mut task = JoinSet::new();
        let landing = async move {
            let granted = slot.attempt(now, fetch).await;
            let mut state = slot.lock();
            let token = slot.keep(&mut state, granted, reason);
            // Of many that fail together, the first says how long to wait.
            if let Err(error) = &token
                && !state.is_backing_off(Moment::now(), false)
            {
                state.fail(error);
            }
            token
        };
        task.spawn_on(landing, &runtime);
        let landed = async move {
            let broken = || FetchError::unavailable("an internal error");
            let landed = task.join_next().await.ok_or_else(broken)?;
            landed.map_err(|_panic| broken())?
        };
        Ok(landed.boxed().shared())
    }

    /// Whether the last token was good for one use only.
    #[must_use]
    pub fn gives_single_use(&self) -> bool {
        self.single_use.load(Ordering::Relaxed)
    }

    /// The refresh token of the last answer, if it is still good.
    #[must_use]
    pub fn refresh_token(&self, now: Moment) -> Option<Arc<RefreshToken>> {
        let good = |it: &&Arc<RefreshToken>| it.good_until.is_none_or(|end| now < end);
        self.lock().refresh.as_ref().filter(good).map(Arc::clone)
    }

    /// Keeps the refresh token of an answer that was asked for at `asked_at`, in place of any other; none forgets it.
    pub fn keep_refresh_token(&self, refresh: Option<RefreshGrant>, asked_at: Moment) {
        let refresh = refresh.map(|grant| RefreshToken {
            secret: grant.token,
            good_until: grant.lifetime.map(|lifetime| asked_at + lifetime),
        });
        self.lock().refresh = refresh.map(Arc::new);
    }

    /// Lets one more wait, unless `most` do. The place is free again when the guard is dropped.
    #[must_use]
    pub fn queue(&self, most: usize) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(waiting)
    }

    /// Forgets a failure that is the configuration's fault if what it depends on has `changed`, so that the next to
    /// ask tries again at once. Looks at most once a second, and only after such a failure.
    pub fn rearm(&self, now: Moment, changed: impl FnOnce() -> bool) {
        let mut state = self.lock();
        let looked_just_now = state.looked_at.is_some_and(|last| now < last + FLOOR);
        if looked_just_now || !state.failed_by_configuration() {
            return;
        }
        state.looked_at = Some(now);
        // Looking may read files: not under the lock.
        drop(state);
        if changed() {
            let mut state = self.lock();
            if state.failed_by_configuration() {
                state.backoff = None;
            }
        }
    }

    /// The failures since the last success, if any.
    #[must_use]
    pub fn backoff(&self) -> Option<Backoff> {
        self.lock().backoff.clone()
    }

    /// Until when its provider is left alone if no request wants a token.
    #[must_use]
    pub fn left_alone_until(&self, now: Moment) -> Moment {
        self.backoff().map_or(now, |backoff| backoff.until(false))
    }

    // A store a millisecond at the most: a line that every worker reads stays in every cache.
    pub(super) fn used_at(&self, stamp: u64) {
        if self.last_use() < stamp {
            self.used.store(stamp, Ordering::Relaxed);
        }
    }

    pub(super) fn last_use(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether its last attempt began so recently that the next would be too soon.
    pub(super) fn has_just_tried(&self, now: Moment) -> bool {
        let last = self.lock().attempted_at;
        last.is_some_and(|last| now < last + FLOOR)
    }

    /// Drops what is secret in it.
    pub(super) fn clear(&self) {
        self.current.store(None);
        self.lock().refresh = None;
    }

    fn launch<F>(
        self: &Arc<Self>,
        state: &mut State,
        now: Moment,
        reason: FetchReason,
        fetch: impl FnOnce(FetchReason) -> Fetch<F>,
    ) -> Flight
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        let start_at = state.attempted_at.map_or(now, |last| now.max(last + FLOOR));
        state.attempted_at = Some(start_at);
        let fetch = fetch(reason);
        let runtime = fetch.runtime.clone();
        let slot = Arc::clone(self);
        let landing = async move {
            let granted = AssertUnwindSafe(slot.attempt(start_at, fetch))
                .catch_unwind()
                .await
                .unwrap_or_else(|_panic| Err(FetchError::unavailable("an internal error")));
            slot.land(granted, reason)
        };
        // Spawned, so that the fetch outlives the request that started it.
        let flight = runtime
            .spawn(landing)
            .map(|landed| {
                landed
                    .unwrap_or_else(|_stopped| Err(FetchError::unavailable("pillion is stopping")))
            })
            .boxed()
            .shared();
        state.flight = Some(flight.clone());
        flight
    }

    async fn attempt(
        &self,
        start_at: Moment,
        fetch: Fetch<impl Future<Output = Result<Minted, FetchError>>>,
    ) -> Result<(Minted, Life), FetchError> {
        sleep_until(start_at).await;
        let turn = fetch.pace.turn(fetch.patience).await?;
        let began = Moment::now();
        self.lock().attempted_at = Some(began);
        let after = fetch.timeout;
        let minted = timeout(after, fetch.future)
            .await
            .unwrap_or(Err(FetchError::Timeout { after }));
        turn.end(&minted);
        let minted = minted?;
        let grant = &minted.grant;
        let now = Moment::now();
        let counts_from = match grant.lifetime {
            // Nobody stated this one: it is for whoever waits for the token now.
            Lifetime::Clamped(_) => now,
            // Before it was asked for: what the network takes is lost, not won.
            Lifetime::For(_) | Lifetime::Unlimited { .. } => grant.asked_at.unwrap_or(began),
        };
        let asked = SystemTime::now() - (now - counts_from);
        let longest = fetch.max_lifetime;
        let mut life = Life::new(grant.lifetime, longest, counts_from, asked, fastrand::f64());
        let previous = self.current.load_full();
        if previous.is_some_and(|previous| *previous.secret() == grant.token) {
            life = life.due_at_half();
        }
        if let Some(renew_after) = grant.renew_after {
            life = life.due_after(renew_after);
        }
        if life.freshness(now) == Freshness::Expired {
            return Err(FetchError::malformed(
                "the token's life was over before it came",
            ));
        }
        Ok((minted, life))
    }

    fn land(
        &self,
        granted: Result<(Minted, Life), FetchError>,
        reason: FetchReason,
    ) -> Result<Arc<Token>, FetchError> {
        let mut state = self.lock();
        state.flight = None;
        let token = self.keep(&mut state, granted, reason);
        if let Err(error) = &token {
            state.fail(error);
        }
        token
    }

    // A token of one use is not kept: it belongs to whoever waited for it.
    fn keep(
        &self,
        state: &mut State,
        granted: Result<(Minted, Life), FetchError>,
        reason: FetchReason,
    ) -> Result<Arc<Token>, FetchError> {
        let (Minted { grant, parent }, life) = granted?;
        let generation = state.generation + 1;
        let previous = self.current.load_full();
        let token = Token::granted(grant, parent, generation, reason, life)?;
        let token = Arc::new(token.after(previous.as_deref()));
        state.generation = generation;
        state.backoff = None;
        self.single_use
            .store(token.is_single_use(), Ordering::Relaxed);
        if !token.is_single_use() {
            self.current.store(Some(Arc::clone(&token)));
            if let Some(previous) = previous {
                previous.make_way_for(&token);
            }
        }
        Ok(token)
    }

    // A std mutex: held for a few assignments, never across an await, and not at all for a fresh token.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, error: &FetchError) {
        let (now, chance) = (Moment::now(), fastrand::f64());
        let previous = self.backoff.as_ref();
        self.backoff = Some(Backoff::after(error.clone(), previous, now, chance));
    }

    fn failed_by_configuration(&self) -> bool {
        let backoff = self.backoff.as_ref();
        self.flight.is_none()
            && backoff.is_some_and(|backoff| backoff.error.is_configuration_fault())
    }

    fn is_backing_off(&self, now: Moment, wanted: bool) -> bool {
        self.backoff
            .as_ref()
            .is_some_and(|backoff| now < backoff.until(wanted))
    }
}

/// A place among those who wait for a token.
#[derive(Debug)]
pub struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn guard_time(times: u32) -> Duration {
    (GUARD_FIRST * (1 << times.min(8))).min(GUARD_MOST)
}

/// A doubted token that is refused is replaced after this time, and its successor after twice that.
const GUARD_FIRST: Duration = Duration::from_secs(30);
const GUARD_MOST: Duration = Duration::from_mins(15);
