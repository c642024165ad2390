//! The slots of a provider's subjects.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::slot::Slot;
use crate::provider::Subject;

/// The slots of one provider: its own, or one for each subject, of which the one unused for longest makes room.
#[derive(Debug)]
pub struct Slots {
    own: Arc<Slot>,
    subjects: Mutex<LruCache<Subject, Arc<Slot>>>,
}

impl Slots {
    /// Slots for at most `capacity` subjects.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            own: Arc::default(),
            subjects: Mutex::new(LruCache::new(
                NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN),
            )),
        }
    }

    /// The slot of the process itself.
    #[must_use]
    pub const fn own(&self) -> &Arc<Slot> {
        &self.own
    }

    /// The slot of this subject, made if there is none.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Arc<Slot> {
        let mut subjects = self.lock();
        if let Some(slot) = subjects.get(subject) {
            return Arc::clone(slot);
        }
        let slot = Arc::<Slot>::default();
        subjects.put(subject.clone(), Arc::clone(&slot));
        slot
    }

    /// Every slot of a subject, without counting as use.
    #[must_use]
    pub fn subjects(&self) -> Vec<(Subject, Arc<Slot>)> {
        let subjects = self.lock();
        subjects
            .iter()
            .map(|(subject, slot)| (subject.clone(), Arc::clone(slot)))
            .collect()
    }

    // A std mutex: held for a look-up, by requests of providers that have inputs.
    fn lock(&self) -> MutexGuard<'_, LruCache<Subject, Arc<Slot>>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
