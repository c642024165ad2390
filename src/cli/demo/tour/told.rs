//! What pillion tells of itself: the metrics are right, and nothing says a token.

use std::collections::BTreeSet;

use super::words::token;
use super::{Step, Tour};
use crate::cli::demo::call::Call;
use crate::cli::demo::cast::System;
use crate::cli::demo::story::Facts;

impl Tour<'_> {
    pub(super) async fn told(&self) -> Step {
        let mut facts = Facts::default();
        let scrape = self.scrape().await?;
        let status = Call::get("/status").send(self.admin).await?;
        let mut secrets: BTreeSet<String> = self.cast.made_up_values().map(str::to_owned).collect();
        for system in System::ALL {
            secrets.extend(
                self.requests(system)
                    .iter()
                    .filter_map(token)
                    .map(str::to_owned),
            );
            if self.cast.providers(system).next().is_none() {
                continue;
            }
            let counted = self.counted_fetches(system, &scrape);
            let fetches = self.fetches(system);
            facts.saw(
                counted.to_string() == fetches.to_string(),
                format!(
                    "token fetches of {}: {counted} counted, {fetches} seen",
                    system.name()
                ),
            );
        }
        let shown = secrets
            .iter()
            .filter(|secret| scrape.text().contains(*secret) || status.body.contains(*secret))
            .count();
        facts.saw(
            shown == 0 && !secrets.is_empty(),
            format!(
                "{shown} of {} tokens and secrets are to be seen in them",
                secrets.len()
            ),
        );
        Ok(facts)
    }
}
