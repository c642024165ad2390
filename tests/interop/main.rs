//! pillion with servers, clients and judges that nobody here wrote. Those that Node.js runs are fetched by
//! `npm ci --prefix tests/interop`, those in Python by `python3 -m venv tests/interop/venv` and
//! `tests/interop/venv/bin/pip install -r tests/interop/requirements.txt`; `cargo test --test interop` runs this.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "so may its helpers, which are not inside a #[test]"
)]

mod certificates;
mod early_hints;
mod graphql_yoga;
mod grpc;
mod httplint;
mod kosoku;
mod node;
mod oidc_provider;
mod python;
mod schema;
#[expect(dead_code, unused_imports, reason = "other tests use more of it")]
#[path = "../integration/stage/mod.rs"]
mod stage;
