//! The tour: what an app and the world do to pillion, and what is then to be seen of it.
//!
//! Nothing is told that was not observed: at the app, at the stand-ins, or in `/metrics`.

mod concierge;
mod forage;
mod highnote;
mod onward;
mod refused;
mod revoked;
mod route;
mod stand_ins;
mod stitch;
mod told;
mod trouble;
mod usual;

use std::net::SocketAddr;
use std::time::Duration;

use self::revoked::MANY;
use self::trouble::FEW;
use crate::cli::demo::call::{Answer, Call, NoAnswer, reachable};
use crate::cli::demo::cast::{Cast, Part, System};
use crate::cli::demo::live::Live;
use crate::cli::demo::scrape::Scrape;
use crate::cli::demo::story::{Facts, Story};
use crate::cli::demo::words::{self, told_time};
use crate::cli::run::Running;
use crate::fake::Systems;

/// Everything that is on the stage.
#[derive(Debug)]
pub(super) struct Tour<'a> {
    systems: &'a Systems,
    cast: &'a Cast,
    live: &'a Live<'a>,
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
    pub(super) fn new(
        systems: &'a Systems,
        running: &Running,
        cast: &'a Cast,
        live: &'a Live<'a>,
    ) -> Self {
        Self {
            systems,
            cast,
            live,
            app: running.addresses.first().copied().map(reachable),
            admin: reachable(running.admin),
        }
    }

    /// All steps, in an order in which nothing has to be waited for but what is told.
    pub(super) async fn go(&self, story: &mut Story<'_>) {
        let stitch = self.payer(System::Stitch);
        let forage = self.payer(System::Forage);
        let one = stitch.as_ref().or(forage.as_ref());
        let other = forage.as_ref().or(stitch.as_ref());
        for system in System::ALL {
            self.routes(system, story).await;
            match system {
                System::Stitch | System::Highnote => {}
                System::Forage => self.forage(story).await,
                System::Concierge => self.concierge(story).await,
            }
            let here = |it: &&(&Part, Call)| it.0.system == system;
            if let Some((part, pays)) = one.filter(here) {
                self.one(part, pays, story).await;
            }
            if let Some((part, pays)) = other.filter(here) {
                self.other(part, pays, story).await;
            }
            if let Some((part, _)) = one.filter(here) {
                self.last(part, story).await;
            }
        }
        if System::ALL
            .iter()
            .any(|it| self.cast.parts(*it).next().is_some())
        {
            story.chapter("pillion", "what it tells of itself");
            tell(story, "GET /metrics and GET /status", self.told().await);
        }
    }

    /// The first route on which something can be paid, and how.
    fn payer(&self, system: System) -> Option<(&'a Part, Call)> {
        let mut parts = self.cast.parts(system);
        parts.find_map(|part| Some((part, part.pays()?)))
    }

    async fn routes(&self, system: System, story: &mut Story<'_>) {
        let mut parts = self.cast.parts(system).peekable();
        if parts.peek().is_some() {
            story.chapter(system.name(), system.tokens());
        }
        for part in parts {
            let mut title = part.reads().title();
            if story.is_new() {
                title += ", without a credential";
            }
            tell(story, &title, self.route(part).await);
        }
    }

    /// An ordinary day, and a token that is revoked.
    async fn one(&self, part: &Part, pays: &Call, story: &mut Story<'_>) {
        let reads = part.reads().title();
        let name = part.system.name();
        tell(story, &format!("{reads}, again"), self.again(part).await);
        let title = format!("{reads}, with a credential of the app's own");
        tell(story, &title, self.own(part).await);
        let title = format!("{reads}, by a web page in a browser");
        tell(story, &title, self.web_page(part).await);
        let title = part.escapes().title();
        tell(story, &title, self.malformed(part).await);
        let title = format!("{name} revokes the token, then the app pays");
        tell(story, &title, self.revoked(part, pays).await);
    }

    /// After everything else: the provider is in back-off from then on.
    async fn last(&self, part: &Part, story: &mut Story<'_>) {
        // The first has just been asked, and is asked once a second at most.
        let parts = self.cast.parts(part.system);
        let mut parts = parts.filter(|it| !it.hands_out() && !it.is_per_subject());
        if let Some(last) = parts.next_back() {
            let title = format!("{}'s token endpoint answers 503", part.system.name());
            tell(story, &title, self.outage(last).await);
        }
    }

    /// Many calls at once, and an API that says no.
    async fn other(&self, part: &Part, pays: &Call, story: &mut Story<'_>) {
        let name = part.system.name();
        let title = format!("{name} revokes the token, then {MANY} payments at once");
        tell(story, &title, self.many(part, pays).await);
        let title = format!("{name} says that the token's scope is not enough");
        tell(story, &title, self.scope(part).await);
        let title = format!("{name} refuses every token, {FEW} calls");
        tell(story, &title, self.refuses_all(part).await);
    }

    async fn call(&self, call: &Call) -> Result<Answer, NoAnswer> {
        let Some(address) = self.app else {
            return Err(NoAnswer::because("nothing listens"));
        };
        self.live.sent(call);
        let answer = call.send(address).await;
        self.live.answered(&answer);
        answer
    }

    async fn before(&self, part: &Part) -> Result<Before, NoAnswer> {
        self.live.turn_to(part);
        Ok(Before {
            fetches: self.fetches(part.system),
            requests: self.requests(part.system).len(),
            payments: self.payments(part.system),
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

    /// How many tokens pillion says that it has asked `system` for.
    fn counted_fetches(&self, system: System, scrape: &Scrape) -> f64 {
        let providers = self.cast.providers(system);
        providers
            .map(|provider| scrape.sum("pillion_token_fetches_total", &[("provider", provider)]))
            .fold(0.0, |sum, fetches| sum + fetches)
    }

    /// How long the fetches in between took together.
    fn fetch_time(&self, system: System, before: &Before, after: &Before) -> Duration {
        let name = "pillion_token_fetch_duration_seconds_sum";
        let providers = self.cast.providers(system);
        let seconds = providers
            .map(|provider| {
                let labels = [("provider", provider)];
                after.scrape.sum(name, &labels) - before.scrape.sum(name, &labels)
            })
            .fold(0.0, |sum, seconds| sum + seconds);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

fn tell(story: &mut Story<'_>, title: &str, step: Step) {
    let facts = step.unwrap_or_else(|error| {
        let mut facts = Facts::default();
        facts.saw(false, error.to_string());
        facts
    });
    story.step(title, &facts);
}

fn app_saw(facts: &mut Facts, answer: &Answer, right: &[u16]) {
    let good = right.contains(&answer.status);
    let fact = format!("app saw {} in {}", answer.status, told_time(answer.took));
    facts.saw(good, fact);
}

const UNAUTHORIZED: &str = "pillion_unauthorized_total";
/// Longer than this, a renewal has waited for its turn.
const NOTICEABLE: Duration = Duration::from_millis(100);
const MOST_LOOKS: usize = 100;
