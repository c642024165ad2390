//! What is sent to a provider: method, URL, headers and content, with templates in them.

use http::header::AUTHORIZATION;
use http::{HeaderName, Method, Uri};

use super::json::json;
use super::network::{method, parse_header_name};
use super::reader::{Table, Value};
use super::route::is_framing;
use super::template::{Verdict, template};
use super::url;
use super::value::hidden_string;
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::json::Json;
use crate::provider::template::{Reference, Template};

/// A request to a provider.
#[derive(Clone, Debug)]
pub struct RequestFile {
    /// POST if left out.
    pub method: Method,
    /// Where it goes. None in a refresh that goes where the first request goes.
    pub url: Option<UrlFile>,
    /// Fields.
    pub headers: Vec<(Spanned<HeaderName>, Spanned<Template>)>,
    /// Query parameters beside those of the URL.
    pub query: Params,
    /// Content.
    pub body: BodyFile,
}

/// A URL whose path and query are a template.
#[derive(Clone, Debug)]
pub struct UrlFile {
    /// Scheme and authority; the rest of it is not looked at.
    pub origin: Spanned<Uri>,
    /// Path and query.
    pub path: Spanned<Template>,
}

/// What a request has for content.
#[derive(Clone, Debug)]
pub enum BodyFile {
    /// Nothing.
    None,
    /// `json`
    Json(Json<Spanned<Template>>),
    /// `form`
    Form(Params),
}

/// Names and templates.
pub type Params = Vec<(Spanned<String>, Spanned<Template>)>;

impl RequestFile {
    /// Every template in it.
    pub(in crate::config) fn templates(&self) -> Vec<&Spanned<Template>> {
        let path = self.url.iter().map(|url| &url.path);
        let headers = self.headers.iter().map(|(_, template)| template);
        let query = self.query.iter().map(|(_, template)| template);
        let body = match &self.body {
            BodyFile::None => Vec::new(),
            BodyFile::Json(document) => document.texts(),
            BodyFile::Form(params) => params.iter().map(|(_, template)| template).collect(),
        };
        path.chain(headers).chain(query).chain(body).collect()
    }
}

/// Which placeholders a request can have.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    First,
    Refresh,
}

impl Stage {
    pub(super) fn verdict(self) -> impl Fn(&Reference) -> Verdict {
        move |reference| match reference {
            Reference::Input(_) | Reference::Secret(_) | Reference::Parent => Verdict::Fine,
            Reference::RefreshToken => match self {
                Self::Refresh => Verdict::Fine,
                Self::First => Verdict::Wrong(
                    "there is none yet: it belongs in the table `refresh` of this provider",
                ),
            },
            _ => Verdict::Wrong(
                "a request is made of {input.NAME}, {secret.NAME}, {parent} and text",
            ),
        }
    }
}

/// Reads the keys of a request that both kinds have: `method` is the caller's business.
pub(super) fn method_key(table: &mut Table<'_>, report: &mut Report) -> Method {
    value_or(table.read("method", report, method), Method::POST)
}

/// `json` or `form`, or neither.
pub(super) fn body(table: &mut Table<'_>, stage: Stage, report: &mut Report) -> BodyFile {
    let both = table.has("json") && table.has("form");
    let document = table.read("json", report, |value, report| {
        json(value, &stage.verdict(), report)
    });
    let form = table.read("form", report, |value, report| params(value, stage, report));
    if both {
        table.refuse("form", report, |span| {
            Diagnostic::error("a request has one content", span).hint("keep `json` or `form`")
        });
    }
    match (document, form) {
        (Some(document), _) => BodyFile::Json(document.value),
        (None, Some(form)) => BodyFile::Form(form.value),
        (None, None) => BodyFile::None,
    }
}

/// Names and templates.
pub(super) fn params(value: &Value<'_>, stage: Stage, report: &mut Report) -> Option<Params> {
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        if key.value.is_empty() || key.value.chars().any(char::is_control) {
            report.push(
                Diagnostic::error("this cannot be the name of a parameter", key.span)
                    .hint("write a name like `grant_type`"),
            );
            continue;
        }
        if let Some(template) = template(value, stage.verdict(), report) {
            let key = Spanned::new(key.value.to_owned(), key.span);
            read.push((key, Spanned::new(template, value.span())));
        }
    }
    Some(read)
}

/// Fields of a request to a provider.
pub(super) fn headers(
    value: &Value<'_>,
    stage: Stage,
    report: &mut Report,
) -> Option<Vec<(Spanned<HeaderName>, Spanned<Template>)>> {
    let mut read: Vec<(Spanned<HeaderName>, Spanned<Template>)> = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let Some(name) = parse_header_name(key.value, key.span.clone(), report) else {
            continue;
        };
        let name = Spanned::new(name, key.span);
        if is_framing(&name.value) {
            report.push(
                Diagnostic::error("a provider cannot touch this header", name.span)
                    .hint("leave it out")
                    .note("it says where a message goes or where it ends"),
            );
            continue;
        }
        if let Some((first, _)) = read.iter().find(|(other, _)| other.value == name.value) {
            report.push(
                Diagnostic::error("a header is set twice", name.span)
                    .also(first.span.clone(), "the first time")
                    .note("case makes no difference"),
            );
            continue;
        }
        let Some(template) = template(value, stage.verdict(), report) else {
            continue;
        };
        if name.value == AUTHORIZATION && template.as_literal().is_some() {
            report.push(
                Diagnostic::error("a credential cannot be written here", value.span()).hint(
                    "keep it in `secrets = { key = { env = \"NAME\" } }`, and write \"Bearer {secret.key}\" here",
                ),
            );
            continue;
        }
        read.push((name, Spanned::new(template, value.span())));
    }
    Some(read)
}

/// A URL with placeholders behind its authority.
pub(super) fn url(value: &Value<'_>, stage: Stage, report: &mut Report) -> Option<UrlFile> {
    let text = hidden_string(value, "a URL", report)?;
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let rest = text.get(after_scheme..).unwrap_or_default();
    let split = rest.find(['/', '?']).map(|at| after_scheme + at);
    let (origin, path) = text.split_at(split.unwrap_or(text.len()));
    if origin.contains('{') {
        report.push(
            Diagnostic::error("the host of a URL is fixed", value.span())
                .hint("write placeholders behind the host, like \"https://api.example.com/{input.id}\"")
                .note("else a request could say where a secret goes"),
        );
        return None;
    }
    if text.contains("{{") || text.contains("}}") {
        report.push(
            Diagnostic::error("a URL has no braces of its own", value.span())
                .hint("write `%7B` and `%7D` for them"),
        );
        return None;
    }
    let template = template(value, stage.verdict(), report)?;
    // With something harmless in place of the placeholders, it has to be a URL.
    let span = value.span();
    let plain = without_placeholders(text);
    let whole = url::url(&plain, span.clone(), report)?;
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    // The whole text is a template, so its end is one.
    let path = Template::parse(&path).unwrap_or(template);
    let whole = Spanned::new(whole, span.clone());
    Some(UrlFile {
        origin: whole,
        path: Spanned::new(path, span),
    })
}

fn without_placeholders(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        plain.push('x');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}
