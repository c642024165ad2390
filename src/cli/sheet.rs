//! Text in sections: a label on the left, lines beside it, 100 columns wide at most.

use std::fmt::Write as _;

/// A text that is being written.
#[derive(Debug, Default)]
pub(super) struct Sheet(String);

impl Sheet {
    /// A line across the whole width.
    pub(super) fn heading(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push_str("\n\n");
    }

    /// A section; nothing if it has no lines.
    pub(super) fn section(&mut self, label: &str, lines: impl IntoIterator<Item = String>) {
        let mut label = label;
        for line in lines {
            for line in wrap(&line) {
                let _ = writeln!(self.0, "{}", format!("{label:LABEL$}{line}").trim_end());
                label = "";
            }
        }
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Lines of which the second parts stand below each other, where there is room.
pub(super) fn columns(rows: Vec<(String, String)>) -> Vec<String> {
    let fits = |left: usize, second: &str| left + 2 + width(second) <= WIDTH - LABEL;
    let firsts = rows
        .iter()
        .filter(|(first, second)| fits(width(first), second));
    let left = firsts.map(|(first, _)| width(first)).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (first, second) in rows {
        if width(&first) <= left && fits(left, &second) {
            lines.push(format!("{first:left$}  {second}"));
        } else {
            lines.extend([first, format!("  {second}")]);
        }
    }
    lines
}

/// A line in as many as it takes; from the second on indented. What has no space to break at stays whole.
fn wrap(line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut rest, mut indent) = (line.to_owned(), "");
    while width(&rest) + indent.len() > WIDTH - LABEL {
        let room = WIDTH - LABEL - indent.len();
        let end = rest
            .char_indices()
            .nth(room + 1)
            .map_or(rest.len(), |(at, _)| at);
        let before = rest.get(..end).and_then(|head| head.trim_end().rfind(' '));
        let Some(at) = before.filter(|at| *at > 0).or_else(|| rest.find(' ')) else {
            break;
        };
        let next = rest.split_off(at);
        lines.push(format!("{indent}{}", rest.trim_end()));
        rest = next.trim_start().to_owned();
        indent = "  ";
    }
    lines.push(format!("{indent}{rest}"));
    lines
}

fn width(text: &str) -> usize {
    text.chars().count()
}

const WIDTH: usize = 100;
const LABEL: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_sheet_unless_it_is_one_word() {
        let mut sheet = Sheet::default();
        sheet.section(
            "words",
            ["word ".repeat(60).trim().to_owned(), "w".repeat(120)],
        );
        let text = sheet.into_text();
        let widths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(widths, [99, 96, 96, 51, 130], "{text}");
    }

    #[test]
    fn second_parts_stand_below_each_other() {
        let row = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        let long = "w".repeat(85);
        let rows = vec![row("a", "b"), row("ccc", "d"), row(&long, "below it")];
        assert_eq!(columns(rows), ["a    b", "ccc  d", &long, "  below it"]);
    }
}
