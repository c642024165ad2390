//! `expiry`: the places where a lifetime may be stated, in their order.

use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::names::{name, no_input};
use super::network::header_name;
use super::pointer::pointer;
use super::reader::{Table, Value, wrong_type};
use super::unit::some_time;
use super::value::{boolean, choice, hidden_string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::provider::expiry::Unit;
use crate::provider::pointer::Pointer;

/// One place where a lifetime may be stated.
#[derive(Clone, Debug)]
pub enum ExpiryFile {
    /// `{ json = "/pointer", unit = "s" }`
    Json(Pointer, Unit),
    /// `{ header = "X-Expires", unit = "s" }`
    Header(HeaderName, Unit),
    /// `{ jwt = true, strip_prefix = "_" }`
    Jwt(Option<String>),
    /// `{ input = "minutes", unit = "min" }`
    Input(Spanned<String>, Unit),
    /// `{ after = "10m" }`
    After(Duration),
}

/// A list of places.
pub(super) fn expiry(value: &Value<'_>, report: &mut Report) -> Option<Vec<ExpiryFile>> {
    let DeValue::Array(array) = value.get_ref() else {
        wrong_type(value, "a list like [ { after = \"10m\" } ]", report);
        return None;
    };
    let mut places: Vec<ExpiryFile> = Vec::new();
    for element in array.iter() {
        if let Some(ExpiryFile::After(_)) = places.last() {
            report.push(
                Diagnostic::error("nothing comes after `after`", element.span())
                    .hint("leave it out: `after` always applies"),
            );
            break;
        }
        places.extend(place(element, report));
    }
    Some(places)
}

/// A mistake for every input that one of these places names and nobody declares.
pub(super) fn unknown_inputs<'a>(
    places: impl IntoIterator<Item = &'a ExpiryFile>,
    inputs: &[&str],
) -> Vec<Diagnostic> {
    let named = places.into_iter().filter_map(|place| match place {
        ExpiryFile::Input(name, _) => Some(name),
        ExpiryFile::Json(..)
        | ExpiryFile::Header(..)
        | ExpiryFile::Jwt(_)
        | ExpiryFile::After(_) => None,
    });
    named
        .filter(|name| !inputs.contains(&name.value.as_str()))
        .map(|name| no_input(name, inputs))
        .collect()
}

/// Where a lifetime can be.
const PLACES: [&str; 5] = ["json", "header", "jwt", "input", "after"];

fn place(value: &Value<'_>, report: &mut Report) -> Option<ExpiryFile> {
    let mut table = Table::of(value, report)?;
    let present: Vec<_> = PLACES.into_iter().filter(|key| table.has(key)).collect();
    for key in PLACES {
        table.know(key);
    }
    let place = match present.as_slice() {
        ["json"] => {
            let place = table.read("json", report, pointer);
            let unit = unit(&mut table, report);
            Some((place?.value, unit?)).map(|(place, unit)| ExpiryFile::Json(place, unit))
        }
        ["header"] => {
            let place = table.read("header", report, header_name);
            let unit = unit(&mut table, report);
            Some((place?.value, unit?)).map(|(place, unit)| ExpiryFile::Header(place, unit))
        }
        ["input"] => {
            let place = table.read("input", report, name);
            let unit = unit(&mut table, report);
            Some((place?, unit?)).map(|(place, unit)| ExpiryFile::Input(place, unit))
        }
        ["jwt"] => {
            let on = table.read("jwt", report, boolean);
            let prefix = table.read("strip_prefix", report, |value, report| {
                hidden_string(value, "a string", report).map(str::to_owned)
            });
            if let Some(Spanned { value: false, span }) = &on {
                report.push(
                    Diagnostic::error("this says nothing", span.clone())
                        .hint("write `jwt = true`, or leave the entry out"),
                );
            }
            on.map(|_| ExpiryFile::Jwt(prefix.map(|it| it.value)))
        }
        ["after"] => {
            let after = table.read("after", report, some_time);
            after.map(|after| ExpiryFile::After(after.value))
        }
        [] => {
            if table.finish(report) {
                return None;
            }
            report.push(
                Diagnostic::error("this says nothing", value.span())
                    .hint("write one of `json`, `header`, `jwt`, `input` or `after`"),
            );
            return None;
        }
        _ => {
            report.push(
                Diagnostic::error("one entry is one place", value.span())
                    .hint("write an entry for each, in the order in which they are tried"),
            );
            return None;
        }
    };
    table.finish(report);
    place
}

fn unit(table: &mut Table<'_>, report: &mut Report) -> Option<Unit> {
    if !table.has("unit") {
        table.know("unit");
        return Some(Unit::Seconds);
    }
    let choices = [
        ("s", Unit::Seconds),
        ("min", Unit::Minutes),
        ("ms", Unit::Milliseconds),
        ("epoch", Unit::Epoch),
        ("epoch_ms", Unit::EpochMilliseconds),
        ("rfc3339", Unit::Rfc3339),
    ];
    let unit = table.read("unit", report, |value, report| {
        choice(value, &choices, report)
    });
    unit.map(|unit| unit.value)
}
