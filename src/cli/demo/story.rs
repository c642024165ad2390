//! What is told, and whether it was true.

use std::fmt::Display;

use super::screen::{Line, Screen, Style};

/// Tells the steps of the tour as they happen, and remembers which did not go as told.
#[derive(Debug)]
pub(super) struct Story<'a> {
    screen: &'a Screen,
    told: usize,
    failed: usize,
}

/// What was observed in one step.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<(bool, String)>);

impl Facts {
    /// Something was observed; `good` says whether it is what should have been.
    pub(super) fn saw(&mut self, good: bool, fact: impl Into<String>) {
        self.0.push((good, fact.into()));
    }

    /// A value was observed that can only be right or wrong.
    pub(super) fn is<T: Copy + Display + PartialEq>(&mut self, what: &str, seen: T, right: T) {
        if seen == right {
            self.saw(true, format!("{what} {seen}"));
        } else {
            self.saw(false, format!("{what} {seen}, not {right}"));
        }
    }

    fn good(&self) -> bool {
        self.0.iter().all(|(good, _)| *good)
    }
}

impl<'a> Story<'a> {
    pub(super) const fn on(screen: &'a Screen) -> Self {
        Self {
            screen,
            told: 0,
            failed: 0,
        }
    }

    pub(super) fn heading(&self, text: &str) {
        let line = Line::default().and(Style::Bold, "pillion demo:");
        self.screen
            .tell(&line.and(Style::Plain, format!(" {text}")));
    }

    /// What the next steps are about.
    pub(super) fn chapter(&self, name: &str, about: &str) {
        self.screen.tell(&Line::default());
        let line = Line::default().and(Style::Bold, format!("{name}:"));
        self.screen
            .tell(&line.and(Style::Plain, format!(" {about}")));
    }

    pub(super) fn line(&self, text: &str) {
        self.screen.tell(&Line::of(&format!("  {text}")));
    }

    pub(super) fn command(&self, text: &str) {
        self.screen.tell(&Line::of(&format!("  $ {text}")));
    }

    /// One step: what the app or the world did, and what was seen.
    pub(super) fn step(&mut self, title: &str, facts: &Facts) {
        self.told += 1;
        let good = facts.good();
        self.failed += usize::from(!good);
        let mark = if good {
            Line::default().and(Style::Good, "ok    ")
        } else {
            Line::default().and(Style::Bad, "FAILED")
        };
        let title = format!(" {:>2}  {title}", self.told);
        self.screen.tell(&mark.and(Style::Plain, title));
        for (good, fact) in &facts.0 {
            let (bullet, style) = if *good {
                ("-", Style::Faint)
            } else {
                ("NOT AS TOLD:", Style::Bad)
            };
            let mut lines = wrapped(&format!("{bullet} {fact}")).into_iter();
            if let Some(first) = lines.next() {
                let line = Line::of(INDENT).and(style, bullet);
                let fact = first.strip_prefix(bullet).unwrap_or_default();
                self.screen.tell(&line.and_words(fact));
            }
            for line in lines {
                self.screen.tell(&Line::of(INDENT).and_words(&line));
            }
        }
    }

    /// Whether nothing has been told.
    pub(super) const fn is_new(&self) -> bool {
        self.told == 0
    }

    /// Sums up. True if there was something to tell and all of it went as told.
    pub(super) fn end(&self) -> bool {
        let Self { told, failed, .. } = self;
        if *told == 0 {
            self.line(
                "nothing to show: no route of this file goes to a system that has a stand-in here",
            );
        } else if *failed == 0 {
            self.screen
                .tell(&Line::of(&format!("{told} steps, all as told")));
        } else {
            self.screen.tell(&Line::of(&format!(
                "{told} steps, {failed} of them NOT as told"
            )));
        }
        *told > 0 && *failed == 0
    }
}

/// Lines that a terminal of 80 columns shows whole; what does not fit goes under the first word of the fact.
fn wrapped(fact: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in fact.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if INDENT.len() + line.len() + 1 + word.len() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

const COLUMNS: usize = 80;
/// Up to where the titles begin.
const INDENT: &str = "           ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_fact_makes_the_step_wrong() {
        let mut facts = Facts::default();
        facts.is("the app saw", 200, 200);
        assert!(facts.good());
        facts.is("the app saw", 401, 200);
        assert!(!facts.good());
        assert_eq!(facts.0[1].1, "the app saw 401, not 200");
    }

    #[test]
    fn a_long_fact_goes_on_in_the_next_line() {
        let fact = format!("- {}", "four ".repeat(20).trim_end());
        let lines = wrapped(&fact);
        assert_eq!(lines.len(), 2);
        assert!(
            lines
                .iter()
                .all(|line| line.len() <= COLUMNS - INDENT.len())
        );
        assert!(lines[1].starts_with("  four"));
        assert_eq!(wrapped("- short"), ["- short"]);
    }

    #[test]
    fn nothing_told_is_not_a_success() {
        let screen = Screen::of_stdout();
        assert!(!Story::on(&screen).end());
    }
}
