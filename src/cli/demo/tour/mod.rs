//! The tour: what an app and the world do to pillion, and what is then to be seen of it.
//!
//! Nothing is told that was not observed: at the app, at the stand-ins, or in `/metrics`.

mod steps;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::demo::call::{Answer, Call, NoAnswer, reachable};
use crate::cli::demo::cast::{Cast, Part, System};
use crate::cli::demo::scrape::Scrape;
use crate::cli::demo::story::{Facts, Story};
use crate::cli::run::Running;
use crate::fake::{Faults, Received, Systems, TokenEndpoint};

/// Everything that is on the stage.
#[derive(Debug)]
pub(super) struct Tour<'a> {
    systems: &'a Systems,
    cast: &'a Cast,
    app: Option<SocketAddr>,
    admin: SocketAddr,
}

/// A step either tells what it saw, or could not be taken.
type Step = Result<Facts, NoAnswer>;

/// What has happened so far between pillion and one system.
#[derive(Debug)]
struct Before {
    fetches: usize,
    requests: usize,
    payments: usize,
    scrape: Scrape,
}

impl<'a> Tour<'a> {
    pub(super) fn new(systems: &'a Systems, running: &Running, cast: &'a Cast) -> Self {
        Self {
            systems,
            cast,
            app: running.addresses.first().copied().map(reachable),
            admin: reachable(running.admin),
        }
    }

    /// All steps, in an order in which nothing has to be waited for but what is told.
    pub(super) async fn go(&mut self, story: &mut Story) {
        let cast = self.cast;
        let (Some(one), Some(other)) = (
            cast.stitch.as_ref().or(cast.forage.as_ref()),
            cast.forage.as_ref().or(cast.stitch.as_ref()),
        ) else {
            return;
        };
        let reads = one.reads().title();
        tell(
            story,
            &format!("{reads}, without a credential"),
            self.first(one).await,
        );
        tell(story, &format!("{reads}, again"), self.again(one).await);
        tell(
            story,
            &format!("{reads}, with a credential of the app's own"),
            self.own(one).await,
        );
        if one.system != other.system {
            tell(story, &other.reads().title(), self.first(other).await);
        }
        if let Some(forage) = cast.forage.as_ref().filter(|part| part.is_per_merchant()) {
            let title = forage.reads_for(OTHER_MERCHANT).title();
            tell(
                story,
                &format!("{title}, another merchant"),
                self.merchant(forage).await,
            );
        }
        let title = format!("{} revokes the token, then the app pays", one.system.name());
        tell(story, &title, self.revoked(one).await);
        let title = format!(
            "{} revokes the token, then {MANY} payments at once",
            other.system.name()
        );
        tell(story, &title, self.many(other).await);
        let title = format!("{}'s token endpoint answers 503", one.system.name());
        tell(story, &title, self.outage(one).await);
        let title = format!("{} refuses every token, {FEW} calls", other.system.name());
        tell(story, &title, self.refuses_all(other).await);
        let title = format!(
            "{} says that the token's scope is not enough",
            other.system.name()
        );
        tell(story, &title, self.scope(other).await);
        tell(story, &one.escapes().title(), self.malformed(one).await);
        tell(
            story,
            &format!("{reads}, by a web page in a browser"),
            self.web_page(one).await,
        );
        tell(story, "GET /metrics and GET /status", self.told().await);
    }

    async fn call(&self, call: &Call) -> Result<Answer, NoAnswer> {
        match self.app {
            Some(address) => call.send(address).await,
            None => Err(NoAnswer::because("nothing listens")),
        }
    }

    async fn before(&self, part: &Part) -> Result<Before, NoAnswer> {
        Ok(Before {
            fetches: self.tokens(part.system).fetches(),
            requests: self.api(part.system).len(),
            payments: match part.system {
                System::Stitch => self.systems.stitch.mutations(),
                System::Forage => self.systems.forage.payments(),
            },
            scrape: self.scrape().await?,
        })
    }

    /// `/metrics`, once every request has been counted: an answer may arrive a moment before it is.
    async fn scrape(&self) -> Result<Scrape, NoAnswer> {
        let mut looks = 0;
        loop {
            let scrape = Scrape::new(Call::get("/metrics").send(self.admin).await?.body);
            looks += 1;
            if scrape.sum("pillion_requests_in_flight", &[]) == 0.0 || looks == MOST_LOOKS {
                return Ok(scrape);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn tokens(&self, system: System) -> &TokenEndpoint {
        match system {
            System::Stitch => self.systems.stitch.token_endpoint(),
            System::Forage => self.systems.forage.token_endpoint(),
        }
    }

    fn api(&self, system: System) -> Vec<Received> {
        match system {
            System::Stitch => self.systems.stitch.api_requests(),
            System::Forage => self.systems.forage.api_requests(),
        }
    }

    fn faults(&self, system: System) -> &Faults {
        match system {
            System::Stitch => self.systems.stitch.api_faults(),
            System::Forage => self.systems.forage.api_faults(),
        }
    }
}

fn tell(story: &mut Story, title: &str, step: Step) {
    let facts = step.unwrap_or_else(|error| {
        let mut facts = Facts::default();
        facts.saw(false, error.to_string());
        facts
    });
    story.step(title, &facts);
}

const OTHER_MERCHANT: &str = "7654321";
const MANY: usize = 100;
const FEW: usize = 20;
const MOST_LOOKS: usize = 100;
