//! Tokens: fetched from a [`Provider`], kept in [`cache`] slots, handed out by [`Tokens`].

pub mod backoff;
pub mod cache;
pub mod life;
pub mod status;

use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::cache::{Asked, Fetch, Flight, Rejected, Slot, Slots};
use self::life::{Freshness, Token};
use crate::metrics::{FetchOutcome, FetchReason, Metrics, ProviderMetrics};
use crate::provider::{Call, FetchError, Grant, Lifetime, Provider, Subject};

/// Every live token of one provider, and the only way to get one.
#[derive(Debug)]
pub struct Tokens {
    provider: Arc<Provider>,
    slots: Slots,
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
    /// The tokens of `provider`, none of them fetched yet. Fetches run on `runtime`, whoever asks.
    #[must_use]
    pub fn new(provider: Provider, runtime: Handle, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(provider.policy.max_entries),
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
        self.rearm(slot, now);
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
        let slot = self.slot(subject);
        self.rearm(&slot, now);
        slot.reject(refused, now, |reason| self.fetch(subject, reason))
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

    /// A new token for an app that does not want the current one. Unlike [`force`](Self::force), it leaves a provider alone
    /// that is in back-off.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn replace(&self, subject: &Subject, now: Instant) -> Result<Arc<Token>, TokenError> {
        let slot = self.slot(subject);
        self.rearm(&slot, now);
        match slot.backoff() {
            Some(backoff) if now < backoff.until(true) => Err(TokenError::BackingOff {
                retry_after: backoff.until(true) - now,
                cause: backoff.error,
            }),
            _ => self.force(subject, now).await,
        }
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
                let wake_at = wake_at.clamp(now + WARM_PAUSE, now + WARM_LOOK);
                tokio::time::sleep_until(wake_at).await;
            }
        });
    }

    /// Whether the process's own token has ever been fetched.
    #[must_use]
    pub fn has_had_token(&self) -> bool {
        self.slots.own().current().is_some()
    }

    // A secret that was wrong and has been replaced is tried at once, not when the long back-off ends.
    fn rearm(&self, slot: &Slot, now: Instant) {
        slot.rearm(now, || {
            let failed = &self.failed_secrets;
            self.provider.secrets_digest(&failed.key) != failed.digest.load(Ordering::Relaxed)
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
            Arc::clone(&self.failed_secrets),
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
    failed_secrets: Arc<FailedSecrets>,
    reason: FetchReason,
) -> Result<Grant, FetchError> {
    // Read before the fetch reads them: a change in between is noticed afterwards.
    let secrets = provider.secrets_digest(&failed_secrets.key);
    let began = Instant::now();
    let limit = provider.policy.timeout;
    let call = Call {
        subject: &subject,
        parent: None,
    };
    let result = tokio::time::timeout(limit, provider.fetch(&call))
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
            if error.is_configuration_fault() {
                failed_secrets.digest.store(secrets, Ordering::Relaxed);
            }
            let error = error.report();
            tracing::warn!(
                provider = name,
                reason,
                outcome,
                ?took,
                error,
                "token fetch failed"
            );
        }
    }
    result
}

/// Beyond a fetch's own limit: that of the slot is for a fetch that does not keep its own.
const GRACE: Duration = Duration::from_secs(1);
/// Between two looks at a token that is kept warm, at the least.
const WARM_PAUSE: Duration = Duration::from_secs(1);
/// And at the most: an upstream may have refused it since, and tokens that a reload dropped need no keeping.
const WARM_LOOK: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
