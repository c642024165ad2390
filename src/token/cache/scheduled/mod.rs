//! The slot once more, with locks and tasks that shuttle schedules: in many orders, and each time in one that a
//! processor might have chosen.

mod sync;
mod tests;

#[path = "../slot.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the tests ask for less than the proxy does, and nobody else asks"
)]
mod slot;
