//! Templates of the file, with the place of every placeholder in them.

use std::ops::Range;

use super::reader::Value;
use super::value::{hidden_string, part_of_string, plain_content};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::config::suggest::did_you_mean;
use crate::provider::template::{Reference, Template};

/// Whether a placeholder can stand at a place.
pub(super) enum Verdict {
    Fine,
    /// It cannot; what can.
    Wrong(&'static str),
}

/// Reads a template, and holds its placeholders against what can stand here.
pub(super) fn template(
    value: &Value<'_>,
    verdict: impl Fn(&Reference) -> Verdict,
    report: &mut Report,
) -> Option<Template> {
    let text = hidden_string(value, "a string", report)?;
    show_what_is_public(text, value.span(), report);
    if text.chars().any(char::is_control) {
        report.push(
            Diagnostic::error("a control character cannot be sent", value.span())
                .hint("write it on one line, without escapes"),
        );
        return None;
    }
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            let length = if error.message.starts_with("`{` without") {
                1
            } else {
                error.length
            };
            let span = part_of_string(report.source(), &value.span(), error.offset, length);
            if length == 1 {
                report.show(span.clone());
            }
            let inside = text
                .get(error.offset + 1..(error.offset + error.length).saturating_sub(1))
                .unwrap_or_default();
            // A text in braces that is nowhere near a placeholder may be anything, JSON with a secret in it for example.
            let unknown_text = error.message.starts_with("unknown") && !is_near_placeholder(inside);
            let message = if unknown_text {
                "unknown placeholder"
            } else {
                &error.message
            };
            let diagnostic = Diagnostic::error(message, span);
            report.push(match meant(inside) {
                Some(meant) if error.message.starts_with("unknown") => {
                    diagnostic.hint(format!("did you mean `{{{meant}}}`?"))
                }
                _ if unknown_text => diagnostic
                    .hint("write `{{` and `}}` for braces")
                    .note(error.hint),
                _ => diagnostic.hint(error.hint),
            });
            return None;
        }
    };
    let mut good = true;
    for (index, reference) in template.references().enumerate() {
        let place = || placeholder_span(report.source(), &value.span(), index);
        match verdict(reference) {
            Verdict::Fine => {}
            Verdict::Wrong(hint) => {
                let message = format!("`{}` has no meaning here", as_written(reference));
                let diagnostic = Diagnostic::error(message, place()).hint(hint);
                report.push(diagnostic);
                good = false;
            }
        }
    }
    good.then_some(template)
}

/// A reference as the user writes it.
pub(in crate::config) fn as_written(reference: &Reference) -> String {
    match reference {
        Reference::Token => "{token}".to_owned(),
        Reference::TokenOf(name) => format!("{{token.{name}}}"),
        Reference::Field(name) => format!("{{field.{name}}}"),
        Reference::Input(name) => format!("{{input.{name}}}"),
        Reference::Path(name) => format!("{{path.{name}}}"),
        Reference::Header(name) => format!("{{header.{name}}}"),
        Reference::Query(name) => format!("{{query.{name}}}"),
        Reference::Body(pointer) => format!("{{body.{pointer}}}"),
        Reference::Secret(name) => format!("{{secret.{name}}}"),
        Reference::Parent => "{parent}".to_owned(),
        Reference::RefreshToken => "{refresh_token}".to_owned(),
    }
}

/// The references of a template, each with its place.
pub(in crate::config) fn references<'a, 's>(
    template: &'a Spanned<Template>,
    source: &'s str,
) -> impl Iterator<Item = Spanned<&'a Reference>> + use<'a, 's> {
    template.references().enumerate().map(|(index, reference)| {
        Spanned::new(reference, placeholder_span(source, &template.span, index))
    })
}

/// The place of the placeholder with this index; of the whole string where that cannot be told.
fn placeholder_span(source: &str, span: &Range<usize>, index: usize) -> Range<usize> {
    let Some(content) = plain_content(source, span) else {
        return span.clone();
    };
    let text = source.get(content.clone()).unwrap_or_default();
    match placeholders(text).get(index) {
        Some(place) => content.start + place.start..content.start + place.end,
        None => span.clone(),
    }
}

/// Where `{...}` is in a text, braces included; `{{` and `}}` are none.
fn placeholders(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text.get(at..).and_then(|rest| rest.find(['{', '}'])) {
        let start = at + open;
        let from = text.get(start..).unwrap_or_default();
        if from.starts_with("{{") || from.starts_with("}}") {
            at = start + 2;
            continue;
        }
        let Some(length) = from.find('}').filter(|_| from.starts_with('{')) else {
            break;
        };
        at = start + length + 1;
        found.push(start..at);
    }
    found
}

/// The beginnings of a field value that say nothing about the credential behind them.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "Token "];

/// Placeholders are public, and a scheme before them; other text in a template may be a secret.
fn show_what_is_public(text: &str, span: Range<usize>, report: &mut Report) {
    let Some(content) = plain_content(report.source(), &span) else {
        return;
    };
    for scheme in SCHEMES {
        if text.starts_with(scheme) {
            report.show(content.start..content.start + scheme.len());
        }
    }
    for place in placeholders(text) {
        let inside = text.get(place.start + 1..place.end - 1).unwrap_or_default();
        if is_near_placeholder(inside) {
            report.show(content.start + place.start..content.start + place.end);
        }
    }
}

/// What a placeholder begins with.
const KINDS: [&str; 10] = [
    "token",
    "field",
    "input",
    "path",
    "header",
    "query",
    "body",
    "secret",
    "parent",
    "refresh_token",
];

fn kind(inside: &str) -> (&str, &str) {
    inside.split_at(inside.find(['.', '|']).unwrap_or(inside.len()))
}

fn is_near_placeholder(inside: &str) -> bool {
    let (kind, rest) = kind(inside);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./|().*~ ".contains(c);
    (KINDS.contains(&kind) || did_you_mean(kind, KINDS).is_some())
        && rest.len() <= 64
        && rest.chars().all(plain)
}

fn meant(inside: &str) -> Option<String> {
    let (kind, rest) = kind(inside);
    let meant = did_you_mean(kind, KINDS)?;
    (!KINDS.contains(&kind) && is_near_placeholder(inside)).then(|| format!("{meant}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_where_the_parser_finds_them() {
        for text in [
            "{token}",
            "a{token}b{input.x}",
            "{{{token}}}",
            "{{x}}{path.a}",
            "none",
        ] {
            let found: Vec<_> = placeholders(text)
                .into_iter()
                .map(|place| text[place].to_owned())
                .collect();
            let parsed = Template::parse(text).unwrap();
            let parsed: Vec<_> = parsed.references().map(as_written).collect();
            assert_eq!(found, parsed, "{text}");
        }
    }
}
