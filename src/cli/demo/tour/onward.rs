//! After the tour, while somebody looks: the app goes on calling, with tokens that live so short that one can watch.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Tour;
use crate::cli::demo::call::Call;
use crate::cli::demo::cast::{Part, System};
use crate::cli::demo::story::Story;

impl Tour<'_> {
    /// Returns only if there is nobody or nothing to look at.
    pub(in crate::cli::demo) async fn go_on(&self, story: &Story<'_>) {
        let Some(part) = self.walker().filter(|_| self.live.is_watched()) else {
            return;
        };
        let name = part.system.name();
        story.chapter(
            "live",
            &format!("the app calls {} every second", part.reads().title()),
        );
        story.line(&format!(
            "{name}'s tokens live {} s from now on; every {REVOKED_EVERY}th call finds its token revoked",
            LIFETIME.as_secs()
        ));
        self.set_lifetime(part.system, LIFETIME);
        let renew = Call::post(&format!("/tokens/{}/renew", part.provider));
        // What goes wrong is to be seen in the panel.
        renew.send(self.admin).await.ok();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.live.turn_to(part);
        let mut calls = 0_usize;
        loop {
            seconds.tick().await;
            calls += 1;
            if calls.is_multiple_of(REVOKED_EVERY) {
                self.revoke(part).await.ok();
            }
            self.call(&part.reads()).await.ok();
        }
    }

    /// The first route whose token ends, and is the same for all calls.
    fn walker(&self) -> Option<&Part> {
        let mut parts = System::ALL.iter().flat_map(|it| self.cast.parts(*it));
        parts.find(|part| {
            let ends = self
                .cast
                .providers(part.system)
                .any(|it| it == part.provider);
            ends && !part.hands_out() && !part.is_per_subject()
        })
    }
}

const LIFETIME: Duration = Duration::from_secs(30);
const REVOKED_EVERY: usize = 40;
