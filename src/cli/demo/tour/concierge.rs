//! What is of the Concierge service only: refresh tokens, and at most one primary phone.

use serde_json::{Value, json};

use super::words::{carried, counted};
use super::{Step, Tour, tell};
use crate::cli::demo::cast::{PHONE, Part, System};
use crate::cli::demo::story::Story;

impl Tour<'_> {
    pub(super) async fn concierge(&self, story: &mut Story<'_>) {
        let primary = json!({ "hash": PHONE, "primary": true });
        let two = json!([primary, primary]);
        let mut parts = self
            .cast
            .parts(System::Concierge)
            .filter(|it| it.has_rules());
        if let Some(part) = parts.find_map(|part| part.with("phones", &two)) {
            let title = format!("{}, two primary phones", part.reads().title());
            tell(story, &title, self.refused(&part, &part.reads(), 400).await);
        }
        let mut parts = self.cast.parts(System::Concierge);
        if let Some(part) = parts.find(|it| it.is_refreshed() && !it.hands_out()) {
            let title = "Concierge revokes the backend's token, then the app calls";
            tell(story, title, self.refreshed(part).await);
        }
    }

    /// The second login that does not happen.
    async fn refreshed(&self, part: &Part) -> Step {
        let concierge = &self.systems.concierge;
        let (logins, refreshes) = (concierge.logins(), concierge.refreshes());
        let mut facts = self.revoked(part, &part.reads()).await?;
        let logins = concierge.logins() - logins;
        let refreshes = concierge.refreshes() - refreshes;
        facts.saw(
            (logins, refreshes) == (0, 1),
            format!(
                "that was {}, and {}",
                counted(refreshes, "refresh", "refreshes"),
                counted(logins, "login", "logins")
            ),
        );
        Ok(facts)
    }

    pub(super) fn asked_concierge(&self) -> Option<String> {
        let concierge = &self.systems.concierge;
        let backend = concierge.token_requests().pop();
        let client = concierge.client_token_requests().pop();
        let newest = backend.into_iter().chain(client).max_by_key(|it| it.at)?;
        let document = newest.json()?;
        if let Some(grant) = document.get("grant_type").and_then(Value::as_str) {
            return Some(format!("asked with grant_type {grant}"));
        }
        let asked = document.get(0)?.as_object()?;
        let minutes = asked.get("expires_minutes")?;
        let names = asked.keys().map(String::as_str);
        let names: Vec<_> = names.filter(|name| *name != "expires_minutes").collect();
        Some(format!(
            "asked for {minutes} minutes by {} with {}",
            names.join(", "),
            carried(&newest)
        ))
    }
}
