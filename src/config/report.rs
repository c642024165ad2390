//! Mistakes in a configuration file, told to the person who wrote it.

use std::ops::Range;

/// Everything there is to say about one file: mistakes, and warnings that keep nobody from running.
///
/// It never shows the text of a value that could be a secret: see [`super::mask`].
#[derive(Clone, Debug)]
pub struct Report {
    label: String,
    source: String,
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
            shown: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
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
}
