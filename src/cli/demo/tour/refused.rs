//! What pillion refuses itself.

use super::words::counted;
use super::{Step, Tour, app_saw};
use crate::cli::demo::call::Call;
use crate::cli::demo::cast::Part;
use crate::cli::demo::story::Facts;

impl Tour<'_> {
    pub(super) async fn malformed(&self, part: &Part) -> Step {
        self.refused(part, &part.escapes(), 400).await
    }

    pub(super) async fn web_page(&self, part: &Part) -> Step {
        let call = part.reads().with("origin", "https://evil.example");
        self.refused(part, &call, 403).await
    }

    /// The system hears nothing of it.
    pub(super) async fn refused(&self, part: &Part, call: &Call, status: u16) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(call).await?;
        app_saw(&mut facts, &answer, &[status]);
        facts.saw(
            !answer.detail().is_empty(),
            format!("because {}", answer.detail()),
        );
        let after = self.before(part).await?;
        let sent = after.requests - before.requests + after.fetches - before.fetches;
        facts.saw(
            sent == 0,
            format!(
                "{} saw {}",
                part.system.name(),
                counted(sent, "request", "requests")
            ),
        );
        Ok(facts)
    }
}
