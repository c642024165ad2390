//! What is told, and whether it was true.

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Tells the steps of the tour as they happen, and remembers which did not go as told.
#[derive(Debug)]
pub(super) struct Story {
    /// A terminal reads along.
    watched: bool,
    coloured: bool,
    /// When the last line was told.
    last: Rc<Cell<Instant>>,
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

impl Story {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line may read the environment"
    )]
    pub(super) fn begin() -> Self {
        let watched = std::io::stdout().is_terminal();
        Self {
            watched,
            coloured: is_coloured(watched, std::env::var_os("NO_COLOR").as_deref()),
            last: Rc::new(Cell::new(Instant::now())),
            told: 0,
            failed: 0,
        }
    }

    pub(super) fn heading(&self, text: &str) {
        self.put(&format!(
            "{}pillion demo:{} {text}",
            self.style("\x1b[1m"),
            self.style(RESET)
        ));
    }

    /// What the next steps are about.
    pub(super) fn chapter(&self, name: &str, about: &str) {
        let (bold, reset) = (self.style("\x1b[1m"), self.style(RESET));
        self.put(&format!("\n{bold}{name}:{reset} {about}"));
    }

    pub(super) fn line(&self, text: &str) {
        self.put(&format!("  {text}"));
    }

    pub(super) fn command(&self, text: &str) {
        self.put(&format!("  $ {text}"));
    }

    /// One step: what the app or the world did, and what was seen.
    pub(super) fn step(&mut self, title: &str, facts: &Facts) {
        self.told += 1;
        let good = facts.good();
        self.failed += usize::from(!good);
        let mark = if good {
            format!("{}ok    {}", self.style("\x1b[32m"), self.style(RESET))
        } else {
            format!("{}FAILED{}", self.style("\x1b[31m"), self.style(RESET))
        };
        self.put(&format!("{mark} {:>2}  {title}", self.told));
        for (good, fact) in &facts.0 {
            let bullet = if *good { "-" } else { "NOT AS TOLD:" };
            for line in wrapped(&format!("{bullet} {fact}")) {
                self.put(&format!("{INDENT}{line}"));
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
            self.put(&format!("{told} steps, all as told"));
        } else {
            self.put(&format!("{told} steps, {failed} of them NOT as told"));
        }
        *told > 0 && *failed == 0
    }

    fn style(&self, code: &'static str) -> &'static str {
        if self.coloured { code } else { "" }
    }

    // Whoever stops reading does not make the tour fail.
    fn put(&self, line: &str) {
        self.last.set(Instant::now());
        let erase = if self.watched { ERASE } else { "" };
        writeln!(std::io::stdout().lock(), "{erase}{line}").ok();
    }

    /// Shows on a terminal, below the last line, for how long nothing has been told.
    pub(super) fn progress(&self) -> impl Future<Output = Infallible> + use<> {
        let (watched, last) = (self.watched, Rc::clone(&self.last));
        async move {
            loop {
                sleep(TICK).await;
                let silent = last.get().elapsed();
                if watched && silent >= TICK {
                    let mut out = std::io::stdout().lock();
                    write!(out, "{ERASE}{INDENT}... {:.1} s", silent.as_secs_f64()).ok();
                    out.flush().ok();
                }
            }
        }
    }
}

/// NO_COLOR counts if there is something in it (no-color.org).
fn is_coloured(watched: bool, no_color: Option<&OsStr>) -> bool {
    watched && no_color.is_none_or(OsStr::is_empty)
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
const RESET: &str = "\x1b[0m";
/// Back to the beginning of the line, and what is on it away.
const ERASE: &str = "\r\x1b[K";
const TICK: Duration = Duration::from_millis(200);

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
    fn colours_are_for_terminals_whose_owner_wants_them() {
        assert!(is_coloured(true, None));
        assert!(is_coloured(true, Some(OsStr::new(""))));
        assert!(!is_coloured(true, Some(OsStr::new("1"))));
        assert!(!is_coloured(false, None));
    }

    #[test]
    fn nothing_told_is_not_a_success() {
        assert!(!Story::begin().end());
    }
}
