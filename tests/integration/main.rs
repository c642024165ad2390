//! pillion from outside, over real sockets and real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod check;
