//! Tokens: fetched from a [`Provider`], kept in [`cache`] slots, handed out by [`Tokens`].

pub mod backoff;
pub mod cache;
pub mod life;
pub mod status;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::cache::{Asked, Fetch, Flight, Rejected, Slot, Slots};
use self::life::{Freshness, Token};
use crate::metrics::{FetchOutcome, FetchReason, Metrics, ProviderMetrics};
use crate::provider::{FetchError, Grant, Lifetime, Provider, Subject};

/// Every live token of one provider, and the only way to get one.
#[derive(Debug)]
pub struct Tokens {
    provider: Arc<Provider>,
    slots: Slots,
    runtime: Handle,
    metrics: ProviderMetrics,
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
    /// The tokens of `provider`, none of them fetched yet. Fetches run on `runtime`, whoever asks.
    #[must_use]
    pub fn new(provider: Provider, runtime: Handle, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(provider.policy.max_entries),
            metrics: metrics.provider(&provider.name),
            provider: Arc::new(provider),
            runtime,
        })
    }

    /// Whose tokens these are.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The current token; fetched if there is none, renewed behind the caller's back if it is due.
    ///
    /// # Errors
    ///
    /// When no usable token is at hand and none comes in time.
    pub async fn get(&self, subject: &Subject, now: Instant) -> Result<Arc<Token>, TokenError> {
        if self.provider.inputs.is_empty() {
            if let Some(token) = self.slots.own().fresh(now) {
                return Ok(token);
            }
            return self.get_slowly(self.slots.own(), subject, now).await;
        }
        let slot = self.slots.of(subject);
        match slot.fresh(now) {
            Some(token) => Ok(token),
            None => self.get_slowly(&slot, subject, now).await,
        }
    }

    async fn get_slowly(
        &self,
        slot: &Arc<Slot>,
        subject: &Subject,
        now: Instant,
    ) -> Result<Arc<Token>, TokenError> {
        match slot.ask(now, |reason| self.fetch(subject, reason)) {
            Asked::Token(token) => Ok(token),
            Asked::Wait(flight, fallback) => {
                let waited = self.wait(slot, flight).await;
                self.metrics
                    .wait_duration
                    .observe(now.elapsed().as_secs_f64());
                // While the old one is good, a failing provider is nobody's business but its own.
                let usable =
                    |token: &Arc<Token>| token.freshness(Instant::now()) != Freshness::Expired;
                waited.or_else(|error| fallback.filter(usable).ok_or(error))
            }
            Asked::NotNow(backoff) => Err(TokenError::BackingOff {
                retry_after: backoff.until(true) - now,
                cause: backoff.error,
            }),
        }
    }

    /// Tells that an upstream answered `refused` with 401. Nothing is waited for.
    #[must_use]
    pub fn reject(&self, subject: &Subject, refused: &Arc<Token>, now: Instant) -> Rejected {
        self.slot(subject)
            .reject(refused, now, |reason| self.fetch(subject, reason))
    }

    /// The token that a renewal brings, unless it is the one that was refused.
    pub async fn renewed(
        &self,
        subject: &Subject,
        flight: Flight,
        refused: &Token,
    ) -> Option<Arc<Token>> {
        let token = self.wait(&self.slot(subject), flight).await.ok()?;
        (token.secret() != refused.secret()).then_some(token)
    }

    /// Fetches a new token now, for somebody who asks for it.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn force(&self, subject: &Subject, now: Instant) -> Result<Arc<Token>, TokenError> {
        let slot = self.slot(subject);
        let flight = slot.force(now, |reason| self.fetch(subject, reason));
        self.wait(&slot, flight).await
    }

    /// Keeps the process's own token fresh without anybody asking for it, until these tokens are dropped.
    pub fn keep_warm(self: &Arc<Self>) {
        let tokens = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while let Some(tokens) = tokens.upgrade() {
                let now = Instant::now();
                let wake_at = match tokens.get(&Subject::default(), now).await {
                    Ok(token) => token.life().due_at,
                    Err(_) => now,
                };
                drop(tokens);
                tokio::time::sleep_until(wake_at.max(now + WARM_PAUSE)).await;
            }
        });
    }

    /// Whether the process's own token has ever been fetched.
    #[must_use]
    pub fn has_had_token(&self) -> bool {
        self.slots.own().current().is_some()
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

    fn slot(&self, subject: &Subject) -> Arc<Slot> {
        if self.provider.inputs.is_empty() {
            Arc::clone(self.slots.own())
        } else {
            self.slots.of(subject)
        }
    }

    fn fetch(
        &self,
        subject: &Subject,
        reason: FetchReason,
    ) -> Fetch<impl Future<Output = Result<Grant, FetchError>> + Send + 'static> {
        let policy = self.provider.policy;
        let future = observed(
            Arc::clone(&self.provider),
            subject.clone(),
            self.metrics.clone(),
            reason,
        );
        Fetch {
            future,
            runtime: self.runtime.clone(),
            timeout: policy.timeout + GRACE,
            max_lifetime: policy.max_lifetime,
        }
    }
}

// Around the fetch, not inside: what the metrics and the log say about it.
async fn observed(
    provider: Arc<Provider>,
    subject: Subject,
    metrics: ProviderMetrics,
    reason: FetchReason,
) -> Result<Grant, FetchError> {
    let began = Instant::now();
    let limit = provider.policy.timeout;
    let result = tokio::time::timeout(limit, provider.fetch(&subject))
        .await
        .unwrap_or(Err(FetchError::Timeout { after: limit }));
    let took = began.elapsed();
    let outcome = match &result {
        Ok(_) => FetchOutcome::Ok,
        Err(error) => error.outcome(),
    };
    metrics.fetched(reason, outcome, took);
    let (name, reason, outcome) = (&*provider.name, reason.as_str(), outcome.as_str());
    match &result {
        Ok(grant) => {
            if matches!(grant.lifetime, Lifetime::Clamped(_)) {
                metrics.lifetimes_clamped.inc();
                tracing::warn!(provider = name, "the answer states an impossible lifetime");
            }
            tracing::info!(provider = name, reason, ?took, "token fetched");
        }
        Err(error) => {
            tracing::warn!(provider = name, reason, outcome, ?took, %error, "token fetch failed");
        }
    }
    result
}

/// Beyond a fetch's own limit: that of the slot is for a fetch that does not keep its own.
const GRACE: Duration = Duration::from_secs(1);
/// Between two looks at a token that is kept warm.
const WARM_PAUSE: Duration = Duration::from_secs(1);
