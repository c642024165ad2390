//! Tokens: fetched from a [`Provider`], kept in [`cache`] slots, handed out by [`Tokens`].

pub mod backoff;
pub mod cache;
pub mod life;
mod mint;
pub mod pace;
pub mod status;

use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::cache::slot::{Asked, Fetch, Flight, Minted, Rejected, Slot};
use self::cache::slots::{FULL_LOOK, Slots};
use self::life::{Freshness, Token};
use self::mint::{Mint, Parent};
use self::pace::Pace;
use crate::clock::{self, Moment};
use crate::metrics::{FetchReason, Metrics, ProviderMetrics};
use crate::provider::inputs::InputFault;
use crate::provider::reading::SingleUse;
use crate::provider::{FetchError, Provider, Subject};

/// Every live token of one provider, and the only way to get one.
#[derive(Debug)]
pub struct Tokens {
    provider: Arc<Provider>,
    parent: Option<Arc<Parent>>,
    slots: Arc<Slots>,
    /// Ends with these tokens.
    _sweeping: JoinSet<()>,
    pace: Arc<Pace>,
    runtime: Handle,
    metrics: ProviderMetrics,
    failed_secrets: Arc<FailedSecrets>,
}

/// The secrets with which a fetch last failed by the configuration's fault, as a keyed hash.
#[derive(Debug, Default)]
struct FailedSecrets {
    key: RandomState,
    digest: AtomicU64,
}

/// Why a request gets no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The fetch that it waited for failed.
    #[error("{0}")]
    Fetch(FetchError),
    /// A fetch failed a moment ago, and it is too soon to try again.
    #[error("{cause}")]
    BackingOff {
        /// The failure.
        cause: FetchError,
        /// When the provider is asked again.
        retry_after: Duration,
    },
    /// No token within the time that a request waits.
    #[error("no token within {0:?}")]
    Waited(Duration),
    /// Too many requests wait for this token already.
    #[error("too many requests wait for the token")]
    TooManyWaiters,
}

impl Tokens {
    /// The tokens of `provider`, none of them fetched yet, made from those of `parent` if it has one: a cycle cannot be
    /// built. Fetches run on `runtime`, whoever asks.
    #[must_use]
    pub fn new(
        provider: Provider,
        parent: Option<Arc<Self>>,
        runtime: Handle,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let slots = Arc::new(Slots::new(provider.policy.max_entries));
        let sweeping = if provider.inputs.is_empty() {
            JoinSet::new()
        } else {
            slots.keep_swept(provider.policy.max_idle, &runtime)
        };
        Arc::new(Self {
            parent: parent.map(|tokens| Arc::new(Parent::new(tokens, &provider.inputs))),
            slots,
            _sweeping: sweeping,
            pace: Arc::new(Pace::new(provider.policy.max_fetches)),
            metrics: metrics.provider(&provider.name),
            provider: Arc::new(provider),
            runtime,
            failed_secrets: Arc::default(),
        })
    }

    /// Whose tokens these are.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The tokens that these are made from.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref().map(|parent| &parent.tokens)
    }

    /// Whether the inputs of a request can be used, by the provider and by its parents. To be asked before
    /// [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// The first fault: the app's, not the provider's. It names the input, never its value.
    pub fn check_inputs(&self, subject: &Subject) -> Result<(), InputFault> {
        self.provider.check_inputs(subject)?;
        match &self.parent {
            Some(parent) => parent.tokens.check_inputs(&parent.subject(subject)),
            None => Ok(()),
        }
    }

    /// The current token; fetched if there is none, renewed behind the caller's back if it is due.
    ///
    /// # Errors
    ///
    /// When no usable token is at hand and none comes in time.
    pub async fn get(&self, subject: &Subject, now: Moment) -> Result<Arc<Token>, TokenError> {
        if self.provider.inputs.is_empty() {
            if let Some(token) = self.slots.own().fresh(now) {
                return Ok(token);
            }
            // In a box, so that a request whose token is fresh is no larger for it.
            return Box::pin(self.get_slowly(self.slots.own(), subject, now)).await;
        }
        if let Some(token) = self.slots.fresh(subject, now) {
            return Ok(token);
        }
        let (slot, now) = Box::pin(self.place(subject, now)).await?;
        Box::pin(self.get_slowly(&slot, subject, now)).await
    }

    async fn get_slowly(
        &self,
        slot: &Arc<Slot>,
        subject: &Subject,
        now: Moment,
    ) -> Result<Arc<Token>, TokenError> {
        self.rearm(slot, now);
        let is_alone = match self.provider.single_use() {
            SingleUse::No => false,
            SingleUse::Yes => true,
            SingleUse::When(..) => slot.gives_single_use(),
        };
        if is_alone {
            return self.get_alone(slot, subject, now).await;
        }
        match slot.ask(now, |reason| self.fetch(slot, subject, reason)) {
            Asked::Token(token) => Ok(token),
            Asked::Wait(flight, fallback) => {
                let waited = self.wait(slot, flight).await;
                if waited.as_ref().is_ok_and(|token| !token.take()) {
                    // Of one use, and somebody else's.
                    return self.get_alone(slot, subject, Moment::now()).await;
                }
                self.metrics
                    .wait_duration
                    .observe(now.elapsed().as_secs_f64());
                // While the old one is good, a failing provider is nobody's business but its own.
                let usable =
                    |token: &Arc<Token>| token.freshness(Moment::now()) != Freshness::Expired;
                waited.or_else(|error| fallback.filter(usable).ok_or(error))
            }
            Asked::NotNow(backoff) => Err(TokenError::BackingOff {
                retry_after: backoff.until(true) - now,
                cause: backoff.error,
            }),
        }
    }

    /// A token for this request and no other.
    async fn get_alone(
        &self,
        slot: &Arc<Slot>,
        subject: &Subject,
        now: Moment,
    ) -> Result<Arc<Token>, TokenError> {
        match slot.alone(now, |reason| self.fetch(slot, subject, reason)) {
            Ok(flight) => self.wait(slot, flight).await,
            Err(backoff) => Err(TokenError::BackingOff {
                retry_after: backoff.until(true) - now,
                cause: backoff.error,
            }),
        }
    }

    /// Tells that an upstream answered `refused` with 401. Nothing is waited for.
    #[must_use]
    pub fn reject(&self, subject: &Subject, refused: &Arc<Token>, now: Moment) -> Rejected {
        // Of one use: it is spent, and so is the request.
        if refused.is_single_use() {
            return Rejected::NotNow;
        }
        let Some(slot) = self.slot(subject, now) else {
            return Rejected::NotNow;
        };
        self.rearm(&slot, now);
        slot.reject(refused, now, |reason| self.fetch(&slot, subject, reason))
    }

    /// Tells that an upstream answered `refused` with a 401 that is its parent's fault: the parent is renewed first, then
    /// this token from it. Nothing is waited for. Without a parent the same as [`reject`](Self::reject).
    #[must_use]
    pub fn reject_parent(&self, subject: &Subject, refused: &Arc<Token>, now: Moment) -> Rejected {
        let (Some(parent), Some(made_from)) = (&self.parent, refused.parent()) else {
            return self.reject(subject, refused, now);
        };
        // What it brings is waited for by the fetch that starts now: a parent that was refused is not taken as it is.
        let _ = parent
            .tokens
            .reject(&parent.subject(subject), made_from, now);
        // A newer one that was made from the same parent is no better.
        let same_parent = |token: &Arc<Token>| {
            let parent = token.parent();
            parent.is_some_and(|parent| parent.secret() == made_from.secret())
        };
        let slot = self.slot(subject, now);
        match slot.and_then(|slot| slot.current()).filter(same_parent) {
            Some(current) => self.reject(subject, &current, now),
            None => self.reject(subject, refused, now),
        }
    }

    /// The token that a renewal brings, unless it is the one that was refused.
    pub async fn renewed(
        &self,
        subject: &Subject,
        flight: Flight,
        refused: &Token,
    ) -> Option<Arc<Token>> {
        let (slot, _) = self.place(subject, Moment::now()).await.ok()?;
        let token = self.wait(&slot, flight).await.ok()?;
        (token.secret() != refused.secret()).then_some(token)
    }

    /// Fetches a new token now, for somebody who asks for it.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn force(&self, subject: &Subject, now: Moment) -> Result<Arc<Token>, TokenError> {
        let (slot, now) = self.place(subject, now).await?;
        let flight = slot.force(now, |reason| self.fetch(&slot, subject, reason));
        self.wait(&slot, flight).await
    }

    /// A new token for an app that does not want the current one. Unlike [`force`](Self::force), it leaves a provider alone
    /// that is in back-off.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn replace(&self, subject: &Subject, now: Moment) -> Result<Arc<Token>, TokenError> {
        let (slot, now) = self.place(subject, now).await?;
        self.rearm(&slot, now);
        match slot.backoff() {
            Some(backoff) if now < backoff.until(true) => Err(TokenError::BackingOff {
                retry_after: backoff.until(true) - now,
                cause: backoff.error,
            }),
            _ => {
                let token = self.force(subject, now).await?;
                if token.take() {
                    return Ok(token);
                }
                // Of one use, and somebody else's.
                self.get_alone(&slot, subject, Moment::now()).await
            }
        }
    }

    /// Keeps the process's own token fresh without anybody asking for it, until these tokens are dropped.
    pub fn keep_warm(self: &Arc<Self>) {
        let tokens = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while let Some(tokens) = tokens.upgrade() {
                let now = Moment::now();
                let wake_at = match tokens.get(&Subject::default(), now).await {
                    Ok(token) => token.life().due_at,
                    // Who had a token can wait until a request wants one. Who had none is not ready: nobody else will ask.
                    Err(_) if tokens.has_had_token() => tokens.slots.own().left_alone_until(now),
                    Err(_) => now,
                };
                drop(tokens);
                let wake_at = wake_at.clamp(now + WARM_PAUSE, now + WARM_LOOK);
                clock::sleep_until(wake_at).await;
            }
        });
    }

    /// Whether the process's own token has ever been fetched.
    #[must_use]
    pub fn has_had_token(&self) -> bool {
        self.slots.own().current().is_some()
    }

    // A secret that was wrong and has been replaced is tried at once, not when the long back-off ends.
    fn rearm(&self, slot: &Slot, now: Moment) {
        slot.rearm(now, || {
            let failed = &self.failed_secrets;
            let digest = mint::digest(&self.provider, self.parent.as_deref(), &failed.key);
            digest != failed.digest.load(Ordering::Relaxed)
        });
    }

    async fn wait(&self, slot: &Slot, flight: Flight) -> Result<Arc<Token>, TokenError> {
        let policy = &self.provider.policy;
        let _place = slot
            .queue(policy.max_waiters)
            .ok_or(TokenError::TooManyWaiters)?;
        match tokio::time::timeout(policy.token_wait, flight).await {
            Ok(landed) => landed.map_err(TokenError::Fetch),
            Err(_elapsed) => Err(TokenError::Waited(policy.token_wait)),
        }
    }

    fn slot(&self, subject: &Subject, now: Moment) -> Option<Arc<Slot>> {
        if self.provider.inputs.is_empty() {
            Some(Arc::clone(self.slots.own()))
        } else {
            self.slots.of(subject, now)
        }
    }

    /// The subject's slot, and when it was found: at `now`, unless other subjects have to keep all places for a while.
    async fn place(
        &self,
        subject: &Subject,
        now: Moment,
    ) -> Result<(Arc<Slot>, Moment), TokenError> {
        let token_wait = self.provider.policy.token_wait;
        let (deadline, mut now) = (now + token_wait, now);
        loop {
            if let Some(slot) = self.slot(subject, now) {
                return Ok((slot, now));
            }
            if now >= deadline {
                return Err(TokenError::Waited(token_wait));
            }
            clock::sleep_until(deadline.min(now + FULL_LOOK)).await;
            now = Moment::now();
        }
    }

    fn fetch(
        &self,
        slot: &Arc<Slot>,
        subject: &Subject,
        reason: FetchReason,
    ) -> Fetch<impl Future<Output = Result<Minted, FetchError>> + Send + use<>> {
        let mint = Mint {
            provider: Arc::clone(&self.provider),
            parent: self.parent.clone(),
            subject: subject.clone(),
            slot: Arc::clone(slot),
            metrics: self.metrics.clone(),
            failed_secrets: Arc::clone(&self.failed_secrets),
            reason,
        };
        Fetch {
            future: mint.observed(),
            runtime: self.runtime.clone(),
            timeout: mint::longest(&self.provider, self.parent.as_deref()),
            max_lifetime: self.provider.policy.max_lifetime,
            pace: Arc::clone(&self.pace),
            patience: self.provider.policy.token_wait,
        }
    }
}

/// Between two looks at a token that is kept warm, at the least.
const WARM_PAUSE: Duration = Duration::from_secs(1);
/// And at the most: an upstream may have refused it since, and tokens that a reload dropped need no keeping.
const WARM_LOOK: Duration = Duration::from_mins(1);

#[cfg(test)]
mod herd;
#[cfg(test)]
mod tests;
