//! Where the demo is told: lines, and on a terminal a panel below them that is drawn again in place.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};

use terminal_size::{Height, Width, terminal_size_of};

use crate::cli::colour;

/// The standard output, and whoever reads it.
#[derive(Debug)]
pub(super) struct Screen {
    /// A terminal reads along, on which what is written can be written over.
    live: bool,
    coloured: bool,
    /// What stands below the last line, as it was drawn.
    panel: RefCell<Vec<String>>,
}

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    Plain,
    Bold,
    /// What is there to be looked past.
    Faint,
    Good,
    Bad,
    /// A token, in one of several colours.
    Token(u8),
}

/// A line, before it is cut to what the terminal is wide and coloured.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<(Style, String)>);

impl Screen {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line may read the environment"
    )]
    pub(super) fn of_stdout() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !is_dumb;
        Self {
            live,
            coloured: colour::is_wanted(live),
            panel: RefCell::default(),
        }
    }

    /// Whether somebody sees the panel.
    pub(super) const fn is_live(&self) -> bool {
        self.live
    }

    /// One more line, above the panel. It stays.
    pub(super) fn tell(&self, line: &Line) {
        let panel = self.panel.borrow();
        let line = line.rendered(usize::MAX, self.coloured) + "\n";
        if panel.is_empty() {
            put(&line);
        } else {
            put(&format!(
                "{}{ERASE_BELOW}{line}{}",
                back_over(&panel),
                drawn(&panel)
            ));
        }
    }

    /// The panel from now on. Nothing of it is drawn where nobody would see it in its place.
    pub(super) fn show(&self, panel: &[Line]) {
        let Some((Width(columns), Height(rows))) = terminal_size_of(std::io::stdout()) else {
            return;
        };
        if !self.live || panel.len() + 2 > usize::from(rows) {
            return;
        }
        // A line that reaches the last column may be wrapped.
        let columns = usize::from(columns.saturating_sub(1));
        let panel: Vec<String> = panel
            .iter()
            .map(|line| line.rendered(columns, self.coloured))
            .collect();
        let before = self.panel.replace(panel);
        put(&format!(
            "{}{}{ERASE_BELOW}",
            back_over(&before),
            drawn(&self.panel.borrow())
        ));
    }
}

impl Line {
    /// A line that is told as it is.
    pub(super) fn of(text: &str) -> Self {
        Self::default().and(Style::Plain, text)
    }

    pub(super) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// More of it, in which fingerprints of tokens are told apart by their colours.
    pub(super) fn and_words(mut self, text: &str) -> Self {
        for (at, word) in text.split(' ').enumerate() {
            if at > 0 {
                self.0.push((Style::Plain, " ".to_owned()));
            }
            self.0.push((style_of(word), word.to_owned()));
        }
        self
    }

    fn rendered(&self, columns: usize, coloured: bool) -> String {
        let mut text = String::new();
        let mut room = columns;
        for (style, piece) in &self.0 {
            let cut: String = piece.chars().take(room).collect();
            if cut.is_empty() {
                continue;
            }
            room -= cut.chars().count();
            match style.code().filter(|_| coloured) {
                Some(code) => text.push_str(&format!("\x1b[{code}m{cut}\x1b[0m")),
                None => text.push_str(&cut),
            }
        }
        text
    }
}

impl Style {
    /// SGR parameters (ECMA-48 §8.3.117).
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Token(number) => Some(match number % 4 {
                0 => "33",
                1 => "34",
                2 => "35",
                _ => "36",
            }),
        }
    }
}

fn style_of(word: &str) -> Style {
    let digits = word.strip_prefix('#').and_then(|rest| rest.get(..6));
    match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(fingerprint) => Style::Token(fingerprint.to_be_bytes()[3]),
        None => Style::Plain,
    }
}

/// To where the panel begins.
fn back_over(panel: &[String]) -> String {
    match panel.len() {
        0 => String::new(),
        lines => format!("\x1b[{lines}F"),
    }
}

/// Each line over what was there, so that nothing flickers.
fn drawn(panel: &[String]) -> String {
    panel
        .iter()
        .flat_map(|line| [line, ERASE_REST, "\n"])
        .collect()
}

// Whoever stops reading does not make the tour fail.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).ok();
    out.flush().ok();
}

const ERASE_REST: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_not_within_a_colour() {
        let line = Line::of("ab")
            .and(Style::Good, "cde")
            .and_words("f #0a0b0c");
        assert_eq!(line.rendered(usize::MAX, false), "abcdef #0a0b0c");
        assert_eq!(line.rendered(3, false), "abc");
        assert_eq!(line.rendered(3, true), "ab\x1b[32mc\x1b[0m");
    }
}
