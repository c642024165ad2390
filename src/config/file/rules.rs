//! `rules`: what a provider needs of its inputs beyond their type.

use serde_json::Value as JsonValue;

use super::names::name;
use super::pointer::{pointer, values};
use super::reader::{Table, Value};
use super::value::{integer, list};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::pointer::Pointer;

/// `{ input = "phones", pointer = "/*/primary", equals = true, at_most = 1 }`
#[derive(Clone, Debug)]
pub struct InputRuleFile {
    /// Which input.
    pub input: Spanned<String>,
    /// Where in it; the whole of it if left out.
    pub pointer: Pointer,
    /// What counts; everything if left out.
    pub equals: Vec<JsonValue>,
    /// How many there may be.
    pub at_most: Option<usize>,
    /// How many there must be.
    pub at_least: usize,
}

pub(super) fn rules(value: &Value<'_>, report: &mut Report) -> Option<Vec<InputRuleFile>> {
    let rules = list(value, "a list of rules", report, rule)?;
    Some(rules.into_iter().map(|rule| rule.value).collect())
}

fn rule(value: &Value<'_>, report: &mut Report) -> Option<InputRuleFile> {
    let mut table = Table::of(value, report)?;
    let input = table.require("input", "input = \"NAME\"", report, name);
    let pointer = table.read("pointer", report, pointer);
    let equals = table.read("equals", report, values);
    let number = |value: &Value<'_>, report: &mut Report| integer(value, "a number", report);
    let at_most = table.read("at_most", report, number);
    let at_least = table.read("at_least", report, number);
    let unknown = table.finish(report);
    if at_most.is_none() && at_least.is_none() {
        if !unknown {
            report.push(
                Diagnostic::error("this rule asks for nothing", value.span())
                    .hint("add `at_most = 1` or `at_least = 1`"),
            );
        }
        return None;
    }
    Some(InputRuleFile {
        input: input?,
        pointer: value_or(pointer, Pointer::default()),
        equals: value_or(equals, Vec::new()),
        at_most: at_most.map(|it| it.value),
        at_least: value_or(at_least, 0),
    })
}
