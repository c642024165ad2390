//! pillion with servers and judges that nobody here wrote, which Node.js and Python run: `cargo test --test interop`.
//!
//! `npm ci --prefix tests/interop` fetches the ones, and
//! `python3 -m venv tests/interop/venv && tests/interop/venv/bin/pip install -r tests/interop/requirements.txt` the others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "so may its helpers, which are not inside a #[test]"
)]

mod certificates;
mod graphql_yoga;
mod httplint;
mod kosoku;
mod node;
mod oidc_provider;
mod python;
#[expect(dead_code, unused_imports, reason = "other tests use more of it")]
#[path = "../integration/stage/mod.rs"]
mod stage;
