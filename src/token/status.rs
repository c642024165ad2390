//! What can be told about tokens without telling a token.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Tokens;
use super::cache::slot::Slot;
use super::life::{Freshness, Life};
use crate::clock::Moment;

/// One provider's tokens.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// As in the configuration.
    pub name: String,
    /// Its tokens, or the one place for it.
    pub tokens: Vec<TokenStatus>,
}

/// One subject's token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenStatus {
    /// The subject, hashed with a key of this process; absent for the process itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `none`, `fresh`, `due` or `expired`.
    pub state: &'static str,
    /// Counts up with every token.
    pub generation: u64,
    /// Since it was asked for.
    pub age_seconds: Option<f64>,
    /// Until its provider says that it ends; absent if it never does.
    pub expires_in_seconds: Option<f64>,
    /// Until the next one is fetched; negative if that should have happened.
    pub renews_in_seconds: Option<f64>,
    /// Since the last success.
    pub consecutive_failures: u32,
    /// Until the provider is asked again.
    pub backoff_seconds: f64,
    /// The last failure, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Tokens {
    /// What there is to tell, with subjects hashed by `key`.
    #[must_use]
    pub fn status(&self, key: &RandomState, now: Moment) -> ProviderStatus {
        let tokens = if self.provider.inputs.is_empty() {
            vec![token_status(self.slots.own(), None, now)]
        } else {
            let mut tokens = Vec::with_capacity(self.slots.len());
            self.slots.each(|subject, slot| {
                let hash = format!("{:016x}", key.hash_one(subject));
                tokens.push(token_status(slot, Some(hash), now));
            });
            tokens
        };
        ProviderStatus {
            name: self.provider.name.as_ref().to_owned(),
            tokens,
        }
    }

    fn look(&self, view: &mut View, now: Moment) {
        if self.provider.inputs.is_empty() {
            view.look_at(self.slots.own(), now);
        } else {
            self.slots.each(|_, slot| view.look_at(slot, now));
        }
    }
}

/// Brings the gauges of all providers up to date: what they say depends on the time of looking.
///
/// Tokens of one provider with different scopes are one provider's.
pub fn observe(all: &[Arc<Tokens>], now: Moment) {
    let mut views: BTreeMap<&str, (&Tokens, View)> = BTreeMap::new();
    for tokens in all {
        let (_, view) = views
            .entry(&tokens.provider.name)
            .or_insert_with(|| (tokens, View::default()));
        tokens.look(view, now);
    }
    for (tokens, view) in views.into_values() {
        let metrics = &tokens.metrics;
        metrics.tokens.set(view.tokens);
        metrics.ready.set(i64::from(view.usable));
        metrics
            .expiration
            .set(view.soonest_expiry.unwrap_or_default());
        metrics.issued.set(view.newest_issue);
        metrics.last_success.set(view.newest_issue);
        metrics.consecutive_failures.set(i64::from(view.failures));
        metrics.backoff.set(view.backoff.as_secs_f64());
    }
}

#[derive(Default)]
struct View {
    tokens: i64,
    usable: bool,
    soonest_expiry: Option<f64>,
    newest_issue: f64,
    failures: u32,
    backoff: Duration,
}

impl View {
    fn look_at(&mut self, slot: &Slot, now: Moment) {
        if let Some(token) = slot.current() {
            self.tokens += 1;
            self.usable |= token.freshness(now) != Freshness::Expired;
            let life = token.life();
            let issue = issue_by_the_wall(life, now, SystemTime::now());
            let lifetime = |end: Moment| (end - life.issued_at).as_secs_f64();
            let expiry = issue + life.ends_at.map_or(f64::INFINITY, lifetime);
            self.soonest_expiry = Some(
                self.soonest_expiry
                    .map_or(expiry, |soonest| soonest.min(expiry)),
            );
            self.newest_issue = self.newest_issue.max(issue);
        }
        if let Some(backoff) = slot.backoff() {
            self.failures = self.failures.max(backoff.failures);
            self.backoff = self.backoff.max(backoff.until(false) - now);
        }
    }
}

fn token_status(slot: &Slot, subject: Option<String>, now: Moment) -> TokenStatus {
    let token = slot.current();
    let backoff = slot.backoff();
    let until = |at: Moment| signed_seconds(at, now);
    TokenStatus {
        subject,
        state: match token.as_ref().map(|token| token.freshness(now)) {
            None => "none",
            Some(Freshness::Fresh) => "fresh",
            Some(Freshness::Due) => "due",
            Some(Freshness::Expired) => "expired",
        },
        generation: token.as_ref().map_or(0, |token| token.generation()),
        age_seconds: token.as_ref().map(|token| -until(token.life().issued_at)),
        expires_in_seconds: token
            .as_ref()
            .and_then(|token| Some(until(token.life().ends_at?))),
        renews_in_seconds: token.as_ref().map(|token| until(token.life().due_at)),
        consecutive_failures: backoff.as_ref().map_or(0, |backoff| backoff.failures),
        backoff_seconds: backoff
            .as_ref()
            .map_or(0.0, |backoff| (backoff.until(false) - now).as_secs_f64()),
        last_error: backoff.map(|backoff| backoff.error.to_string()),
    }
}

fn signed_seconds(at: Moment, now: Moment) -> f64 {
    at.checked_duration_since(now)
        .map_or_else(|| -(now - at).as_secs_f64(), |ahead| ahead.as_secs_f64())
}

// In seconds since 1970. What the wall clock said then, so that the metric stands still; unless somebody has set it since.
fn issue_by_the_wall(life: &Life, now: Moment, wall: SystemTime) -> f64 {
    let (then, counted_back) = (
        unix_seconds(life.issued),
        unix_seconds(wall) - (now - life.issued_at).as_secs_f64(),
    );
    if (then - counted_back).abs() < SLEW {
        then
    } else {
        counted_back
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A wall clock is kept right by less than this, in seconds: more is a jump.
const SLEW: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Lifetime;

    #[test]
    fn the_time_of_issue_follows_a_wall_clock_that_was_set_and_no_other() {
        let (asked_at, wall) = (Moment::now(), UNIX_EPOCH + Duration::from_hours(500_000));
        let hour = Duration::from_hours(1);
        let life = Life::new(Lifetime::For(hour), None, asked_at, wall, 0.0);
        let issue = |wall| issue_by_the_wall(&life, asked_at + hour, wall) - 1.8e9;
        let slewed = Duration::from_millis(900);
        assert!((issue(wall + hour) - issue(wall + hour + slewed)).abs() < 1e-6);
        let day = Duration::from_hours(24);
        assert!((issue(wall + hour + day) - 86_400.0).abs() < 1e-3);
        assert!((issue(wall + hour - day) + 86_400.0).abs() < 1e-3);
    }
}
