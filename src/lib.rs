//! pillion carries an application's API tokens.

pub mod config;
pub mod fake;
pub mod metrics;
pub mod net;
pub mod provider;
pub mod proxy;
pub mod token;
