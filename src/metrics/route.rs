//! What one route counts.

use std::time::Duration;

use prometheus::IntCounter;

use super::cells::Cells;

/// The counters of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) cells: Box<[Cells]>,
    pub(super) unauthorized: [IntCounter; UNAUTHORIZED.len()],
    pub(super) replays: [IntCounter; REPLAYS.len()],
    pub(super) header_conflicts: IntCounter,
}

/// What is done about a 401.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unauthorized {
    /// A new token was fetched and the request sent again.
    Replayed,
    /// The current token was newer already, and the request sent again with it.
    NewerGeneration,
    /// The token is being renewed, but the request cannot be sent again.
    NotReplayable,
    /// The token was fetched because of a 401 and refused at once: not again so soon.
    Guarded,
    /// Not a matter of this token's life: nothing was done, or the renewal failed.
    Ignored,
}

/// How a replay went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// Not a 401.
    Recovered,
    /// A 401 again.
    StillUnauthorized,
    /// No answer.
    Error,
}

impl RouteMetrics {
    /// A request has been answered by this worker.
    pub fn answered(&self, worker: usize, status: u16, took: Duration, upstream: Option<Duration>) {
        if let Some(cells) = self.cells.get(worker) {
            cells.answered(status, took, upstream);
        }
    }

    /// A 401 was answered by the upstream.
    pub fn unauthorized(&self, action: Unauthorized) {
        if let Some(counter) = self.unauthorized.get(action as usize) {
            counter.inc();
        }
    }

    /// A request was sent again.
    pub fn replayed(&self, outcome: Replay) {
        if let Some(counter) = self.replays.get(outcome as usize) {
            counter.inc();
        }
    }

    /// A request brought a header that the route sets.
    pub fn header_conflict(&self) {
        self.header_conflicts.inc();
    }
}

impl Unauthorized {
    /// As in the metric's label and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        UNAUTHORIZED.get(self as usize).copied().unwrap_or_default()
    }
}

impl Replay {
    /// As in the metric's label and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        REPLAYS.get(self as usize).copied().unwrap_or_default()
    }
}

// In the order of the enums above.
pub(super) const UNAUTHORIZED: [&str; 5] = [
    "replayed",
    "newer_generation",
    "not_replayable",
    "guarded",
    "ignored",
];
pub(super) const REPLAYS: [&str; 3] = ["recovered", "still_unauthorized", "error"];
