//! What can be told about tokens without telling a token.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Tokens;
use super::backoff::Backoff;
use super::cache::slot::Slot;
use super::life::{Freshness, Life, Token};
use crate::clock::Moment;

/// One provider's tokens.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// As in the configuration.
    pub name: String,
    /// As in the configuration: `oauth2`, `http`, ...
    pub kind: &'static str,
    /// What its tokens are asked for with, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Names of the inputs of which each distinct value has a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The provider whose token its own are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The worst of its tokens.
    pub health: Health,
    /// How many tokens or places for them there are.
    pub token_count: usize,
    /// How many of them there are of each health.
    pub counts: HealthCounts,
    /// Its tokens, or the one place for it: those that need attention first, then those that are renewed next, and no more
    /// than [`TOKENS_SHOWN`].
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
    /// What its state means to the app.
    pub health: Health,
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
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What the state of a token means to the app. The better is the less.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// There is none, because nobody has asked for one lately.
    #[default]
    Idle,
    /// Requests are served.
    Good,
    /// Requests are served still, but the next token does not come.
    Failing,
    /// Requests get no token.
    Down,
}

/// How many tokens are so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HealthCounts {
    /// [`Health::Idle`]
    pub idle: usize,
    /// [`Health::Good`]
    pub good: usize,
    /// [`Health::Failing`]
    pub failing: usize,
    /// [`Health::Down`]
    pub down: usize,
}

/// So many tokens of one provider are told of.
pub const TOKENS_SHOWN: usize = 100;

impl Tokens {
    /// What there is to tell, with subjects hashed by `key`.
    #[must_use]
    pub fn status(&self, key: &RandomState, now: Moment) -> ProviderStatus {
        let (mut first, mut counts) = (First::default(), HealthCounts::default());
        let mut look = |slot: &Slot, subject| {
            let place = Place::of(slot, subject, now);
            *counts.of(place.health()) += 1;
            first.add(place, now);
        };
        if self.provider.inputs.is_empty() {
            look(self.slots.own(), None);
        } else {
            self.slots
                .each(|subject, slot| look(slot, Some(key.hash_one(subject))));
        }
        let HealthCounts {
            idle,
            good,
            failing,
            down,
        } = counts;
        let provider = &self.provider;
        let parent = self.parent().map(|parent| parent.provider().name.as_ref());
        ProviderStatus {
            name: provider.name.as_ref().to_owned(),
            kind: provider.kind(),
            scope: provider.scope().to_vec(),
            inputs: provider.inputs.clone(),
            parent: parent.map(str::to_owned),
            health: counts.worst(),
            token_count: idle + good + failing + down,
            counts,
            tokens: first.into_tokens(now),
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

impl Health {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Good => "good",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }
}

impl HealthCounts {
    const fn of(&mut self, health: Health) -> &mut usize {
        match health {
            Health::Idle => &mut self.idle,
            Health::Good => &mut self.good,
            Health::Failing => &mut self.failing,
            Health::Down => &mut self.down,
        }
    }

    const fn worst(&self) -> Health {
        match self {
            Self { down: 1.., .. } => Health::Down,
            Self { failing: 1.., .. } => Health::Failing,
            Self { good: 1.., .. } => Health::Good,
            _ => Health::Idle,
        }
    }
}

/// What is seen in a slot at one look.
struct Place {
    subject: Option<u64>,
    token: Option<Arc<Token>>,
    freshness: Option<Freshness>,
    backoff: Option<Backoff>,
}

impl Place {
    fn of(slot: &Slot, subject: Option<u64>, now: Moment) -> Self {
        let token = slot.current();
        Self {
            subject,
            freshness: token.as_ref().map(|token| token.freshness(now)),
            token,
            backoff: slot.backoff(),
        }
    }

    fn health(&self) -> Health {
        let is_usable = matches!(self.freshness, Some(Freshness::Fresh | Freshness::Due));
        match (is_usable, &self.backoff) {
            (true, None) => Health::Good,
            (true, Some(_)) => Health::Failing,
            (false, None) => Health::Idle,
            (false, Some(_)) => Health::Down,
        }
    }

    /// What is wrong first, then what is renewed first; what there is not, last.
    fn urgency(&self, now: Moment) -> (Reverse<Health>, Duration, Option<u64>) {
        let renews_in = self
            .token
            .as_ref()
            .map_or(Duration::MAX, |token| token.life().due_at - now);
        (Reverse(self.health()), renews_in, self.subject)
    }
}

/// The most urgent places: twice as many as are wanted at the most.
#[derive(Default)]
struct First(Vec<Place>);

impl First {
    fn add(&mut self, place: Place, now: Moment) {
        self.0.push(place);
        if self.0.len() == 2 * TOKENS_SHOWN {
            self.cut(now);
        }
    }

    fn cut(&mut self, now: Moment) {
        self.0.sort_by_cached_key(|place| place.urgency(now));
        self.0.truncate(TOKENS_SHOWN);
    }

    fn into_tokens(mut self, now: Moment) -> Vec<TokenStatus> {
        self.cut(now);
        let places = self.0.into_iter();
        places.map(|place| token_status(&place, now)).collect()
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

fn token_status(place: &Place, now: Moment) -> TokenStatus {
    let until = |at: Moment| signed_seconds(at, now);
    let health = place.health();
    let (token, backoff) = (place.token.as_ref(), place.backoff.as_ref());
    TokenStatus {
        subject: place.subject.map(|hash| format!("{hash:016x}")),
        state: match place.freshness {
            None => "none",
            Some(Freshness::Fresh) => "fresh",
            Some(Freshness::Due) => "due",
            Some(Freshness::Expired) => "expired",
        },
        health,
        generation: token.map_or(0, |token| token.generation()),
        age_seconds: token.map(|token| -until(token.life().issued_at)),
        expires_in_seconds: token.and_then(|token| Some(until(token.life().ends_at?))),
        renews_in_seconds: token.map(|token| until(token.life().due_at)),
        consecutive_failures: backoff.map_or(0, |backoff| backoff.failures),
        backoff_seconds: backoff.map_or(0.0, |backoff| (backoff.until(false) - now).as_secs_f64()),
        last_error: backoff.map(|backoff| backoff.error.to_string()),
        advice: backoff.map(|backoff| backoff.error.advice()),
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
