//! The rules of HTTP (RFC 9110, RFC 9112), case by case: `tests/corpus`.

mod answers;
mod requests;
