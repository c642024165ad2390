//! The life of a token: fresh, due, expired.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::clock::Moment;
use crate::metrics::FetchReason;
use crate::provider::secret::Secret;
use crate::provider::{FetchError, Grant, Lifetime};

/// An access token and the moments that matter in its life.
#[repr(C)] // what a request looks at stands together: with many subjects, it waits for the memory of each line of it
pub struct Token {
    bearer: HeaderValue,
    accepted: AtomicBool,
    rejected: AtomicBool,
    taken: AtomicBool,
    doubted: bool,
    single_use: bool,
    /// What it was made from.
    parent: Option<Arc<Self>>,
    life: Life,
    generation: u64,
    secret: Secret,
    fields: Vec<(String, Value)>,
    /// Another token has taken its place. Shared with every token of the same text.
    superseded: Arc<AtomicBool>,
}

/// Where a token stands in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Use it.
    Fresh,
    /// Use it, and fetch the next one.
    Due,
    /// Do not use it.
    Expired,
}

impl Token {
    /// A token of this generation, fetched for this reason.
    ///
    /// # Errors
    ///
    /// When it cannot be a field value.
    pub fn new(
        secret: Secret,
        generation: u64,
        reason: FetchReason,
        life: Life,
    ) -> Result<Self, FetchError> {
        let bearer = Zeroizing::new(["Bearer ", secret.reveal()].concat());
        // The text itself and no copy of it: what the last clone leaves behind is zeroed, too.
        let mut bearer = HeaderValue::from_maybe_shared(Bytes::from_owner(bearer))
            .map_err(|_| FetchError::malformed("the token cannot be a header"))?;
        bearer.set_sensitive(true);
        Ok(Self {
            secret,
            bearer,
            generation,
            doubted: reason == FetchReason::Unauthorized,
            life,
            accepted: AtomicBool::new(false),
            rejected: AtomicBool::new(false),
            superseded: Arc::default(),
            parent: None,
            fields: Vec::new(),
            single_use: false,
            taken: AtomicBool::new(false),
        })
    }

    /// The token of a grant, made from `parent`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(super) fn granted(
        grant: Grant,
        parent: Option<Arc<Self>>,
        generation: u64,
        reason: FetchReason,
        life: Life,
    ) -> Result<Self, FetchError> {
        Ok(Self {
            parent,
            fields: grant.fields,
            single_use: grant.single_use,
            ..Self::new(grant.token, generation, reason, life)?
        })
    }

    /// `Bearer TOKEN` (RFC 6750 §2.1), rendered once.
    #[must_use]
    pub const fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// The token itself, for a route that writes it in another form.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Further members of the answer that brought it, by the names that the configuration gives them.
    #[must_use]
    pub fn fields(&self) -> &[(String, Value)] {
        &self.fields
    }

    /// One of them.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Counts up with every token of the same subject.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Its moments.
    #[must_use]
    pub const fn life(&self) -> &Life {
        &self.life
    }

    /// How fresh it is. One that an upstream has refused, or whose parent has been renewed, is never more than due.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        match self.life.freshness(now) {
            Freshness::Fresh if self.rejected.load(Ordering::Relaxed) => Freshness::Due,
            Freshness::Fresh if self.is_orphan() => Freshness::Due,
            freshness => freshness,
        }
    }

    /// Whether what it was made from has been replaced, at any depth.
    fn is_orphan(&self) -> bool {
        let parent = self.parent.as_ref();
        parent.is_some_and(|it| it.superseded.load(Ordering::Relaxed) || it.is_orphan())
    }

    /// The token that it was made from, if its provider has a parent.
    #[must_use]
    pub const fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// Whether it is good for one use only: never kept, never shared, never replayed.
    #[must_use]
    pub const fn is_single_use(&self) -> bool {
        self.single_use
    }

    /// Whether the caller may use it: for a token of one use, only the first to ask.
    pub(super) fn take(&self) -> bool {
        !self.single_use || !self.taken.swap(true, Ordering::Relaxed)
    }

    /// An upstream has answered it with something else than 401.
    pub fn accept(&self) {
        // Read first: a line that every worker reads stays in every cache.
        if !self.accepted.load(Ordering::Relaxed) {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an upstream has ever accepted it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Whether its predecessor was refused, and no upstream has accepted a token since: perhaps the token is not the fault.
    #[must_use]
    pub(super) const fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// The same token as the successor of `previous`, whatever it was fetched for.
    #[must_use]
    pub(super) fn after(mut self, previous: Option<&Self>) -> Self {
        self.doubted |= previous.is_some_and(|previous| {
            previous.is_rejected() || (previous.doubted && !previous.is_accepted())
        });
        // The same again: what was made from it is as good as before.
        if let Some(previous) = previous.filter(|previous| previous.secret == self.secret) {
            self.superseded = Arc::clone(&previous.superseded);
        }
        self
    }

    /// Tells those that were made from it that `next` has taken its place.
    pub(super) fn make_way_for(&self, next: &Self) {
        if self.secret != next.secret {
            self.superseded.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn set_rejected(&self) {
        self.rejected.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Relaxed)
    }
}

/// The value never reaches a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.generation)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// The moments of a life, by a clock that nobody can set: whatever happens to the wall clock, a token ages as fast as we do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)] // as in a token
pub struct Life {
    /// From here on the next one is fetched behind it.
    pub due_at: Moment,
    /// Counted from when it was asked for, which is before it was issued.
    pub issued_at: Moment,
    /// From here on it is not sent. Before what its provider says, so that it is good when it arrives. `None`: never.
    pub expires_at: Option<Moment>,
    /// The end that its provider states.
    pub ends_at: Option<Moment>,
    /// When it was asked for by the wall clock: for people and metrics only.
    pub issued: SystemTime,
}

impl Life {
    /// The life of a token that was asked for at `asked_at`. `chance` from 0 to 1 spreads renewals of many processes.
    #[must_use]
    pub fn new(
        lifetime: Lifetime,
        longest: Option<Duration>,
        asked_at: Moment,
        asked: SystemTime,
        chance: f64,
    ) -> Self {
        let length = match lifetime {
            Lifetime::For(length) | Lifetime::Clamped(length) => length,
            Lifetime::Unlimited { look_again } => {
                return Self {
                    issued_at: asked_at,
                    due_at: asked_at + look_again,
                    expires_at: None,
                    ends_at: None,
                    issued: asked,
                };
            }
        };
        let length = longest.map_or(length, |longest| length.min(longest));
        let (due_after, ends_after) = if length < SHORT_LIFE {
            // A provider whose clock has whole seconds ends a token up to one of them before the time that it states.
            let sure = length.saturating_sub(WHOLE_SECOND).max(length / 2);
            (sure.mul_f64(0.8 - 0.2 * chance), sure.mul_f64(0.95))
        } else {
            // A third at the least: a token of just over a minute would be due at birth.
            let due = length
                .mul_f64(0.8)
                .min(length - RENEWAL_LEAD)
                .max(length / 3);
            (due - length.mul_f64(0.1 * chance), length - EXPIRY_MARGIN)
        };
        Self {
            issued_at: asked_at,
            due_at: asked_at + due_after,
            expires_at: Some(asked_at + ends_after),
            ends_at: Some(asked_at + length),
            issued: asked,
        }
    }

    /// The same life, due after this time already: its provider knows best.
    #[must_use]
    pub fn due_after(mut self, renew_after: Duration) -> Self {
        let soft = self.issued_at + renew_after.max(SOFT_LEAST);
        self.due_at = self.due_at.min(soft);
        self
    }

    /// The same life, due when half of it is over at the soonest: for a token that its provider has given before.
    #[must_use]
    pub(super) fn due_at_half(mut self) -> Self {
        if let Some(end) = self.expires_at {
            let half = self.issued_at + (end - self.issued_at) / 2;
            self.due_at = self.due_at.max(half);
        }
        self
    }

    /// How fresh a token with this life is.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        if now < self.due_at {
            Freshness::Fresh
        } else if self.expires_at.is_none_or(|end| now < end) {
            Freshness::Due
        } else {
            Freshness::Expired
        }
    }
}

/// Below this a life is measured in shares of itself.
const SHORT_LIFE: Duration = Duration::from_mins(1);
/// What a short life may lack of the seconds that its provider states.
const WHOLE_SECOND: Duration = Duration::from_secs(1);
/// The renewal of a longer life starts at least this long before its end.
const RENEWAL_LEAD: Duration = Duration::from_mins(1);
/// A provider that wants a token to be renewed sooner than this after its birth is not believed.
const SOFT_LEAST: Duration = Duration::from_secs(10);
/// A token is not sent in the last moments of its life: it has to arrive, too.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn life(seconds: f64, chance: f64) -> (f64, f64) {
        let now = Moment::now();
        let lifetime = Lifetime::For(Duration::from_secs_f64(seconds));
        let life = Life::new(lifetime, None, now, SystemTime::UNIX_EPOCH, chance);
        let after = |at: Moment| (at - now).as_secs_f64();
        (after(life.due_at), after(life.expires_at.unwrap()))
    }

    #[test]
    fn a_token_is_due_at_four_fifths_or_a_minute_before_its_end_and_up_to_a_tenth_sooner() {
        assert_eq!(life(3600.0, 0.0), (2880.0, 3590.0));
        assert_eq!(life(3600.0, 1.0), (2520.0, 3590.0));
        assert_eq!(life(200.0, 0.0), (140.0, 190.0));
        assert_eq!(life(120.0, 0.0), (60.0, 110.0));
    }

    #[test]
    fn a_short_life_is_measured_in_shares_of_what_is_sure_of_it() {
        assert_eq!(life(11.0, 0.0), (8.0, 9.5));
        assert_eq!(life(11.0, 1.0), (6.0, 9.5));
        assert_eq!(life(1.0, 0.0), (0.4, 0.475));
    }

    #[test]
    fn a_life_of_whole_seconds_ends_before_a_clock_without_fractions_says_so() {
        for seconds in 2..3600 {
            let seconds = f64::from(seconds);
            let (_, end) = life(seconds, 0.0);
            assert!(end < seconds - 1.0, "{seconds}: {end}");
        }
    }

    #[test]
    fn no_token_is_due_at_birth_and_each_is_due_before_it_expires() {
        for tenths in 1..20_000 {
            for chance in [0.0, 0.5, 1.0] {
                let seconds = f64::from(tenths) / 10.0;
                let (due, end) = life(seconds, chance);
                assert!(due >= seconds * 0.2, "{seconds}: due at {due}");
                assert!(due < end && end < seconds, "{seconds}: {due}, {end}");
            }
        }
    }

    #[test]
    fn a_longest_life_shortens_a_longer_one() {
        let now = Moment::now();
        let lifetime = Lifetime::For(Duration::from_secs(1000));
        let longest = Some(Duration::from_secs(100));
        let life = Life::new(lifetime, longest, now, SystemTime::UNIX_EPOCH, 0.0);
        assert_eq!(life.expires_at.unwrap() - now, Duration::from_secs(90));
    }
}
