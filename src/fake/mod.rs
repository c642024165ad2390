//! The stage: stand-ins for the systems that pillion talks to, for `pillion demo` and for the
//! tests.
//!
//! Each is a real server on a real socket, on port 0 of the loopback address, and as strict as what
//! it stands in for: a mistake that the real system would refuse is refused here, in the real
//! system's words. Nothing here uses the rest of pillion, so that a stand-in cannot share a mistake
//! with what it judges. Where the real system's answer is not known to the public, a comment says
//! that the answer is our guess.
//!
//! * [`Systems`]: everything the demo needs, started at once: [`Stitch`], [`Forage`], [`Highnote`],
//!   [`Concierge`], and the [`Authority`] whose certificates they show.
//! * [`Other`]: fourteen more, each with its own strange shape. A [`ClientKey`] is for those that
//!   ask for assertions.
//! * [`IdentityProvider`] and [`Upstream`]: the same for tests, without the habits of one company.
//!   The first is a [`TokenEndpoint`] with a server.
//! * [`EgressProxy`]: what stands between a network and all of them; it can be an [`Obstacle`].
//! * [`Faults`]: what an endpoint shall do wrong, and when. [`Received`]: what it was sent.
//! * [`Server`]: the sockets below all of them; it counts, and it can disappear and come back.
//!
//! Everything stops when it is dropped.

mod answer;
mod authority;
mod bearer;
mod clock;
mod concierge;
mod digest;
mod egress_proxy;
mod faults;
mod forage;
mod highnote;
mod identity_provider;
mod locked;
mod minted;
mod others;
mod received;
mod recent;
mod server;
mod stitch;
mod token_endpoint;
mod upstream;

#[cfg(test)]
mod client;

use std::net::SocketAddr;

pub use self::answer::{Answer, AnswerBody};
pub use self::authority::{Authority, Certificate};
pub use self::concierge::Concierge;
pub use self::egress_proxy::{EgressProxy, Obstacle};
pub use self::faults::{Fault, Faults};
pub use self::forage::Forage;
pub use self::highnote::{Highnote, Usage};
pub use self::identity_provider::IdentityProvider;
pub use self::others::{ClientKey, Kind, Other};
pub use self::received::Received;
pub use self::server::{HangUp, Server};
pub use self::stitch::Stitch;
pub use self::token_endpoint::{
    ClientAuth, Dialect, LifetimeParameter, Rules, TokenEndpoint, TokenStyle, Verdict,
};
pub use self::upstream::Upstream;

/// Why the stage could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FakeError {
    /// No socket could be opened.
    #[error("cannot listen on the loopback address")]
    Listen(#[source] std::io::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate could not be served.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The authority's clients cannot be told apart from others.
    #[error("cannot set up the check of client certificates")]
    ClientCertificates(#[from] rustls::server::VerifierBuilderError),
    /// What should be a client's public key is none.
    #[error("the client's public key or certificate cannot be read")]
    ClientKey,
    /// The server is gone, together with its runtime.
    #[error("the server has already stopped")]
    Stopped,
}

/// The systems of the demo, and one authority.
#[derive(Debug)]
pub struct Systems {
    /// Whom a client has to trust.
    pub authority: Authority,
    /// Stitch, with its two hosts.
    pub stitch: Stitch,
    /// Forage's sandbox.
    pub forage: Forage,
    /// Highnote.
    pub highnote: Highnote,
    /// The Concierge service of Infocus.
    pub concierge: Concierge,
}

impl Systems {
    /// Starts them all.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be made or a socket cannot be opened.
    pub async fn start() -> Result<Self, FakeError> {
        let authority = Authority::new()?;
        let stitch = Stitch::start(Some(&authority)).await?;
        let forage = Forage::start(Some(&authority)).await?;
        let highnote = Highnote::start(Some(&authority)).await?;
        let concierge = Concierge::start(Some(&authority)).await?;
        Ok(Self {
            authority,
            stitch,
            forage,
            highnote,
            concierge,
        })
    }

    /// Where each `host:port` of the real systems is found on this stage: the lines of `resolve` in
    /// a configuration.
    #[must_use]
    pub fn resolve(&self) -> Vec<(String, SocketAddr)> {
        vec![
            (
                format!("{}:443", Stitch::SECURE_HOST),
                self.stitch.secure_server().address(),
            ),
            (
                format!("{}:443", Stitch::API_HOST),
                self.stitch.api_server().address(),
            ),
            (
                format!("{}:443", Forage::HOST),
                self.forage.server().address(),
            ),
            (
                format!("{}:443", Highnote::HOST),
                self.highnote.server().address(),
            ),
            (
                format!("{}:443", Concierge::HOST),
                self.concierge.server().address(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::client::Client;
    use super::*;

    fn shared<T: Send + Sync>(_: &T) {}

    #[tokio::test]
    async fn every_host_is_found_and_shows_a_certificate_of_the_authority() {
        let systems = Systems::start().await.unwrap();
        shared(&systems);
        let resolve = systems.resolve();
        assert_eq!(resolve.len(), 5);
        for (authority, address) in resolve {
            let host = authority.strip_suffix(":443").unwrap();
            let client = Client::trusting(&systems.authority, host, address);
            assert_eq!(
                client
                    .send("GET", "/nothing", &[], "")
                    .await
                    .unwrap()
                    .status,
                404,
                "{host}"
            );
        }
    }
}
