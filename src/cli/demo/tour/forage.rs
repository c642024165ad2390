//! What is of Forage only: everything is for a merchant.

use super::words::{carried, counted};
use super::{Step, Tour, app_saw, tell};
use crate::cli::demo::cast::{Part, System};
use crate::cli::demo::story::{Facts, Story};

const OTHER_MERCHANT: &str = "7654321";

impl Tour<'_> {
    pub(super) async fn forage(&self, story: &mut Story<'_>) {
        let parts = self.cast.parts(System::Forage);
        for part in parts.filter(|it| it.is_per_merchant() && !it.hands_out()) {
            let title = part.reads_for(OTHER_MERCHANT).title();
            let step = self.other_merchant(part).await;
            tell(story, &format!("{title}, another merchant"), step);
        }
    }

    pub(super) fn asked_forage(&self) -> Option<String> {
        let forage = &self.systems.forage;
        let first = forage.token_endpoint().last_request();
        let session = forage.session_requests().pop();
        let newest = first.into_iter().chain(session).max_by_key(|it| it.at)?;
        if let Some(merchant) = newest.field("merchant-account") {
            return Some(format!(
                "asked for merchant {merchant} with {}",
                carried(&newest)
            ));
        }
        let form = newest.form();
        let (_, scope) = form.iter().find(|(name, _)| name == "scope")?;
        Some(format!("asked for {scope} with a secret"))
    }

    async fn other_merchant(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(&part.reads_for(OTHER_MERCHANT)).await?;
        let fetches = self.fetches(part.system) - before.fetches;
        facts.saw(
            fetches == usize::from(part.is_per_subject()),
            if part.is_per_subject() {
                format!(
                    "another token, of the same parent: {}",
                    counted(fetches, "fetch", "fetches")
                )
            } else {
                format!("the same token: {}", counted(fetches, "fetch", "fetches"))
            },
        );
        self.saw_request(&mut facts, part, &before);
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }
}
