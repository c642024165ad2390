//! What goes well, again and again.

use super::words::counted;
use super::{Step, Tour, app_saw};
use crate::cli::demo::cast::Part;
use crate::cli::demo::story::Facts;

const CONFLICTS: &str = "pillion_header_conflicts_total";

impl Tour<'_> {
    pub(super) async fn again(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(&part.reads()).await?;
        let fetches = self.fetches(part.system) - before.fetches;
        facts.saw(
            fetches == 0,
            format!(
                "served from cache: {}",
                counted(fetches, "fetch", "fetches")
            ),
        );
        self.saw_request(&mut facts, part, &before);
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }

    pub(super) async fn own(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let call = part.reads().with("authorization", "Bearer of-the-app");
        let answer = self.call(&call).await?;
        let route = [("route", part.route.as_str())];
        let conflicts =
            self.scrape().await?.sum(CONFLICTS, &route) - before.scrape.sum(CONFLICTS, &route);
        facts.is("overwritten; header conflicts counted:", conflicts, 1.0);
        self.saw_request(&mut facts, part, &before);
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }
}
