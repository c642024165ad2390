//! JSON documents written as TOML, every string of them a template.

use serde_json::Value as JsonValue;
use toml::de::DeValue;

use super::reader::{Table, Value};
use super::template::{Verdict, template};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::provider::json::Json;
use crate::provider::template::{Reference, Template};

/// A document of templates.
pub(super) fn json(
    value: &Value<'_>,
    verdict: &impl Fn(&Reference) -> Verdict,
    report: &mut Report,
) -> Option<Json<Spanned<Template>>> {
    match value.get_ref() {
        DeValue::String(_) => {
            let template = template(value, verdict, report)?;
            Some(Json::Text(Spanned::new(template, value.span())))
        }
        DeValue::Array(array) => {
            let elements: Vec<_> = array.iter().map(|it| json(it, verdict, report)).collect();
            Some(Json::List(elements.into_iter().collect::<Option<_>>()?))
        }
        DeValue::Table(_) => {
            let entries = Table::of(value, report)?.entries();
            let members: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| Some((key.value.to_owned(), json(value, verdict, report)?)))
                .collect();
            Some(Json::Object(members.into_iter().collect::<Option<_>>()?))
        }
        _ => scalar(value, report).map(Json::Plain),
    }
}

/// A number or a boolean.
pub(super) fn scalar(value: &Value<'_>, report: &mut Report) -> Option<JsonValue> {
    let read = match value.get_ref() {
        DeValue::Boolean(boolean) => Some(JsonValue::from(*boolean)),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .map(JsonValue::from),
        DeValue::Float(float) => float
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(JsonValue::from),
        _ => None,
    };
    if read.is_none() {
        report.push(
            Diagnostic::error("JSON has no such value", value.span()).hint("write it as a string"),
        );
    }
    read
}
