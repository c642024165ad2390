//! pillion with servers that nobody here wrote, which Node.js runs: `npm ci --prefix tests/interop` fetches them, and
//! `cargo test --test interop` runs this.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "so may its helpers, which are not inside a #[test]"
)]

mod certificates;
mod graphql_yoga;
mod node;
mod oidc_provider;
mod schema;
#[expect(dead_code, unused_imports, reason = "other tests use more of it")]
#[path = "../integration/stage/mod.rs"]
mod stage;
