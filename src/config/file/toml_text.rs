//! The text as a TOML tree, and mistakes of syntax in our words.
//!
//! The parser's own messages are not shown: they may quote what they have found.

use toml::de::DeTable;

use crate::config::report::{Diagnostic, Report};

/// The tree, unless there is none to rely on.
pub(super) fn parse<'a>(text: &'a str, report: &mut Report) -> Option<toml::Spanned<DeTable<'a>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let is_duplicate = |error: &toml::de::Error| error.message() == "duplicate key";
    let sound = errors.iter().all(is_duplicate);
    if !sound {
        report.syntax_is_broken();
    }
    let mut last_line = None;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        // What follows the first mistake of a line is mostly a consequence of it.
        let line = text
            .get(..span.start)
            .map(|before| before.matches('\n').count());
        if line == last_line {
            continue;
        }
        last_line = line;
        let (message, hint) = in_our_words(error.message());
        let diagnostic = Diagnostic::error(message, span);
        report.push(match hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
    }
    sound.then_some(tree)
}

/// What the parser says, said by us: it depends on none of the text.
fn in_our_words(message: &str) -> (&'static str, Option<&'static str>) {
    let about = |what: &str| message.contains(what);
    if about("duplicate key") {
        (
            "this key is here for the second time",
            Some("keep one of them"),
        )
    } else if about("string values must be quoted") || about("invalid value") {
        ("this is not a value", Some("a string is written in quotes"))
    } else if about("missing value") || about("key with no value") {
        ("there is no value here", Some("write `key = value`"))
    } else if about("opening quote")
        || about("closing quote")
        || about("invalid basic string")
        || about("invalid literal string")
    {
        (
            "this string does not end",
            Some("close it with the quote that it begins with, on the same line"),
        )
    } else if about("missing escaped value") || about("unicode value") {
        (
            "this escape has no meaning",
            Some("write a backslash as `\\\\`, or the string in single quotes"),
        )
    } else if about("missing comma") {
        ("a comma is missing here", None)
    } else if about("extra comma") {
        ("a comma too many", None)
    } else if about("unclosed table") || about("unclosed array table") {
        (
            "the head of this table does not end",
            Some("close it with `]`, or `]]` for a list"),
        )
    } else if about("unclosed array") {
        ("this list does not end", Some("close it with `]`"))
    } else if about("unclosed inline table") {
        ("this table does not end", Some("close it with `}`"))
    } else if about("missing assignment") {
        ("a key has no value", Some("write `key = value`"))
    } else if about("dotted key") {
        (
            "this key is not a table",
            Some("it already has a value of its own"),
        )
    } else {
        (
            "this is not TOML",
            Some("write `key = value`, `[table]` or `# comment`"),
        )
    }
}
