//! A token is revoked, and the app does not notice.

use futures_util::future::join_all;

use super::words::{carried, told_time};
use super::{NOTICEABLE, Step, Tour, UNAUTHORIZED, app_saw};
use crate::cli::demo::call::Call;
use crate::cli::demo::cast::Part;
use crate::cli::demo::story::Facts;

pub(super) const MANY: usize = 100;

impl Tour<'_> {
    /// A 401 that the app never sees.
    pub(super) async fn revoked(&self, part: &Part, call: &Call) -> Step {
        let mut facts = Facts::default();
        self.revoke(part).await?;
        let before = self.before(part).await?;
        let answer = self.call(call).await?;
        let after = self.before(part).await?;
        let replayed = [("route", part.route.as_str()), ("action", "replayed")];
        let refused =
            after.scrape.sum(UNAUTHORIZED, &replayed) - before.scrape.sum(UNAUTHORIZED, &replayed);
        let seen = self.requests(part.system).split_off(before.requests);
        let host = part.system.api_host();
        facts.saw(
            refused == 1.0,
            format!(
                "401 seen from {host} for {}",
                seen.first().map_or_else(String::new, carried)
            ),
        );
        let fetch_took = self.fetch_time(part.system, &before, &after);
        let held = answer.took.saturating_sub(fetch_took);
        facts.saw(
            after.fetches == before.fetches + 1,
            format!("renewed: token fetched in {}", told_time(fetch_took)),
        );
        if held > NOTICEABLE {
            facts.saw(
                true,
                format!(
                    "after a pause of {}: at most one fetch a second",
                    told_time(held)
                ),
            );
        }
        let is_replay = matches!(seen.as_slice(), [first, second]
            if first.body == second.body && !first.body.is_empty() && carried(first) != carried(second));
        facts.saw(
            is_replay,
            format!(
                "replayed: the same {} bytes, with {}",
                seen.last().map_or(0, |last| last.body.len()),
                seen.last().map_or_else(String::new, carried)
            ),
        );
        if part.pays().is_some() {
            facts.is("payments made:", after.payments - before.payments, 1);
        }
        app_saw(&mut facts, &answer, &[200, 201]);
        Ok(facts)
    }

    /// Many requests at once find out that their token is no good.
    pub(super) async fn many(&self, part: &Part, pays: &Call) -> Step {
        let mut facts = Facts::default();
        self.revoke(part).await?;
        let before = self.before(part).await?;
        let answers = join_all((0..MANY).map(|_| self.call(pays))).await;
        let after = self.before(part).await?;
        let route = [("route", part.route.as_str())];
        let refused =
            after.scrape.sum(UNAUTHORIZED, &route) - before.scrape.sum(UNAUTHORIZED, &route);
        facts.saw(
            refused >= 1.0,
            format!(
                "{refused} answers with 401 seen from {}",
                part.system.api_host()
            ),
        );
        facts.is("token fetches:", after.fetches - before.fetches, 1);
        facts.is(
            "payments made, none of them twice:",
            after.payments - before.payments,
            MANY,
        );
        let good = answers
            .iter()
            .flatten()
            .filter(|answer| matches!(answer.status, 200 | 201))
            .count();
        let slowest = answers.iter().flatten().map(|answer| answer.took).max();
        facts.saw(
            good == MANY,
            format!(
                "app saw {good} of {MANY} succeed, the slowest in {}",
                told_time(slowest.unwrap_or_default())
            ),
        );
        Ok(facts)
    }
}
