//! One fetch of a token: from its parent's token if it has a parent, with its refresh token if there is one.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::cache::slot::{Minted, Rejected, Slot};
use super::life::Token;
use super::{FailedSecrets, TokenError, Tokens};
use crate::clock::Moment;
use crate::metrics::events::EventKind;
use crate::metrics::spans::{Span, SpanKind, SpanValue};
use crate::metrics::{FetchOutcome, FetchReason, ProviderMetrics};
use crate::provider::secret::Secret;
use crate::provider::{Call, Failed, FetchError, Grant, Input, Lifetime, Provider, Subject};

/// The tokens that a provider's are made from.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) tokens: Arc<Tokens>,
    /// For each input of the parent, the child's input of the same name.
    inputs: Vec<Option<usize>>,
}

impl Parent {
    pub(super) fn new(tokens: Arc<Tokens>, child_inputs: &[String]) -> Self {
        let place = |name: &String| child_inputs.iter().position(|input| input == name);
        Self {
            inputs: tokens.provider().inputs.iter().map(place).collect(),
            tokens,
        }
    }

    /// The parent's subject for a child's.
    pub(super) fn subject(&self, child: &Subject) -> Subject {
        let value = |place: &Option<usize>| child.inputs().nth((*place)?);
        let values = self.inputs.iter();
        Subject::new(values.map(|place| value(place).unwrap_or(Input::Text(""))))
    }

    // A type of its own, because a fetch that gets a token that fetches has none that ends.
    fn get<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Arc<Token>, Failed>> {
        let got = self.tokens.get(subject, Moment::now());
        got.map(|got| got.map_err(|error| self.failed(error)))
            .boxed()
    }

    /// The token after `refused`, if there is one.
    fn renewed<'a>(
        &'a self,
        subject: &'a Subject,
        refused: &'a Arc<Token>,
    ) -> BoxFuture<'a, Option<Arc<Token>>> {
        async move {
            // No guard is needed where nobody is asked, and the secret may be another one by now.
            if self.tokens.provider().is_made_here() {
                let newer = self.tokens.force(subject, Moment::now()).await.ok()?;
                return (newer.secret() != refused.secret()).then_some(newer);
            }
            match self.tokens.reject(subject, refused, Moment::now()) {
                Rejected::Newer(newer) => Some(newer),
                Rejected::Renewing(flight) => self.tokens.renewed(subject, flight, refused).await,
                Rejected::Guarded | Rejected::NotNow => None,
            }
        }
        .boxed()
    }

    fn failed(&self, error: TokenError) -> Failed {
        let error = match error {
            TokenError::Fetch(error) | TokenError::BackingOff { cause: error, .. } => error,
            TokenError::Waited(after) => FetchError::Timeout { after },
            TokenError::TooManyWaiters => {
                FetchError::unavailable("too many wait for its parent's token")
            }
        };
        let name = &self.tokens.provider().name;
        Failed::from(error).with_said(Some(format!("there is no token of its parent `{name}`")))
    }
}

/// A fetch and all that it needs.
pub(super) struct Mint {
    pub(super) provider: Arc<Provider>,
    pub(super) parent: Option<Arc<Parent>>,
    pub(super) subject: Subject,
    pub(super) slot: Arc<Slot>,
    pub(super) metrics: ProviderMetrics,
    pub(super) failed_secrets: Arc<FailedSecrets>,
    pub(super) reason: FetchReason,
}

impl Mint {
    // Around the fetch, not inside: what the metrics and the log say about it.
    pub(super) async fn observed(self) -> Result<Minted, FetchError> {
        // Read before the fetch reads them: a change in between is noticed afterwards.
        let secrets = secrets(
            &self.provider,
            self.parent.as_deref(),
            &self.failed_secrets.key,
        );
        if self.reason == FetchReason::Unauthorized {
            self.happened(EventKind::Revoked, "an upstream refused it".to_owned());
            tracing::info!(
                provider = &*self.provider.name,
                subject = self.hashed_subject(),
                "token refused by its upstream"
            );
        }
        let began = Moment::now();
        let result = self.mint().await;
        let took = began.elapsed();
        let outcome = match &result {
            Ok(_) => FetchOutcome::Ok,
            Err(failed) => failed.error.outcome(),
        };
        self.metrics.fetched(self.reason, outcome, took);
        let name = &*self.provider.name;
        self.trace(outcome, took);
        let (reason, outcome) = (self.reason.as_str(), outcome.as_str());
        let (subject, address) = (self.hashed_subject(), self.provider.address());
        match &result {
            Ok(minted) => {
                if matches!(minted.grant.lifetime, Lifetime::Clamped(_)) {
                    self.metrics.lifetimes_clamped.inc();
                    tracing::warn!(provider = name, "the answer states an impossible lifetime");
                }
                let kind = match self.reason {
                    FetchReason::Startup => EventKind::Fetched,
                    _ => EventKind::Renewed,
                };
                let why = self.reason.in_words();
                self.happened(kind, format!("in {} ms: {why}", took.as_millis()));
                tracing::info!(
                    provider = name,
                    subject,
                    server.address = address,
                    reason,
                    outcome,
                    duration = took.as_secs_f64(),
                    "token fetched"
                );
            }
            Err(failed) => {
                if failed.error.is_configuration_fault() {
                    let digest =
                        with_parent(secrets, self.parent.as_deref(), &self.failed_secrets.key);
                    self.failed_secrets.digest.store(digest, Ordering::Relaxed);
                }
                self.happened(EventKind::Failed, failed.error.to_string());
                let (error, said) = (failed.error.report(), failed.line());
                tracing::warn!(
                    provider = name,
                    subject,
                    server.address = address,
                    reason,
                    outcome,
                    duration = took.as_secs_f64(),
                    error,
                    said,
                    "token fetch failed"
                );
            }
        }
        result.map_err(|failed| failed.error)
    }

    fn happened(&self, kind: EventKind, told: String) {
        self.metrics.happened(kind, self.some_subject(), told);
    }

    fn hashed_subject(&self) -> Option<String> {
        self.metrics.hashed(self.some_subject())
    }

    fn some_subject(&self) -> Option<&Subject> {
        Some(&self.subject).filter(|subject| subject.inputs().next().is_some())
    }

    // A trace of its own: it is for all who wait, and begun by one of them or by nobody.
    fn trace(&self, outcome: FetchOutcome, took: Duration) {
        let Some(spans) = self.metrics.spans() else {
            return;
        };
        let text = |key, value: &str| (key, SpanValue::Text(value.to_owned()));
        let mut attributes = vec![
            text("pillion.provider", &self.provider.name),
            text("pillion.reason", self.reason.as_str()),
            text("pillion.outcome", outcome.as_str()),
        ];
        let address = self.provider.address();
        attributes.extend(address.map(|address| text("server.address", address)));
        spans.end(Span {
            place: spans.begin(),
            name: format!("fetch {}", self.provider.name),
            kind: SpanKind::Client,
            began: SystemTime::now() - took,
            took,
            failed: outcome != FetchOutcome::Ok,
            attributes,
        });
    }

    /// A parent whose token is refused is renewed once, and the mint tried once more.
    async fn mint(&self) -> Result<Minted, Failed> {
        let Some(parent) = self.parent.as_deref() else {
            return Ok(self.refreshed_or_first(None).await?.into());
        };
        let subject = parent.subject(&self.subject);
        let mut token = parent.get(&subject).await?;
        let mut granted = self.refreshed_or_first(Some(token.secret())).await;
        if granted.as_ref().is_err_and(|failed| failed.unauthorized)
            && let Some(newer) = parent.renewed(&subject, &token).await
        {
            token = newer;
            granted = self.refreshed_or_first(Some(token.secret())).await;
        }
        let mut grant = granted?;
        token.accept();
        if self.provider.policy.within_parent
            && let Some(end) = token.life().expires_at
        {
            let left = end - Moment::now();
            grant.lifetime = grant.lifetime.at_most(left);
        }
        Ok(Minted {
            grant,
            parent: Some(token),
        })
    }

    /// The refresh token first, if there is one; without, or if it is refused, from the beginning.
    async fn refreshed_or_first(&self, parent: Option<&Secret>) -> Result<Grant, Failed> {
        if !self.provider.refreshes() {
            return self.attempt(parent, None).await;
        }
        let now = Moment::now();
        if let Some(refresh) = self.slot.refresh_token(now) {
            match self.attempt(parent, Some(&refresh.secret)).await {
                Ok(mut grant) => {
                    // Stored before the access token is used; kept when the answer has no other.
                    if let Some(rotated) = grant.refresh.take() {
                        self.slot.keep_refresh_token(Some(rotated), now);
                    }
                    return Ok(grant);
                }
                Err(failed) if !is_refusal(&failed.error) => return Err(failed),
                Err(failed) => {
                    self.slot.keep_refresh_token(None, now);
                    let (error, said) = (failed.error.report(), failed.line());
                    tracing::info!(
                        provider = &*self.provider.name,
                        error,
                        said,
                        "refresh token refused, beginning anew"
                    );
                }
            }
        }
        let now = Moment::now();
        let mut grant = self.attempt(parent, None).await?;
        self.slot.keep_refresh_token(grant.refresh.take(), now);
        Ok(grant)
    }

    async fn attempt(
        &self,
        parent: Option<&Secret>,
        refresh_token: Option<&Secret>,
    ) -> Result<Grant, Failed> {
        tracing::trace!(provider = &*self.provider.name, "fetching");
        let limit = self.provider.policy.timeout;
        let call = Call {
            subject: &self.subject,
            parent,
            refresh_token,
        };
        let asked_at = Moment::now();
        let mut grant = tokio::time::timeout(limit, self.provider.fetch(&call))
            .await
            .unwrap_or_else(|_elapsed| Err(FetchError::Timeout { after: limit }.into()))?;
        grant.asked_at = Some(asked_at);
        Ok(grant)
    }
}

/// Whether the provider has answered, and will answer the same again.
const fn is_refusal(error: &FetchError) -> bool {
    match error {
        FetchError::Refused { .. } | FetchError::Malformed { .. } => true,
        FetchError::Secret(_)
        | FetchError::Throttled { .. }
        | FetchError::Unreachable { .. }
        | FetchError::Unavailable { .. }
        | FetchError::Timeout { .. } => false,
    }
}

/// What a failure by the configuration's fault depended on: the secrets, and the parent's token.
pub(super) fn digest(provider: &Provider, parent: Option<&Parent>, key: &RandomState) -> u64 {
    with_parent(secrets(provider, parent, key), parent, key)
}

fn secrets(provider: &Provider, parent: Option<&Parent>, key: &RandomState) -> u64 {
    let own = provider.secrets_digest(key);
    parent.map_or(own, |parent| {
        let tokens = &parent.tokens;
        key.hash_one((
            own,
            secrets(&tokens.provider, tokens.parent.as_deref(), key),
        ))
    })
}

fn with_parent(secrets: u64, parent: Option<&Parent>, key: &RandomState) -> u64 {
    parent.map_or(secrets, |parent| {
        let token = parent.tokens.slots.own().current();
        key.hash_one((secrets, token.map(|token| token.generation())))
    })
}

/// The time of a fetch with all that it may have to wait for, each of which keeps a limit of its own.
pub(super) fn longest(provider: &Provider, parent: Option<&Parent>) -> Duration {
    let attempts = if provider.refreshes() { 2 } else { 1 };
    let own = provider.policy.timeout * attempts;
    let whole = parent.map_or(own, |parent| {
        2 * (own + parent.tokens.provider.policy.token_wait)
    });
    whole + GRACE
}

/// Beyond a fetch's own limit: that of the slot is for a fetch that does not keep its own.
const GRACE: Duration = Duration::from_secs(1);
