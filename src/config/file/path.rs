//! The path of a route: whole segments, some of them captured.

use std::ops::Range;

use super::names::is_name;
use super::reader::Value;
use super::value::{part_of_string, string};
use crate::config::report::{Diagnostic, Report};

/// A path in whole segments; what follows it is appended to the upstream's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathPattern {
    /// None for `/`, which takes everything.
    pub segments: Vec<PathSegment>,
}

/// One segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathSegment {
    /// This text, decoded.
    Literal(String),
    /// `{name}`: any one segment that is not empty.
    Capture(String),
}

impl PathPattern {
    /// The names of the captured segments.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            PathSegment::Capture(name) => Some(name.as_str()),
            PathSegment::Literal(_) => None,
        })
    }
}

pub(super) fn path(value: &Value<'_>, report: &mut Report) -> Option<PathPattern> {
    let text = string(value, "a path", report)?;
    if text == "/" {
        return Some(PathPattern::default());
    }
    let place = |report: &Report, offset, length| {
        part_of_string(report.source(), &value.span(), offset, length)
    };
    if let Some((offset, message, hint)) = mistake_of_shape(text) {
        let length = text.get(offset..).and_then(|rest| rest.chars().next());
        let span = place(report, offset, length.map_or(0, char::len_utf8));
        report.push(Diagnostic::error(message, span).hint(hint));
        return None;
    }
    let mut segments = Vec::new();
    let mut offset = 1;
    let mut good = true;
    for text in text.split('/').skip(1) {
        let span = place(report, offset, text.len());
        match segment(text, span, &segments, report) {
            Some(segment) => segments.push(segment),
            None => good = false,
        }
        offset += text.len() + 1;
    }
    good.then_some(PathPattern { segments })
}

/// What is wrong with the path as a whole: where, what, and what to write.
fn mistake_of_shape(text: &str) -> Option<(usize, &'static str, &'static str)> {
    if !text.starts_with('/') {
        return Some((0, "a path begins with `/`", "put a `/` before it"));
    }
    let forbidden = text.find(|c: char| "?#%\\*".contains(c) || c.is_control());
    if let Some(offset) = forbidden {
        let (message, hint) = match text.get(offset..).and_then(|rest| rest.chars().next()) {
            Some('?' | '#') => (
                "the path of a route has no query",
                "end it before this: a route takes every query",
            ),
            Some('%') => (
                "the path of a route is not encoded",
                "write the character itself: requests are decoded before they are compared",
            ),
            Some('*') => (
                "there is no `*` in a path",
                "leave it out: a route takes everything below its path; one segment is `{name}`",
            ),
            _ => ("this character cannot be in a path", "leave it out"),
        };
        return Some((offset, message, hint));
    }
    text.ends_with('/').then_some((
        text.len() - 1,
        "a path does not end with `/`",
        "leave it out: a route takes the path itself and everything below it",
    ))
}

fn segment(
    text: &str,
    span: Range<usize>,
    earlier: &[PathSegment],
    report: &mut Report,
) -> Option<PathSegment> {
    let wrong = |message: &str, hint: &str| Diagnostic::error(message, span.clone()).hint(hint);
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        if !is_name(name, span.clone(), report) {
            return None;
        }
        let capture = PathSegment::Capture(name.to_owned());
        if earlier.contains(&capture) {
            report.push(wrong(
                "captured twice",
                "give every captured segment its own name",
            ));
            return None;
        }
        return Some(capture);
    }
    let diagnostic = match text {
        "" => wrong("an empty segment never matches", "write one `/`"),
        "." | ".." => wrong(
            "a dot segment never matches",
            "write the path without it: dot segments of a request are removed first",
        ),
        _ if text.contains(['{', '}']) => wrong(
            "a capture is a whole segment",
            "write it between slashes, like `/users/{user}`",
        ),
        _ => return Some(PathSegment::Literal(text.to_owned())),
    };
    report.push(diagnostic);
    None
}
