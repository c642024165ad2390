//! The slots of a provider: found without a lock, and never more of them than there may be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use papaya::HashMap;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, yield_now};

use super::slot::Slot;
use crate::clock::{Moment, sleep_until};
use crate::provider::Subject;
use crate::token::life::Token;

/// The slots of one provider: its own, or one for each subject, of which the one unused for longest makes room.
///
/// A slot that somebody holds, or whose last fetch began less than a second ago, keeps its place: so nobody who comes
/// back fetches twice at once or twice a second. A back-off and a guard that last longer go with their slot.
#[derive(Debug)]
pub struct Slots {
    own: Arc<Slot>,
    subjects: HashMap<Subject, Arc<Slot>>,
    places: Mutex<Places>,
    capacity: usize,
    began: Moment,
}

/// Who has a place, and who gives it up first.
#[derive(Debug, Default)]
struct Places {
    /// By last use, as far as known here: what is newer is in the slot.
    by_use: BTreeMap<Place, Subject>,
    taken: u64,
    /// Nobody gives up a place before.
    full_until: Option<Moment>,
}

/// When its subject was last used, and how many places had been taken when it was.
type Place = (u64, u64);

/// What came of a look at a subject.
enum Look {
    Forgotten,
    Kept,
}

impl Slots {
    /// Slots for at most `capacity` subjects, and for one at least.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            own: Arc::default(),
            subjects: HashMap::new(),
            places: Mutex::default(),
            capacity: capacity.max(1),
            began: Moment::now(),
        }
    }

    /// The slot of the process itself.
    #[must_use]
    pub const fn own(&self) -> &Arc<Slot> {
        &self.own
    }

    /// This subject's token, if it needs nothing done about it. Takes no lock.
    #[must_use]
    pub fn fresh(&self, subject: &Subject, now: Moment) -> Option<Arc<Token>> {
        let subjects = self.subjects.pin();
        let slot = subjects.get(subject)?;
        slot.used_at(self.stamp(now));
        slot.fresh(now)
    }

    /// The slot of this subject, made if there is none. `None`: all have to keep their places for now.
    #[must_use]
    pub fn of(&self, subject: &Subject, now: Moment) -> Option<Arc<Slot>> {
        // Whoever gets a slot gets it under the lock: who sees that nobody holds one knows that nobody will.
        let mut places = self.lock();
        let subjects = self.subjects.pin();
        let stamp = self.stamp(now);
        if let Some(slot) = subjects.get(subject) {
            slot.used_at(stamp);
            return Some(Arc::clone(slot));
        }
        if places.by_use.len() >= self.capacity && !self.make_room(&mut places, now) {
            return None;
        }
        let slot = Arc::<Slot>::default();
        slot.used_at(stamp);
        places.taken += 1;
        let place = (stamp, places.taken);
        places.by_use.insert(place, subject.clone());
        subjects.insert(subject.clone(), Arc::clone(&slot));
        Some(slot)
    }

    /// How many subjects have a slot.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.lock().by_use.len()
    }

    /// Shows every slot of a subject, without counting as use.
    pub fn each(&self, mut look: impl FnMut(&Subject, &Slot)) {
        for (subject, slot) in &self.subjects.pin() {
            look(subject, slot);
        }
    }

    /// Forgets subjects once they have been unused for `max_idle`, within a second, until the task is dropped.
    #[must_use]
    pub fn keep_swept(self: &Arc<Self>, max_idle: Duration, runtime: &Handle) -> JoinSet<()> {
        let mut task = JoinSet::new();
        task.spawn_on(sweep(Arc::downgrade(self), max_idle), runtime);
        task
    }

    /// Forgets the subject unused for longest of those that need not keep their place.
    fn make_room(&self, places: &mut Places, now: Moment) -> bool {
        if places.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let mut kept = Vec::new();
        let made = loop {
            match self.look_at_first(places, u64::MAX, &mut kept, now) {
                Some(Look::Forgotten) => break true,
                Some(Look::Kept) => {}
                None => break false,
            }
        };
        places.by_use.extend(kept);
        places.full_until = (!made).then_some(now + FULL_LOOK);
        made
    }

    /// Forgets subjects unused for `max_idle`, as many as it is time for, and tells when to look again.
    fn forget_idle(&self, max_idle: Duration, now: Moment) -> Option<Moment> {
        let Some(limit) = now.checked_duration_since(self.began + max_idle) else {
            return Some(self.began + max_idle);
        };
        let mut places = self.lock();
        let mut kept = Vec::new();
        let mut looks = (0..SWEEP_MOST)
            .map(|_| self.look_at_first(&mut places, milliseconds(limit), &mut kept, now));
        let is_done = looks.any(|look| look.is_none());
        places.by_use.extend(kept);
        let first = places.by_use.first_key_value();
        let unused_since = first.map_or(now, |(place, _)| self.moment(place.0));
        is_done.then(|| (unused_since + max_idle).max(now + SWEEP_PAUSE))
    }

    /// Looks at the first subject that is not known to have been used after `limit`. Those that keep their place although
    /// unused are `kept`, to be put back when the looking ends.
    fn look_at_first(
        &self,
        places: &mut Places,
        limit: u64,
        kept: &mut Vec<(Place, Subject)>,
        now: Moment,
    ) -> Option<Look> {
        let first = places.by_use.first_entry()?;
        if first.key().0 > limit {
            return None;
        }
        let (place, subject) = first.remove_entry();
        let subjects = self.subjects.pin();
        let Some(slot) = subjects.get(&subject) else {
            return Some(Look::Forgotten);
        };
        let used = slot.last_use();
        if used > place.0 {
            places.by_use.insert((used, place.1), subject);
            return Some(Look::Kept);
        }
        if Arc::strong_count(slot) > 1 || slot.has_just_tried(now) {
            kept.push((place, subject));
            return Some(Look::Kept);
        }
        // Not left to the map, which keeps what it removes until no reader can see it.
        slot.clear();
        subjects.remove(&subject);
        Some(Look::Forgotten)
    }

    fn stamp(&self, now: Moment) -> u64 {
        milliseconds(now - self.began)
    }

    fn moment(&self, stamp: u64) -> Moment {
        self.began + Duration::from_millis(stamp)
    }

    // A std mutex: held for a look-up or to make room, by requests that find no fresh token.
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(slots: Weak<Slots>, max_idle: Duration) {
    while let Some(slots) = slots.upgrade() {
        let look_again = slots.forget_idle(max_idle, Moment::now());
        drop(slots);
        match look_again {
            Some(at) => sleep_until(at).await,
            None => yield_now().await,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// While nobody gives up a place, that is looked at again after this time.
pub(in crate::token) const FULL_LOOK: Duration = Duration::from_millis(50);
/// Looked at in one go: what else runs on the control thread does not wait for more.
const SWEEP_MOST: usize = 1000;
/// Between two looks for unused subjects.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
