//! What a fake remembers of what it saw: the newest, up to a bound.

use std::collections::VecDeque;

use super::locked::Locked;

/// How many are kept, so that a fake under load for an hour does not fill the memory.
const KEPT: usize = 10_000;

/// The newest values, oldest first.
#[derive(Debug)]
pub(super) struct Recent<T>(Locked<VecDeque<T>>);

impl<T: Clone> Recent<T> {
    pub(super) fn new() -> Self {
        Self(Locked::new(VecDeque::new()))
    }

    pub(super) fn push(&self, value: T) {
        let mut values = self.0.lock();
        if values.len() == KEPT {
            values.pop_front();
        }
        values.push_back(value);
    }

    pub(super) fn to_vec(&self) -> Vec<T> {
        self.0.lock().iter().cloned().collect()
    }

    pub(super) fn last(&self) -> Option<T> {
        self.0.lock().back().cloned()
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}
