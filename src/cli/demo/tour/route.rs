//! One request on each route: where its token came from, and what the system was sent.

use super::words::{carried, counted, fingerprint, told_time};
use super::{Before, Step, Tour, app_saw};
use crate::cli::demo::call::{Answer, NoAnswer};
use crate::cli::demo::cast::{Part, System};
use crate::cli::demo::story::Facts;

impl Tour<'_> {
    pub(super) async fn route(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(&part.reads()).await?;
        self.saw_fetches(&mut facts, part, &before).await?;
        if part.hands_out() {
            saw_token(&mut facts, &answer);
        } else {
            self.saw_request(&mut facts, part, &before);
        }
        app_saw(&mut facts, &answer, &[200]);
        if !answer.body.contains(part.brings()) {
            facts.saw(false, format!("there is no {} in it", part.brings()));
        }
        Ok(facts)
    }

    /// How many tokens were fetched for it, and how they were asked for.
    async fn saw_fetches(
        &self,
        facts: &mut Facts,
        part: &Part,
        before: &Before,
    ) -> Result<(), NoAnswer> {
        let system = part.system;
        let fetches = self.fetches(system) - before.fetches;
        if !self.cast.providers(system).any(|it| it == part.provider) {
            facts.saw(fetches == 0, "the key is the token: nothing to fetch");
            return Ok(());
        }
        if fetches == 0 {
            facts.saw(true, "served from cache: no fetches");
            return Ok(());
        }
        let after = self.before(part).await?;
        let counted = self.counted_fetches(system, &after.scrape)
            - self.counted_fetches(system, &before.scrape);
        let what = match fetches {
            1 => "token fetched".to_owned(),
            _ => format!("{fetches} tokens fetched"),
        };
        facts.saw(
            counted.to_string() == fetches.to_string(),
            format!(
                "{what} from {} in {}",
                system.token_host(),
                told_time(self.fetch_time(system, before, &after))
            ),
        );
        if let Some(asked) = self.asked(system) {
            facts.saw(true, asked);
        }
        Ok(())
    }

    /// What the request for the newest token said.
    fn asked(&self, system: System) -> Option<String> {
        match system {
            System::Stitch => self.asked_stitch(),
            System::Forage => self.asked_forage(),
            System::Concierge => self.asked_concierge(),
            System::Highnote => self.asked_highnote(),
        }
    }

    /// The API got one request, with a token on it.
    pub(super) fn saw_request(&self, facts: &mut Facts, part: &Part, before: &Before) {
        let mut seen = self.requests(part.system).split_off(before.requests);
        let name = part.system.name();
        let (Some(request), true) = (seen.pop(), seen.is_empty()) else {
            facts.saw(false, format!("{name} did not see exactly one request"));
            return;
        };
        facts.saw(
            request.field("authorization").is_some(),
            format!(
                "{name} saw {} {} with {}",
                request.method,
                request.path(),
                carried(&request)
            ),
        );
        if part.sets_merchant() {
            let merchant = request.field("merchant-account");
            facts.saw(
                merchant.is_some(),
                format!(
                    "with it went Merchant-Account: {}",
                    merchant.unwrap_or("nothing")
                ),
            );
        }
    }
}

/// A token response (RFC 6749 §5.1).
fn saw_token(facts: &mut Facts, answer: &Answer) {
    let members = serde_json::from_str::<serde_json::Value>(&answer.body).unwrap_or_default();
    let token = members.get("access_token").and_then(|it| it.as_str());
    let seconds = members
        .get("expires_in")
        .and_then(serde_json::Value::as_u64);
    let (Some(token), Some(seconds)) = (token, seconds) else {
        facts.saw(false, "nothing was handed out");
        return;
    };
    facts.saw(
        seconds > 0,
        format!(
            "handed out: token {}, good for {}",
            fingerprint(token),
            counted(
                usize::try_from(seconds).unwrap_or(usize::MAX),
                "second",
                "seconds"
            )
        ),
    );
}
