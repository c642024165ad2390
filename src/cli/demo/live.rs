//! What goes on while somebody looks: the app's last call, what came of it at the upstream, and the life of its token.

use std::cell::RefCell;
use std::convert::Infallible;
use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::call::{Answer, Call, NoAnswer};
use super::cast::{Part, System};
use super::screen::{Line, Screen, Style};
use super::words::{carried, counted, told_time};
use crate::admin::words::{TokenWords, length};
use crate::cli::run::Running;
use crate::clock::Moment;
use crate::fake::{Received, Systems};
use crate::metrics::events::Events;
use crate::proxy::Proxy;
use crate::token::status::ProviderStatus;

/// The panel below the story.
#[derive(Debug)]
pub(super) struct Live<'a> {
    screen: &'a Screen,
    systems: &'a Systems,
    proxy: Arc<Proxy>,
    events: Events,
    scene: RefCell<Option<Scene>>,
}

/// Between whom something goes on, and what it was last.
#[derive(Debug)]
struct Scene {
    system: System,
    provider: String,
    call: Option<Said>,
}

/// A call of the app.
#[derive(Debug)]
struct Said {
    title: String,
    credential: &'static str,
    at: Instant,
    under_way: usize,
    /// A status of less than 400, and the answer in words.
    answer: Option<(bool, String)>,
}

impl<'a> Live<'a> {
    pub(super) fn new(screen: &'a Screen, systems: &'a Systems, running: &Running) -> Self {
        Self {
            screen,
            systems,
            proxy: Arc::clone(&running.proxy),
            events: running.metrics.events().clone(),
            scene: RefCell::default(),
        }
    }

    /// Whether anybody looks.
    pub(super) const fn is_watched(&self) -> bool {
        self.screen.is_live()
    }

    /// Calls are on this route from now on.
    pub(super) fn turn_to(&self, part: &Part) {
        let mut scene = self.scene.borrow_mut();
        if scene
            .as_ref()
            .is_none_or(|scene| (scene.system, &scene.provider) != (part.system, &part.provider))
        {
            *scene = Some(Scene {
                system: part.system,
                provider: part.provider.clone(),
                call: None,
            });
        }
    }

    pub(super) fn sent(&self, call: &Call) {
        if let Some(scene) = self.scene.borrow_mut().as_mut() {
            let has_own = call.fields.iter().any(|(name, _)| name == "authorization");
            let before = scene.call.as_ref().map_or(0, |said| said.under_way);
            scene.call = Some(Said {
                title: call.title(),
                credential: if has_own {
                    "a credential of its own"
                } else {
                    "no credential"
                },
                at: Instant::now(),
                under_way: before + 1,
                answer: None,
            });
        }
    }

    pub(super) fn answered(&self, answer: &Result<Answer, NoAnswer>) {
        let mut scene = self.scene.borrow_mut();
        let said = scene.as_mut().and_then(|scene| scene.call.as_mut());
        if let Some(said) = said {
            said.under_way = said.under_way.saturating_sub(1);
            said.answer = Some(match answer {
                Ok(answer) => (
                    answer.status < 400,
                    format!("{} in {}", answer.status, told_time(answer.took)),
                ),
                Err(error) => (false, error.to_string()),
            });
        }
    }

    /// Nobody is to look any more.
    pub(super) fn end(&self) {
        self.scene.take();
        self.screen.show(&[]);
    }

    /// Draws it again and again.
    pub(super) async fn follow(&self) -> Infallible {
        loop {
            if self.is_watched()
                && let Some(panel) = self.panel()
            {
                self.screen.show(&panel);
            }
            sleep(TICK).await;
        }
    }

    /// None between a turn to another route and its first call: what was there may stay that long.
    fn panel(&self) -> Option<Vec<Line>> {
        let scene = self.scene.borrow();
        let scene = scene.as_ref()?;
        let said = scene.call.as_ref()?;
        let mut lines = vec![Line::default().and(Style::Faint, RULE)];
        lines.extend(app(said));
        lines.extend(upstream(
            scene.system,
            self.last_request(scene.system)
                .filter(|it| it.at >= said.at)
                .as_ref(),
        ));
        for status in self.providers(&scene.provider) {
            lines.extend(token(status));
        }
        lines.extend(self.event());
        Some(lines)
    }

    fn last_request(&self, system: System) -> Option<Received> {
        match system {
            System::Stitch => self.systems.stitch.last_api_request(),
            System::Forage => self.systems.forage.last_api_request(),
            System::Concierge => self.systems.concierge.last_api_request(),
            System::Highnote => self.systems.highnote.last_api_request(),
        }
    }

    /// A provider, and those from whose tokens its own are made.
    fn providers(&self, name: &str) -> Vec<ProviderStatus> {
        let (plan, now) = (self.proxy.plan(), Moment::now());
        let of_name = |name: &str| {
            let mut all = plan.providers.iter();
            let tokens = all.find(|tokens| tokens.provider().name.as_ref() == name)?;
            Some(tokens.status(self.events.subject_key(), now))
        };
        iter::successors(of_name(name), |status| of_name(status.parent.as_deref()?)).collect()
    }

    fn event(&self) -> Option<Line> {
        let event = self.events.recent().into_iter().next()?;
        let age = length(Moment::now() - event.moment);
        let text = format!(
            "{} {}, {age} ago: {}",
            event.provider.as_deref().unwrap_or("the configuration"),
            event.kind.as_str(),
            event.told
        );
        Some(labelled("event").and(Style::Plain, text))
    }
}

fn app(said: &Said) -> [Line; 2] {
    let second = Line::of(INDENT).and(Style::Plain, said.credential);
    let second = match &said.answer {
        _ if said.under_way > 0 => second.and(
            Style::Plain,
            format!(
                ", {} for {:.1} s",
                counted(said.under_way, "answer awaited", "answers awaited"),
                said.at.elapsed().as_secs_f64()
            ),
        ),
        Some((good, answer)) => {
            let style = if *good { Style::Good } else { Style::Bad };
            second.and(Style::Plain, ", saw ").and(style, answer)
        }
        None => second,
    };
    [labelled("app").and(Style::Plain, &said.title), second]
}

fn upstream(system: System, request: Option<&Received>) -> [Line; 2] {
    let label = labelled("upstream");
    let name = system.name();
    match request {
        Some(request) => {
            let saw = format!("{name} saw {} {}", request.method, request.path());
            let with = format!("with {}", carried(request));
            [
                label.and(Style::Plain, saw),
                Line::of(INDENT).and_words(&with),
            ]
        }
        None => [
            label.and(Style::Plain, format!("{name} saw nothing of it")),
            Line::default(),
        ],
    }
}

fn token(status: ProviderStatus) -> Vec<Line> {
    let label = labelled("token").and(Style::Plain, status.name);
    // Of several, the newest is what this is about.
    let newest = status
        .tokens
        .into_iter()
        .min_by(|one, other| age(one.age_seconds).total_cmp(&age(other.age_seconds)));
    let Some(words) = newest.map(TokenWords::of) else {
        return vec![label.and(Style::Plain, ": none yet")];
    };
    let first = match words.bar {
        Some(bar) => label
            .and(Style::Plain, " ")
            .and(Style::Good, blocks('█', 0..bar.left, bar.due))
            .and(Style::Faint, blocks('░', bar.left..100, bar.due))
            .and(Style::Plain, format!(" {}", words.life)),
        None => label.and(Style::Plain, format!(": {}", words.life)),
    };
    let second = Line::of(INDENT).and(
        Style::Plain,
        format!(
            "{}, generation {}, renewed {}",
            words.state, words.generation, words.renewal
        ),
    );
    vec![first, second]
}

/// A part of a bar, in percents of the whole; with a mark where the next token is fetched.
fn blocks(block: char, part: Range<u8>, due: u8) -> String {
    let at = |percent: u8| usize::from(percent) * BAR / 100;
    (at(part.start)..at(part.end))
        .map(|place| if place == at(due) { '┃' } else { block })
        .collect()
}

fn age(seconds: Option<f64>) -> f64 {
    seconds.unwrap_or(f64::INFINITY)
}

fn labelled(label: &str) -> Line {
    Line::default().and(Style::Bold, format!("  {label:<10}"))
}

const INDENT: &str = "            ";
const RULE: &str =
    "── live ────────────────────────────────────────────────────────────────────────";
/// How many characters of a bar are a whole life.
const BAR: usize = 30;
const TICK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_first_and_is_renewed_where_its_mark_is() {
        let drawn = |left| blocks('█', 0..left, 20) + "|" + &blocks('░', left..100, 20);
        assert_eq!(drawn(100), "██████┃███████████████████████|");
        assert_eq!(drawn(50), "██████┃████████|░░░░░░░░░░░░░░░");
        assert_eq!(drawn(10), "███|░░░┃░░░░░░░░░░░░░░░░░░░░░░░");
        assert_eq!(drawn(0), "|░░░░░░┃░░░░░░░░░░░░░░░░░░░░░░░");
    }
}
