//! A value that a server's tasks and a test's thread look at in turns.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that outlives a panic: a test that fails while it looks at a fake reports its own
/// failure, not a poisoned lock.
#[derive(Debug, Default)]
pub(super) struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Never held across an `.await`; every use is one statement or a small block.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
