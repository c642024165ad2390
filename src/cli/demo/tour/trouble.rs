//! A system is in trouble, and makes as little of it for the app as can be.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use super::words::counted;
use super::{Step, Tour, UNAUTHORIZED, app_saw};
use crate::cli::demo::call::Call;
use crate::cli::demo::cast::Part;
use crate::cli::demo::story::Facts;
use crate::fake::Fault;

pub(super) const FEW: usize = 20;

impl Tour<'_> {
    /// While a token is good, a failing provider is invisible to the app.
    pub(super) async fn outage(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let faults = self.token_faults(part.system);
        let renew = Call::post(&format!("/tokens/{}/renew", part.provider));
        faults.always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
        let refused = renew.send(self.admin).await;
        let answer = self.call(&part.reads()).await;
        faults.clear();
        let (refused, answer) = (refused?, answer?);
        facts.saw(
            refused.status == 502,
            format!("told to renew: {}", refused.body.trim_end()),
        );
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }

    /// An upstream that refuses everything is not believed for long.
    pub(super) async fn refuses_all(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        self.api_faults(part.system).always(Fault::Unauthorized);
        let mut unauthorized = 0;
        for _ in 0..FEW {
            let answer = self.call(&part.reads()).await;
            unauthorized += usize::from(answer.is_ok_and(|answer| answer.status == 401));
        }
        self.api_faults(part.system).clear();
        let after = self.before(part).await?;
        let guarded = [("route", part.route.as_str()), ("action", "guarded")];
        let guarded =
            after.scrape.sum(UNAUTHORIZED, &guarded) - before.scrape.sum(UNAUTHORIZED, &guarded);
        facts.saw(
            unauthorized == FEW,
            format!("app saw the upstream's own 401 {unauthorized} times"),
        );
        facts.is("token fetches:", after.fetches - before.fetches, 1);
        facts.saw(
            guarded > 0.0,
            format!("then the storm guard: {guarded} refusals cost the provider nothing"),
        );
        let answer = self.call(&part.reads()).await?;
        facts.is("it accepts tokens again, app saw", answer.status, 200);
        Ok(facts)
    }

    /// A 401 that no new token would cure.
    pub(super) async fn scope(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let challenge = HeaderValue::from_static(r#"Bearer error="insufficient_scope""#);
        let refusal =
            Fault::status(StatusCode::UNAUTHORIZED).with_field(WWW_AUTHENTICATE, challenge);
        self.api_faults(part.system).once(refusal);
        let answer = self.call(&part.reads()).await?;
        let fetches = self.fetches(part.system) - before.fetches;
        let sent = self.requests(part.system).len() - before.requests;
        facts.saw(
            fetches == 0 && sent == 1,
            format!(
                "no new token would help: {}, sent {}",
                counted(fetches, "fetch", "fetches"),
                counted(sent, "time", "times")
            ),
        );
        app_saw(&mut facts, &answer, &[401]);
        Ok(facts)
    }
}
