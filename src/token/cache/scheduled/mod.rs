//! The slot once more, with locks and tasks that shuttle schedules: in many orders, and each time in one that a
//! processor might have chosen.

mod sync;
mod tests;

#[path = "../slot.rs"]
#[expect(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "it is the same slot, and the tests ask it for less than the proxy does"
)]
mod slot;
