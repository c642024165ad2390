//! What has happened lately to tokens and the configuration, for people who look: bounded, and without a secret.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::clock::Moment;

/// The last [`KEPT`] events of a process. Written by the control thread, never by a request.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// With what subjects are hashed: another key in every process, so that nobody can look one up.
    key: RandomState,
    recent: Mutex<VecDeque<Event>>,
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by the clock that nobody sets.
    pub moment: Moment,
    /// When, by the wall clock of that time.
    pub time: SystemTime,
    /// What.
    pub kind: EventKind,
    /// To whose token; none if to the process.
    pub provider: Option<Arc<str>>,
    /// Of which subject, hashed; none for the process itself.
    pub subject: Option<u64>,
    /// The same in a sentence, in our words.
    pub told: String,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// A first token came.
    Fetched,
    /// A token came in place of another.
    Renewed,
    /// An upstream refused a token.
    Revoked,
    /// A fetch failed.
    Failed,
    /// A configuration was loaded.
    Reload,
    /// A configuration was refused.
    ReloadFailed,
}

impl EventKind {
    /// As the status says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Renewed => "renewed",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Reload => "reload",
            Self::ReloadFailed => "reload_failed",
        }
    }
}

impl Events {
    /// With what subjects are hashed in this process.
    #[must_use]
    pub fn subject_key(&self) -> &RandomState {
        &self.0.key
    }

    /// Something has happened to the process.
    pub fn happened(&self, kind: EventKind, told: String) {
        self.push(None, None, kind, told);
    }

    pub(super) fn happened_to<S: Hash>(
        &self,
        provider: &Arc<str>,
        subject: Option<&S>,
        kind: EventKind,
        told: String,
    ) {
        let subject = subject.map(|subject| self.0.key.hash_one(subject));
        self.push(Some(Arc::clone(provider)), subject, kind, told);
    }

    fn push(
        &self,
        provider: Option<Arc<str>>,
        subject: Option<u64>,
        kind: EventKind,
        told: String,
    ) {
        let event = Event {
            moment: Moment::now(),
            time: SystemTime::now(),
            kind,
            provider,
            subject,
            told,
        };
        let mut recent = self.lock();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(event);
    }

    /// All that are kept, the latest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Event> {
        self.lock().iter().rev().cloned().collect()
    }

    // A std mutex: held to add one or to copy all, by the control thread.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many events are kept.
pub const KEPT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_makes_room() {
        let events = Events::default();
        for number in 0..=KEPT {
            events.happened(EventKind::Reload, number.to_string());
        }
        let recent = events.recent();
        assert_eq!(recent.len(), KEPT);
        let told = |event: Option<&Event>| event.map(|event| event.told.clone());
        assert_eq!(told(recent.first()), Some(KEPT.to_string()));
        assert_eq!(told(recent.last()), Some("1".to_owned()));
    }

    #[test]
    fn a_subject_is_told_by_the_hash_that_the_status_has() {
        let events = Events::default();
        let provider = "p".into();
        events.happened_to(&provider, Some(&"7"), EventKind::Fetched, String::new());
        let hash = events.subject_key().hash_one("7");
        assert_eq!(events.recent()[0].subject, Some(hash));
    }
}
