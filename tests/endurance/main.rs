//! pillion under fire: many tenants, whole processes, long runs. Each file is one story, and prints its figures.
//!
//! `cargo test` tells the stories in a short form; `cargo test --release --test endurance`, or any build with
//! `ENDURANCE=full`, in full: [`report::size`] decides. What is asserted is counted, not timed; times are printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "so may its helpers, which are not inside a #[test]"
)]

mod drain;
mod greedy;
mod herd;
mod outages;
mod reloads;
mod report;
mod severed;
#[path = "../integration/stage/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the integration tests use the rest of it"
)]
mod stage;
mod tenants;
