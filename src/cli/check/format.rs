//! What `pillion check` finds, for programs.

use std::path::Path;

use clap::ValueEnum;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::config::report::{Place, Remark, Report, Severity};

/// How mistakes are told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people, on stderr.
    #[default]
    Text,
    /// One JSON document, on stdout.
    Json,
    /// SARIF 2.1.0, for code scanning, on stdout.
    Sarif,
}

impl Format {
    /// The document about the file at `path`.
    #[must_use]
    pub fn document(self, path: &Path, report: &Report) -> String {
        let remarks = report.remarks();
        let document = match self {
            Self::Text => return report.to_plain(),
            Self::Json => {
                let file = path.to_string_lossy();
                let remarks = remarks.iter().map(|remark| diagnostic(&file, remark));
                json!({ "diagnostics": remarks.collect::<Value>() })
            }
            Self::Sarif => sarif(&uri(path), &remarks),
        };
        format!("{document:#}")
    }
}

fn diagnostic(file: &str, remark: &Remark) -> Value {
    let also = remark.also.iter().map(|(place, label)| {
        let (line, column) = place.start;
        json!({ "line": line, "column": column, "label": label })
    });
    json!({
        "file": file,
        "line": remark.place.start.0,
        "column": remark.place.start.1,
        "end_line": remark.place.end.0,
        "end_column": remark.place.end.1,
        "severity": severity(remark.severity),
        "message": remark.message,
        "label": remark.label,
        "hints": remark.hints,
        "notes": remark.notes,
        "also": also.collect::<Value>(),
    })
}

/// OASIS SARIF 2.1.0 §3.13.
fn sarif(uri: &str, remarks: &[Remark]) -> Value {
    let results = remarks.iter().map(|remark| result(uri, remark));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pillion",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": [{ "id": RULE, "shortDescription": { "text": "A mistake in pillion's configuration" } }],
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Value>(),
        }],
    })
}

fn result(uri: &str, remark: &Remark) -> Value {
    let hints = remark.hints.iter().map(|hint| format!("\nhint: {hint}"));
    let notes = remark.notes.iter().map(|note| format!("\nnote: {note}"));
    let more: String = hints.chain(notes).collect();
    let also = remark.also.iter().map(|(place, label)| {
        let mut location = location(uri, *place);
        if let Some(location) = location.as_object_mut() {
            location.insert("message".to_owned(), json!({ "text": label }));
        }
        location
    });
    json!({
        "ruleId": RULE,
        "level": severity(remark.severity),
        "message": { "text": format!("{}{more}", remark.message) },
        "locations": [location(uri, remark.place)],
        "relatedLocations": also.collect::<Value>(),
    })
}

fn location(uri: &str, place: Place) -> Value {
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri },
        "region": {
            "startLine": place.start.0,
            "startColumn": place.start.1,
            "endLine": place.end.0,
            "endColumn": place.end.1,
        },
    } })
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// A relative path stays one: whoever reads the document knows where it is.
fn uri(path: &Path) -> String {
    let text = path.to_string_lossy();
    let encoded = utf8_percent_encode(&text, ENCODED).to_string();
    if path.is_absolute() {
        format!("file://{encoded}")
    } else {
        encoded
    }
}

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');
const RULE: &str = "configuration";
