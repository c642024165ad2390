//! Each step of the tour, in the order in which they are taken.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use super::words::{counted, fingerprint, token, told_time};
use super::{FEW, MANY, OTHER_MERCHANT, Step, Tour};
use crate::cli::demo::call::{Answer, Call};
use crate::cli::demo::cast::Part;
use crate::cli::demo::scrape::Scrape;
use crate::cli::demo::story::Facts;
use crate::fake::Fault;

impl Tour<'_> {
    /// The first request: a token has to be fetched.
    pub(super) async fn first(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let answer = self.call(&part.reads()).await?;
        let scrape = self.scrape().await?;
        let tokens = self.tokens(part.system);
        facts.saw(
            tokens.fetches() == 1 && tokens.granted() == 1,
            format!(
                "token fetched from {} in {}, {} so far",
                part.system.token_host(),
                told_time(fetch_time(&scrape, part)),
                counted(tokens.fetches(), "fetch", "fetches"),
            ),
        );
        self.saw_token(&mut facts, part);
        if part.sets_merchant() {
            let seen = self.api(part.system).pop();
            let merchant = seen
                .as_ref()
                .and_then(|seen| seen.field("merchant-account"));
            facts.saw(
                merchant.is_some(),
                format!(
                    "with it went Merchant-Account: {}",
                    merchant.unwrap_or("nothing")
                ),
            );
        }
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }

    pub(super) async fn again(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(&part.reads()).await?;
        let fetches = self.tokens(part.system).fetches() - before.fetches;
        facts.saw(
            fetches == 0,
            format!(
                "served from cache: {}",
                counted(fetches, "fetch", "fetches")
            ),
        );
        self.saw_token(&mut facts, part);
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
        self.saw_token(&mut facts, part);
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }

    pub(super) async fn merchant(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(&part.reads_for(OTHER_MERCHANT)).await?;
        let fetches = self.tokens(part.system).fetches() - before.fetches;
        facts.saw(
            fetches == 0,
            format!("the same token: {}", counted(fetches, "fetch", "fetches")),
        );
        let seen = self.api(part.system).pop();
        let merchant = seen
            .as_ref()
            .and_then(|seen| seen.field("merchant-account"));
        facts.is(
            "with it went Merchant-Account:",
            merchant.unwrap_or("nothing"),
            OTHER_MERCHANT,
        );
        app_saw(&mut facts, &answer, &[200]);
        Ok(facts)
    }

    /// A 401 that the app never sees.
    pub(super) async fn revoked(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        self.tokens(part.system).revoke_all();
        let answer = self.call(&part.pays()).await?;
        let after = self.before(part).await?;
        let replayed = [("route", part.route.as_str()), ("action", "replayed")];
        let refused =
            after.scrape.sum(UNAUTHORIZED, &replayed) - before.scrape.sum(UNAUTHORIZED, &replayed);
        let seen = self.api(part.system).split_off(before.requests);
        let host = part.system.api_host();
        facts.saw(
            refused == 1.0,
            format!(
                "401 seen from {host} for token {}",
                seen.first().map_or_else(String::new, fingerprint)
            ),
        );
        let fetch_took =
            fetch_time(&after.scrape, part).saturating_sub(fetch_time(&before.scrape, part));
        let held = answer.took.saturating_sub(fetch_took);
        let pause = if held > NOTICEABLE {
            format!(
                ", after a pause of {}: at most one fetch a second",
                told_time(held)
            )
        } else {
            String::new()
        };
        facts.saw(
            after.fetches == before.fetches + 1,
            format!("renewed: token fetched in {}{pause}", told_time(fetch_took)),
        );
        let is_replay = matches!(seen.as_slice(), [first, second]
            if first.body == second.body && !first.body.is_empty() && fingerprint(first) != fingerprint(second));
        facts.saw(
            is_replay,
            format!(
                "replayed: the same {} bytes, with token {}",
                seen.last().map_or(0, |last| last.body.len()),
                seen.last().map_or_else(String::new, fingerprint)
            ),
        );
        facts.is("payments made:", after.payments - before.payments, 1);
        app_saw(&mut facts, &answer, &[200, 201]);
        Ok(facts)
    }

    /// Many requests at once find out that their token is no good.
    pub(super) async fn many(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        self.tokens(part.system).revoke_all();
        let call = part.pays();
        let answers = join_all((0..MANY).map(|_| self.call(&call))).await;
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

    /// While a token is good, a failing provider is invisible to the app.
    pub(super) async fn outage(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let tokens = self.tokens(part.system);
        let renew = Call::post(&format!("/tokens/{}/renew", part.provider));
        tokens
            .faults()
            .always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
        let refused = renew.send(self.admin).await;
        let answer = self.call(&part.reads()).await;
        tokens.faults().clear();
        let (refused, answer) = (refused?, answer?);
        facts.saw(
            refused.status == 502,
            format!("{}: {}", renew.title(), refused.body.trim_end()),
        );
        app_saw(&mut facts, &answer, &[200]);
        let renewed = renew.send(self.admin).await?;
        facts.saw(
            renewed.status == 200,
            format!(
                "it recovers, {}: {}",
                renew.title(),
                renewed.body.trim_end()
            ),
        );
        Ok(facts)
    }

    /// An upstream that refuses everything is not believed for long.
    pub(super) async fn refuses_all(&self, part: &Part) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        self.faults(part.system).always(Fault::Unauthorized);
        let mut unauthorized = 0;
        for _ in 0..FEW {
            let answer = self.call(&part.reads()).await;
            unauthorized += usize::from(answer.is_ok_and(|answer| answer.status == 401));
        }
        self.faults(part.system).clear();
        let after = self.before(part).await?;
        let guarded = [("route", part.route.as_str()), ("action", "guarded")];
        let guarded =
            after.scrape.sum(UNAUTHORIZED, &guarded) - before.scrape.sum(UNAUTHORIZED, &guarded);
        facts.saw(
            unauthorized == FEW,
            format!("app saw the upstream's own 401 {unauthorized} times"),
        );
        facts.saw(
            after.fetches == before.fetches + 1,
            format!(
                "{} in all, then the storm guard: {guarded} refusals cost the provider nothing",
                counted(
                    after.fetches - before.fetches,
                    "token fetch",
                    "token fetches"
                )
            ),
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
        self.faults(part.system).once(refusal);
        let answer = self.call(&part.reads()).await?;
        let fetches = self.tokens(part.system).fetches() - before.fetches;
        let sent = self.api(part.system).len() - before.requests;
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

    pub(super) async fn malformed(&self, part: &Part) -> Step {
        self.refused(part, &part.escapes(), 400).await
    }

    pub(super) async fn web_page(&self, part: &Part) -> Step {
        let call = part.reads().with("origin", "https://evil.example");
        self.refused(part, &call, 403).await
    }

    async fn refused(&self, part: &Part, call: &Call, status: u16) -> Step {
        let mut facts = Facts::default();
        let before = self.before(part).await?;
        let answer = self.call(call).await?;
        app_saw(&mut facts, &answer, &[status]);
        facts.saw(
            !answer.detail().is_empty(),
            format!("because {}", answer.detail()),
        );
        let sent = self.api(part.system).len() - before.requests;
        facts.saw(
            sent == 0,
            format!(
                "{} saw {}",
                part.system.api_host(),
                counted(sent, "request", "requests")
            ),
        );
        Ok(facts)
    }

    /// The metrics are right, and nothing says a token.
    pub(super) async fn told(&self) -> Step {
        let mut facts = Facts::default();
        let scrape = self.scrape().await?;
        let status = Call::get("/status").send(self.admin).await?;
        let mut secrets = BTreeSet::new();
        for part in self.cast.parts() {
            let counted = scrape.sum(FETCHES, &[("provider", &part.provider)]);
            let fetches = self.tokens(part.system).fetches();
            facts.saw(
                counted.to_string() == fetches.to_string(),
                format!(
                    "{FETCHES} of {}: {counted}, and {} saw {fetches}",
                    part.provider,
                    part.system.token_host()
                ),
            );
            let tokens = self.api(part.system);
            secrets.extend(tokens.iter().filter_map(token).map(str::to_owned));
            secrets.insert(self.tokens(part.system).rules().client_secret.clone());
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

    fn saw_token(&self, facts: &mut Facts, part: &Part) {
        let seen = self.api(part.system).pop();
        let good = seen
            .as_ref()
            .and_then(token)
            .is_some_and(|token| self.tokens(part.system).is_good(token).is_good());
        facts.saw(
            good,
            format!(
                "{} saw {} with token {}",
                part.system.api_host(),
                seen.as_ref().map_or_else(
                    || "nothing".to_owned(),
                    |seen| format!("{} {}", seen.method, seen.path())
                ),
                seen.as_ref().map_or_else(String::new, fingerprint)
            ),
        );
    }
}

fn app_saw(facts: &mut Facts, answer: &Answer, right: &[u16]) {
    let good = right.contains(&answer.status);
    let fact = format!("app saw {} in {}", answer.status, told_time(answer.took));
    facts.saw(good, fact);
}

/// How long all fetches of a provider took together.
fn fetch_time(scrape: &Scrape, part: &Part) -> Duration {
    let seconds = scrape.sum(
        "pillion_token_fetch_duration_seconds_sum",
        &[("provider", &part.provider)],
    );
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

const UNAUTHORIZED: &str = "pillion_unauthorized_total";
const CONFLICTS: &str = "pillion_header_conflicts_total";
const FETCHES: &str = "pillion_token_fetches_total";
/// Longer than this, a renewal has waited for its turn.
const NOTICEABLE: Duration = Duration::from_millis(100);
