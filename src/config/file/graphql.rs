//! `type = "graphql"`: one operation; the rest is an exchange as any other.

use http::Method;

use super::http::{HttpFile, exchange};
use super::json::json;
use super::reader::{Table, Value};
use super::request::{BodyFile, RequestFile, Stage, headers, url};
use super::value::{hidden_string, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::json::Json;
use crate::provider::template::Template;

pub(super) fn graphql(mut table: Table<'_>, report: &mut Report) -> Option<HttpFile> {
    let stage = Stage::First;
    let example = "url = \"https://api.example.com/graphql\"";
    let url = table.require("url", example, report, |value, report| {
        url(value, stage, report)
    });
    let headers = table.read("headers", report, |value, report| {
        headers(value, stage, report)
    });
    let example = "query = \"mutation($id: ID!) { ... }\"";
    let query = table.require("query", example, report, query);
    let variables = table.read("variables", report, |value, report| {
        Table::of(value, report)?;
        json(value, &stage.verdict(), report)
    });
    let operation = table.read("operation_name", report, |value, report| {
        string(value, "a name", report).map(str::to_owned)
    });
    for key in ["json", "form", "method"] {
        table.refuse(key, report, |span| {
            Diagnostic::error("a GraphQL request is made of `query` and `variables`", span)
                .hint("leave it out, or write `type = \"http\"`")
        });
    }
    let mut members = Vec::new();
    if let Some(query) = query {
        members.push(("query".to_owned(), Json::Plain(query.value.into())));
    }
    if let Some(variables) = variables {
        members.push(("variables".to_owned(), variables.value));
    }
    if let Some(name) = operation {
        members.push(("operationName".to_owned(), Json::Plain(name.value.into())));
    }
    let request = RequestFile {
        method: Method::POST,
        url: url.map(|url| url.value),
        headers: value_or(headers, Vec::new()),
        query: Vec::new(),
        body: BodyFile::Json(Json::<Spanned<Template>>::Object(members)),
    };
    exchange(table, request, report)
}

/// The text of an operation: no template, because values belong in its variables.
fn query(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = hidden_string(value, "the text of an operation", report)?;
    let placeholders = ["{input.", "{secret.", "{parent"];
    if placeholders.iter().any(|start| text.contains(start)) {
        report.push(
            Diagnostic::error("an operation has no placeholders", value.span())
                .hint("declare a variable in the operation, and give it a value in `variables`"),
        );
        return None;
    }
    Some(text.to_owned())
}
