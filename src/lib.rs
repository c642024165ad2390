//! pillion carries an application's API tokens.

pub mod admin;
pub mod cli;
pub mod config;
pub mod fake;
pub mod metrics;
pub mod net;
pub mod provider;
pub mod proxy;
pub mod token;
