//! `unauthorized = [ { status = 401 }, .. ]`: which answers say that the token is no good.

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value as Json;
use toml::de::DeValue;

use super::fields::pointer;
use super::network::header_name;
use super::reader::{Table, Value, wrong_type};
use super::value::{choice, hidden_string, integer, is_not_empty, list, one_or_list};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::Spanned;
use crate::provider::pointer::Pointer;
use crate::proxy::verdict::Renew;

/// One rule.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// The answer's status; 200 where it is a call of gRPC.
    pub status: Spanned<StatusCode>,
    /// What else must be so.
    pub condition: ConditionFile,
    /// Which token is renewed; where it is said.
    pub renew: Option<Spanned<Renew>>,
}

/// What a rule wants besides the status.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionFile {
    /// Nothing.
    None,
    /// `header = "X-Auth", equals = [..]`
    Header(HeaderName, Vec<HeaderValue>),
    /// `json = "/errors/*/code", equals = [..]`
    Json(Pointer, Vec<Json>),
    /// `grpc_status = 16`
    GrpcStatus(u16),
}

pub(super) fn unauthorized(
    value: &Value<'_>,
    report: &mut Report,
) -> Option<Vec<Spanned<RuleFile>>> {
    let rules = list(value, "a list like [ { status = 401 } ]", report, rule)?;
    for (index, rule) in rules.iter().enumerate() {
        let earlier = rules.get(..index).unwrap_or_default();
        if let Some(taker) = earlier.iter().find(|earlier| takes_all_of(earlier, rule)) {
            report.push(
                Diagnostic::error("this rule can never match", rule.span.clone())
                    .also(taker.span.clone(), "this one matches first")
                    .hint("put the more specific rule first: the first match wins"),
            );
        }
    }
    Some(rules)
}

fn takes_all_of(earlier: &RuleFile, rule: &RuleFile) -> bool {
    let takes = earlier.condition == ConditionFile::None || earlier.condition == rule.condition;
    earlier.status.value == rule.status.value && takes
}

fn rule(value: &Value<'_>, report: &mut Report) -> Option<RuleFile> {
    let mut table = Table::of(value, report)?;
    if table.has("grpc_status") {
        return call_rule(table, report);
    }
    table.take("grpc_status");
    let rule_status = table.require("status", "status = 401", report, status);
    let rule_condition = condition(&mut table, report);
    let renew = table.read("renew", report, renew);
    table.finish(report);
    Some(RuleFile {
        status: rule_status?,
        condition: rule_condition?,
        renew,
    })
}

/// `{ grpc_status = 16 }`: every call of gRPC is a 200, and says otherwise how it ended.
fn call_rule(mut table: Table<'_>, report: &mut Report) -> Option<RuleFile> {
    let code = table.read("grpc_status", report, grpc_status);
    for key in ["status", "json", "header", "equals"] {
        table.refuse(key, report, |span| {
            Diagnostic::error(format!("`{key}` says nothing about a call of gRPC"), span)
                .hint("leave it out, or write two rules")
        });
    }
    let renew = table.read("renew", report, renew);
    table.finish(report);
    let code = code?;
    Some(RuleFile {
        status: Spanned::new(StatusCode::OK, code.span),
        condition: ConditionFile::GrpcStatus(code.value),
        renew,
    })
}

fn grpc_status(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    let number = integer(value, "a status code of gRPC like 16", report)?;
    let code = u16::try_from(number).ok();
    let code = code.filter(|code| (1..=16).contains(code));
    if code.is_none() {
        report.push(
            Diagnostic::error("no call of gRPC is refused with this", value.span())
                .hint("write a number from 1 to 16; 16 is UNAUTHENTICATED"),
        );
    }
    code
}

fn renew(value: &Value<'_>, report: &mut Report) -> Option<Renew> {
    let choices = [("self", Renew::Own), ("parent", Renew::Parent)];
    choice(value, &choices, report)
}

fn status(value: &Value<'_>, report: &mut Report) -> Option<StatusCode> {
    let number = integer(value, "a status like 401", report)?;
    if number == 407 {
        report.push(
            Diagnostic::error("a 407 is not about the token", value.span())
                .hint("leave the rule out: a proxy on the way wants credentials of its own"),
        );
        return None;
    }
    let code = u16::try_from(number).ok();
    let code = code.filter(|code| (200..600).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    if status.is_none() {
        report.push(
            Diagnostic::error("no answer has this status", value.span())
                .hint("write a number from 200 to 599"),
        );
    }
    status
}

fn condition(table: &mut Table<'_>, report: &mut Report) -> Option<ConditionFile> {
    let example = "equals = [\"VALUE\"]";
    if table.has("json") && table.has("header") {
        table.take("json");
        table.take("equals");
        table.refuse("header", report, |span| {
            Diagnostic::error("a rule looks at the body or at a header", span)
                .hint("write two rules")
        });
        return None;
    }
    if table.has("json") {
        let place = table.read("json", report, pointer);
        table.take("header");
        let equals = table.require("equals", example, report, |value, report| {
            equals(value, report, json)
        });
        return Some(ConditionFile::Json(place?.value, equals?.value));
    }
    table.take("json");
    if table.has("header") {
        let name = table.read("header", report, header_name);
        let equals = table.require("equals", example, report, |value, report| {
            equals(value, report, header_value)
        });
        return Some(ConditionFile::Header(name?.value, equals?.value));
    }
    table.take("header");
    let before = report.count();
    table.refuse("equals", report, |span| {
        Diagnostic::error("nothing is compared here", span)
            .hint("add `json = \"/errors/*/code\"` or `header = \"X-Auth\"`: where the value is")
    });
    (report.count() == before).then_some(ConditionFile::None)
}

/// One of these values.
fn equals<'a, T>(
    value: &'a Value<'a>,
    report: &mut Report,
    read: impl FnMut(&'a Value<'a>, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    let hint = "write the values that say so";
    is_not_empty(value, "this rule would match no answer", hint, report)?;
    let before = report.count();
    let values = one_or_list(value, report, read)?;
    (report.count() == before).then(|| values.into_iter().map(|value| value.value).collect())
}

fn json(value: &Value<'_>, report: &mut Report) -> Option<Json> {
    match value.get_ref() {
        DeValue::String(text) => Some(Json::from(text.as_ref())),
        DeValue::Boolean(boolean) => Some(Json::from(*boolean)),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            if number.is_none() {
                report.push(Diagnostic::error("this number is too large", value.span()));
            }
            number.map(Json::from)
        }
        _ => {
            wrong_type(value, "a string, a whole number, true or false", report);
            None
        }
    }
}

fn header_value(value: &Value<'_>, report: &mut Report) -> Option<HeaderValue> {
    let text = hidden_string(value, "a string", report)?;
    let read = HeaderValue::from_str(text).ok();
    if read.is_none() {
        report.push(
            Diagnostic::error("no header can have this value", value.span())
                .hint("write it on one line, without escapes"),
        );
    }
    read
}
