//! What the threads that use a slot share, and what its fetches run on. The tests have others, which shuttle schedules.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use arc_swap::ArcSwapOption;
pub(super) use tokio::runtime::Handle;
pub(super) use tokio::task::JoinSet;
pub(super) use tokio::time::timeout;

pub(super) use crate::clock::sleep_until;
pub(super) use crate::token::pace::Pace;
