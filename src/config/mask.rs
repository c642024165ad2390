//! The text of the file as a diagnostic may show it: what has not been read as public is `*`.
//!
//! A configuration file holds references to secrets, but a person who makes a mistake may have put the secret itself
//! there, anywhere. So nothing is shown because it looks harmless, only because it is known to be: keys, heads of tables,
//! punctuation, and the values that the reader has recognised at a key whose value is public. Comments are left out.

use std::ops::Range;

/// What there is of the text's grammar to rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Syntax {
    /// It is TOML, so that strings, comments and keys can be told apart.
    Sound,
    /// It is not: a line is shown up to its first `=`, if what is there can only be a key.
    Broken,
}

/// The text, one `*` for each hidden character, with the places that move because of it.
pub(super) struct Masked {
    pub(super) text: String,
    /// For each character that is not shown: where it ends, and how many bytes have been lost up to there.
    shifts: Vec<(usize, usize)>,
}

impl Masked {
    /// `shown` are the places that have been read as public.
    pub(super) fn new(source: &str, syntax: Syntax, shown: &[Range<usize>]) -> Self {
        let mut looks = vec![Look::Hidden; source.len()];
        match syntax {
            Syntax::Sound => {
                keys_and_punctuation(source, &mut looks);
                for range in shown {
                    paint(&mut looks, range.clone(), Look::Shown);
                }
            }
            Syntax::Broken => beginnings_of_lines(source, &mut looks),
        }
        let mut text = String::with_capacity(source.len());
        let mut shifts = Vec::new();
        let mut lost = 0;
        for (at, character) in source.char_indices() {
            let look = looks.get(at).copied().unwrap_or(Look::Hidden);
            let length = character.len_utf8();
            lost += match look {
                Look::Left => length,
                Look::Hidden if !character.is_whitespace() => {
                    text.push('*');
                    length - 1
                }
                Look::Hidden | Look::Shown => {
                    text.push(character);
                    continue;
                }
            };
            shifts.push((at + length, lost));
        }
        Self { text, shifts }
    }

    /// A place in the source as a place in the masked text: of one line, and of one character at least where there is one.
    pub(super) fn span(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.offset(span.start);
        let end = self.offset(span.end).max(start);
        let line = self
            .text
            .get(start..end)
            .and_then(|text| text.split('\n').next());
        let end = line.map_or(end, |line| start + line.trim_end_matches('\r').len());
        start..end
    }

    fn offset(&self, at: usize) -> usize {
        let before = self.shifts.partition_point(|(end, _)| *end <= at);
        let lost = before.checked_sub(1).and_then(|last| self.shifts.get(last));
        at.saturating_sub(lost.map_or(0, |(_, lost)| *lost))
            .min(self.text.len())
    }
}

/// How a byte of the source looks.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Look {
    Hidden,
    Shown,
    /// Left out altogether, because nothing that follows on its line could move.
    Left,
}

fn paint(looks: &mut [Look], range: Range<usize>, look: Look) {
    if let Some(range) = looks.get_mut(range) {
        range.fill(look);
    }
}

/// A piece of sound TOML.
struct Token {
    kind: Kind,
    span: Range<usize>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    String { delimiter: usize },
    Bare,
    Comment,
    Newline,
    Punctuation(u8),
}

fn keys_and_punctuation(source: &str, looks: &mut [Look]) {
    let tokens = tokens(source);
    let mut depth = 0_usize;
    let mut in_head = false;
    let mut line_start = true;
    for (index, token) in tokens.iter().enumerate() {
        let is_key = in_head || leads_to_equals(tokens.get(index..).unwrap_or_default());
        let Range { start, end } = token.span;
        match token.kind {
            Kind::String { .. } | Kind::Bare if is_key => {
                paint(looks, start..end, Look::Shown);
            }
            Kind::String { delimiter } => {
                paint(looks, start..start + delimiter, Look::Shown);
                paint(looks, end - delimiter..end, Look::Shown);
            }
            Kind::Comment => {
                paint(looks, start..start + 1, Look::Shown);
                paint(looks, start + 1..end, Look::Left);
            }
            Kind::Bare => {}
            Kind::Newline => in_head = false,
            Kind::Punctuation(byte) => {
                paint(looks, start..end, Look::Shown);
                match byte {
                    b'[' if depth == 0 && line_start => in_head = true,
                    b'[' | b'{' if !in_head => depth += 1,
                    b']' | b'}' if !in_head => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        line_start = token.kind == Kind::Newline;
    }
}

/// Whether this is a key: what follows, beyond the rest of a dotted key, is `=`.
fn leads_to_equals(tokens: &[Token]) -> bool {
    for token in tokens {
        match token.kind {
            Kind::String { .. } | Kind::Bare | Kind::Punctuation(b'.') => {}
            Kind::Punctuation(byte) => return byte == b'=',
            Kind::Comment | Kind::Newline => return false,
        }
    }
    false
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some((rest, first)) = source
        .get(at..)
        .and_then(|rest| Some((rest, rest.chars().next()?)))
    {
        let (kind, length) = match first {
            '\n' => (Kind::Newline, 1),
            '#' => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            '"' | '\'' => string(rest, first),
            '[' | ']' | '{' | '}' | '=' | ',' | '.' => (Kind::Punctuation(first as u8), 1),
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            _ => {
                let end = |c: char| c.is_whitespace() || "[]{}=,.#\"'".contains(c);
                (Kind::Bare, rest.find(end).unwrap_or(rest.len()))
            }
        };
        tokens.push(Token {
            kind,
            span: at..at + length,
        });
        at += length;
    }
    tokens
}

/// The string at the beginning of `rest`, and its length.
fn string(rest: &str, quote: char) -> (Kind, usize) {
    let delimiter = if rest.starts_with(&String::from_iter([quote; 3])) {
        3
    } else {
        1
    };
    let closing = String::from_iter(std::iter::repeat_n(quote, delimiter));
    let mut at = delimiter;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if quote == '"' && tail.starts_with('\\') {
            at += 1 + tail.chars().nth(1).map_or(0, char::len_utf8);
        } else if tail.starts_with(&closing) {
            at += delimiter;
            // Up to two further quotes belong to the content of a multi-line string.
            while delimiter == 3 && rest.get(at..).is_some_and(|tail| tail.starts_with(quote)) {
                at += 1;
            }
            return (Kind::String { delimiter }, at);
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    // Not closed: not sound after all, so that nothing of it is shown.
    (Kind::Comment, rest.len())
}

/// The tables of the file; only their heads are shown where the syntax is broken.
const TABLES: [&str; 7] = [
    "listen", "admin", "limits", "log", "provider", "route", "resolve",
];

fn beginnings_of_lines(source: &str, looks: &mut [Look]) {
    // Where a string may go over lines, a line's beginning may be its content.
    if source.contains("\"\"\"") || source.contains("'''") {
        return;
    }
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let shown = if is_head(line.trim()) {
            line.len()
        } else {
            key_length(line)
        };
        paint(looks, start..start + shown, Look::Shown);
        start += line.len();
    }
}

fn is_head(line: &str) -> bool {
    let Some(inside) = line.strip_prefix('[') else {
        return false;
    };
    let inside = inside.trim_start_matches('[').trim_end_matches(']');
    let mut names = inside.split('.');
    names.next().is_some_and(|name| TABLES.contains(&name))
        && names.all(|name| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        })
}

/// How much of the line is a key and the `=` behind it; nothing if that is not certain.
fn key_length(line: &str) -> usize {
    let Some((key, value)) = line.split_once('=') else {
        return 0;
    };
    let plain = |c: char| c.is_ascii_lowercase() || "_-.".contains(c);
    let is_key = (1..=32).contains(&key.trim().len()) && key.trim().chars().all(plain);
    // Text in Base64 may end in `=`, and has no space before it.
    let is_text = !key.ends_with(' ') && (value.trim().is_empty() || value.starts_with('='));
    if is_key && !is_text { key.len() + 1 } else { 0 }
}
