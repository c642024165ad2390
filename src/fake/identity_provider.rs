//! A token endpoint with a server of its own.

use std::ops::Deref;
use std::sync::Arc;

use rustls::ServerConfig;

use super::answer;
use super::{FakeError, Received, Rules, Server, TokenEndpoint};

/// An authorization server of nobody in particular: a [`TokenEndpoint`] at `/token`, and nothing
/// else.
#[derive(Debug)]
pub struct IdentityProvider {
    endpoint: TokenEndpoint,
    server: Server,
}

impl IdentityProvider {
    /// Starts one; with `tls`, it speaks nothing else.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn start(tls: Option<Arc<ServerConfig>>, rules: Rules) -> Result<Self, FakeError> {
        let endpoint = TokenEndpoint::new(rules);
        let answering = endpoint.clone();
        let server = Server::start(tls, move |request| {
            let endpoint = answering.clone();
            async move {
                let request = Received::read(request).await?;
                match request.path() {
                    "/token" => endpoint.answer(request).await,
                    _ => Ok(answer::empty(http::StatusCode::NOT_FOUND)),
                }
            }
        })
        .await?;
        Ok(Self { endpoint, server })
    }

    /// The server, to count its connections or to take it away.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The endpoint; a clone of it can guard an [`super::Upstream`].
    #[must_use]
    pub fn endpoint(&self) -> &TokenEndpoint {
        &self.endpoint
    }
}

impl Deref for IdentityProvider {
    type Target = TokenEndpoint;

    fn deref(&self) -> &TokenEndpoint {
        &self.endpoint
    }
}
