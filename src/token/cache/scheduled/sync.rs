//! What stands in for [`sync`](super::super::sync) while shuttle schedules.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shuttle::future::{JoinHandle, spawn, yield_now};
pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(super) use shuttle::sync::{Mutex, MutexGuard};

use crate::clock::{Moment, paused};
use crate::provider::FetchError;

/// A reference that is replaced whole.
#[derive(Debug)]
pub(super) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(super) fn load_full(&self) -> Option<Arc<T>> {
        self.lock().clone()
    }

    pub(super) fn store(&self, new: Option<Arc<T>>) {
        *self.lock() = new;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// A runtime that tasks are given to.
#[derive(Clone, Debug)]
pub(super) struct Handle;

impl Handle {
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        spawn(task)
    }
}

/// A task that ends with whoever holds it.
#[derive(Debug)]
pub(super) struct JoinSet<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> JoinSet<T> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn spawn_on(
        &mut self,
        task: impl Future<Output = T> + Send + 'static,
        runtime: &Handle,
    ) {
        self.0 = Some(runtime.spawn(task));
    }

    pub(super) async fn join_next(&mut self) -> Option<Result<T, shuttle::future::JoinError>> {
        Some(self.0.take()?.await)
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Turns for everybody.
#[derive(Debug)]
pub(super) struct Pace;

impl Pace {
    pub(super) async fn turn(&self, _patience: Duration) -> Result<Self, FetchError> {
        yield_now().await;
        Ok(Self)
    }

    pub(super) fn end<T>(self, _result: &Result<T, FetchError>) {}
}

/// Time passes when somebody waits for it, and for everybody.
pub(super) async fn sleep_until(then: Moment) {
    yield_now().await;
    paused::suspend(then - Moment::now());
}

/// Nothing takes any time here.
pub(super) async fn timeout<T>(
    _limit: Duration,
    wanted: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    Ok(wanted.await)
}
