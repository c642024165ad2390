//! pillion carries an application's API tokens.

pub mod config;
pub mod provider;
