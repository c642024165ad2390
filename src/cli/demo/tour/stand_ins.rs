//! The stand-ins, asked and told in one way.

use std::time::Duration;

use super::Tour;
use super::words::token;
use crate::cli::demo::call::NoAnswer;
use crate::cli::demo::cast::{Part, System};
use crate::fake::{Faults, Received};

impl Tour<'_> {
    /// How many tokens were asked for, whatever became of it.
    pub(super) fn fetches(&self, system: System) -> usize {
        let systems = self.systems;
        match system {
            System::Stitch => systems.stitch.token_endpoint().fetches(),
            System::Forage => {
                systems.forage.token_endpoint().fetches() + systems.forage.session_fetches()
            }
            System::Concierge => {
                let backend = systems.concierge.logins() + systems.concierge.refreshes();
                backend + systems.concierge.client_token_fetches()
            }
            System::Highnote => systems.highnote.fetches(),
        }
    }

    /// Everything else that was asked, oldest first.
    pub(super) fn requests(&self, system: System) -> Vec<Received> {
        match system {
            System::Stitch => self.systems.stitch.api_requests(),
            System::Forage => self.systems.forage.api_requests(),
            System::Concierge => self.systems.concierge.api_requests(),
            System::Highnote => self.systems.highnote.api_requests(),
        }
    }

    /// How often something was done that must not be done twice.
    pub(super) fn payments(&self, system: System) -> usize {
        match system {
            System::Stitch => self.systems.stitch.mutations(),
            System::Forage => self.systems.forage.payments(),
            System::Concierge | System::Highnote => 0,
        }
    }

    /// The token that `part` carries is not good any more. Where that cannot be said of one, none is.
    pub(super) async fn revoke(&self, part: &Part) -> Result<(), NoAnswer> {
        self.call(&part.reads()).await?; // shows which it is
        let requests = self.requests(part.system);
        let token = requests.last().and_then(token).unwrap_or_default();
        match part.system {
            System::Stitch => self.systems.stitch.token_endpoint().revoke(token),
            System::Forage => self.systems.forage.token_endpoint().revoke(token),
            System::Concierge => self.systems.concierge.revoke_all(),
            System::Highnote => self.systems.highnote.revoke_all(),
        }
        Ok(())
    }

    /// Tokens made from now on are good for this long.
    pub(super) fn set_lifetime(&self, system: System, lifetime: Duration) {
        match system {
            System::Stitch => self.systems.stitch.token_endpoint().set_lifetime(lifetime),
            System::Forage => self.systems.forage.token_endpoint().set_lifetime(lifetime),
            System::Concierge => self.systems.concierge.set_lifetime(lifetime),
            System::Highnote => self.systems.highnote.set_lifetime(lifetime),
        }
    }

    /// What the makers of tokens shall do wrong.
    pub(super) fn token_faults(&self, system: System) -> &Faults {
        match system {
            System::Stitch => self.systems.stitch.token_endpoint().faults(),
            System::Forage => self.systems.forage.token_endpoint().faults(),
            System::Concierge => self.systems.concierge.token_faults(),
            System::Highnote => self.systems.highnote.mint_faults(),
        }
    }

    /// What the API shall do wrong.
    pub(super) fn api_faults(&self, system: System) -> &Faults {
        match system {
            System::Stitch => self.systems.stitch.api_faults(),
            System::Forage => self.systems.forage.api_faults(),
            System::Concierge => self.systems.concierge.api_faults(),
            System::Highnote => self.systems.highnote.api_faults(),
        }
    }
}
