//! Mistakes in a configuration file, told to the person who wrote it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};

use super::mask::{Masked, Syntax};

/// Everything there is to say about one file: mistakes, and warnings that keep nobody from running.
///
/// It never shows the text of a value that could be a secret: see [`super::mask`].
#[derive(Clone)]
pub struct Report {
    label: String,
    source: String,
    syntax: Syntax,
    shown: Vec<Range<usize>>,
    diagnostics: Vec<Diagnostic>,
}

/// One mistake or one warning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    span: Range<usize>,
    label: Option<String>,
    also: Vec<(Range<usize>, String)>,
    hints: Vec<String>,
    notes: Vec<String>,
}

/// Whether the program can run with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl Report {
    /// A report about `source` with nothing in it. `label` is what the file is called in the output.
    #[must_use]
    pub fn new(label: &str, source: &str) -> Self {
        Self {
            label: label.to_owned(),
            source: source.to_owned(),
            syntax: Syntax::Sound,
            shown: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The text that the places are in. Not for showing.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// This place has been read as something public: a diagnostic may show it.
    pub(super) fn show(&mut self, span: Range<usize>) {
        self.shown.push(span);
    }

    /// The text is not TOML, and nothing in it can be told apart.
    pub(super) fn syntax_is_broken(&mut self) {
        self.syntax = Syntax::Broken;
    }

    /// How many mistakes and warnings there are up to now.
    pub(super) fn count(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether something in it keeps the file from being used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }
}

/// A diagnostic for a program to read. It shows nothing of the file but places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// Whether the program can run with it.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What is said beside the place.
    pub label: Option<String>,
    /// What to type instead.
    pub hints: Vec<String>,
    /// Why it is so.
    pub notes: Vec<String>,
    /// Other places that matter, and why.
    pub also: Vec<(Place, String)>,
}

/// A part of the file. Lines and columns count from 1, columns in characters; the end is not part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Where it begins: line and column.
    pub start: (usize, usize),
    /// Where it ends.
    pub end: (usize, usize),
}

impl Report {
    /// All there is, in the file's order.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let remarks = self.in_order().into_iter().map(|it| Remark {
            severity: it.severity,
            message: it.message.clone(),
            place: self.place(&it.span),
            label: it.label.clone(),
            hints: it.hints.clone(),
            notes: it.notes.clone(),
            also: it
                .also
                .iter()
                .map(|(span, label)| (self.place(span), label.clone()))
                .collect(),
        });
        remarks.collect()
    }

    fn in_order(&self) -> Vec<&Diagnostic> {
        let mut diagnostics: Vec<_> = self.diagnostics.iter().collect();
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        diagnostics
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place {
            start: self.position(span.start),
            end: self.position(span.end),
        }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        // What is missing at the end is missing on the last line, not on the one after.
        let text = self.source.trim_end_matches(['\r', '\n']);
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

/// Rendering.
impl Report {
    /// The report without colours.
    #[must_use]
    pub fn to_plain(&self) -> String {
        self.render(&Renderer::plain())
    }

    /// The report for a terminal.
    #[must_use]
    pub fn to_coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        if self.is_empty() {
            return String::new();
        }
        let masked = Masked::new(&self.source, self.syntax, &self.shown);
        let mut text = String::new();
        for diagnostic in self.in_order() {
            text.push_str(&renderer.render(&[diagnostic.group(&self.label, &masked)]));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// How many there are, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |severity| {
            let with = |diagnostic: &&Diagnostic| diagnostic.severity == severity;
            self.diagnostics.iter().filter(with).count()
        };
        let counts: Vec<_> = [
            (count(Severity::Error), "mistake"),
            (count(Severity::Warning), "warning"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }))
        .collect();
        format!("{}: {}", self.label, counts.join(", "))
    }
}

impl fmt::Debug for Report {
    /// Without the source, which may hold what must not be seen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("label", &self.label)
            .field("diagnostics", &self.diagnostics)
            .finish_non_exhaustive()
    }
}

impl Diagnostic {
    /// A mistake at a place.
    #[must_use]
    pub fn error(message: impl Into<String>, span: Range<usize>) -> Self {
        Self::at(Severity::Error, message.into(), span)
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(message: impl Into<String>, span: Range<usize>) -> Self {
        Self::at(Severity::Warning, message.into(), span)
    }

    fn at(severity: Severity, message: String, span: Range<usize>) -> Self {
        Self {
            severity,
            message,
            span,
            label: None,
            also: Vec::new(),
            hints: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Says something beside the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at a second place, and says why.
    #[must_use]
    pub fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    /// What to type instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Why it is so.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn group<'a>(&'a self, label: &'a str, masked: &'a Masked) -> Group<'a> {
        let primary = AnnotationKind::Primary
            .span(masked.span(&self.span))
            .label(self.label.as_deref());
        let also = self.also.iter().map(|(span, label)| {
            AnnotationKind::Context
                .span(masked.span(span))
                .label(label.as_str())
        });
        let snippet = Snippet::source(masked.text.as_str())
            .path(label)
            .annotation(primary)
            .annotations(also);
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let helps = self.hints.iter().map(|hint| (Level::HELP, hint));
        let notes = self.notes.iter().map(|note| (Level::NOTE, note));
        level
            .primary_title(self.message.as_str())
            .element(snippet)
            .elements(
                helps
                    .chain(notes)
                    .map(|(level, text)| level.message(normalize_untrusted_str(text))),
            )
    }
}
