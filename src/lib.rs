//! pillion carries an application's API tokens.

pub mod provider;
