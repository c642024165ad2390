//! The text as a TOML tree, and mistakes of syntax in our words.
//!
//! The parser's own messages are not shown: they may quote what they have found.

use toml::de::DeTable;

use crate::config::report::{Diagnostic, Report};

/// The tree, unless there is none to rely on.
pub(super) fn parse<'a>(text: &'a str, report: &mut Report) -> Option<toml::Spanned<DeTable<'a>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    // After a key that is there twice, everything else is still what it is.
    let sound = errors.iter().all(|error| error.message() == DUPLICATE);
    if !sound {
        report.syntax_is_broken();
    }
    let mut kept: Vec<usize> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let is_known =
            |earlier: &usize| is_consequence(*earlier, span.start, text, error.message());
        if kept.iter().any(is_known) {
            continue;
        }
        kept.push(span.start);
        let (message, hint) = in_our_words(error.message(), span.is_empty());
        report.push(Diagnostic::error(message, span).hint(hint));
    }
    sound.then_some(tree)
}

const DUPLICATE: &str = "duplicate key";

/// Whether a mistake is there because of an earlier one: on the same line, or in a table whose head is there twice.
fn is_consequence(earlier: usize, at: usize, text: &str, message: &str) -> bool {
    let between = text
        .get(earlier.min(at)..earlier.max(at))
        .unwrap_or_default();
    let before = text.get(..earlier).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let in_table = line.trim_start().starts_with('[') && earlier < at && !between.contains("\n[");
    !between.contains('\n') || (in_table && message == DUPLICATE)
}

/// What the parser says, said by us: nothing of the text is in it. `is_nothing`: it points between two characters.
fn in_our_words(message: &str, is_nothing: bool) -> (&'static str, &'static str) {
    let about = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if about(&[DUPLICATE]) {
        ("this is here for the second time", "keep one of them")
    } else if about(&["string values must be quoted"]) && is_nothing {
        ("there is no value here", "write `key = value`")
    } else if about(&["string values must be quoted"]) {
        ("this is not a value", "write a string in quotes")
    } else if about(&["invalid boolean"]) {
        (
            "this is not a value",
            "write `true` or `false` in lower case, and a string in quotes",
        )
    } else if about(&["key with no value", "missing assignment"]) {
        ("there is no `=` here", "write `key = value`")
    } else if about(&["extra `=`"]) {
        ("one `=` too many", "write `key = value`")
    } else if about(&["visible characters"]) {
        (
            "a control character in a string",
            "write it as an escape, like `\\t`",
        )
    } else if about(&[
        "multi-line basic string, expected",
        "multi-line literal string, expected",
    ]) {
        (
            "a string of several lines does not end",
            "close it with the three quotes that it begins with",
        )
    } else if about(&["basic string", "literal string"]) {
        (
            "this string does not end",
            "close it with the quote that it begins with, on the same line",
        )
    } else if about(&["escaped value", "unicode value"]) {
        (
            "this escape has no meaning",
            "write a backslash as `\\\\`, or the string in single quotes",
        )
    } else if about(&["missing comma", "extra assignment"]) {
        (
            "a comma is missing before this",
            "write a `,` between the two",
        )
    } else if about(&["extra comma"]) {
        ("one comma too many", "leave it out")
    } else if about(&["unclosed table", "unclosed array table"]) {
        (
            "the head of this table does not end",
            "close it with as many `]` as it begins with",
        )
    } else if about(&["unclosed array"]) {
        ("a list does not end", "close it with `]`")
    } else if about(&["unclosed inline table"]) {
        ("a table does not end", "close it with `}`")
    } else if about(&["keys cannot be empty"]) {
        ("a name is missing here", "write `key = value` or `[table]`")
    } else if about(&["unquoted key"]) {
        (
            "this cannot be a key",
            "a key is letters, digits, `-` and `_`; others are written in quotes",
        )
    } else if about(&["dotted key"]) {
        (
            "this is a value already, and cannot be a table too",
            "keep one of them",
        )
    } else if about(&["unexpected key or value"]) {
        (
            "the line should end here",
            "write what follows on a line of its own",
        )
    } else if about(&[
        "leading zero",
        "float",
        "integer",
        "date",
        "time",
        "digits",
        "sign",
        "radix",
    ]) {
        (
            "this is not a value",
            "write a number in digits, and a string in quotes",
        )
    } else {
        (
            "this is not TOML",
            "write `key = value`, `[table]` or `# comment`",
        )
    }
}
