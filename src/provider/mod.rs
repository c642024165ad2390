//! Where tokens come from.

pub mod secret;
pub mod template;
