//! pillion.

pub mod fake;
