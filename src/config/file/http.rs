//! `type = "http"`: a request and an answer, all of both.

use std::time::Duration;

use http::HeaderName;
use serde_json::Value as JsonValue;
use toml::de::DeValue;

use super::egress::{EgressFile, egress_proxy};
use super::expiry::{self, ExpiryFile, expiry};
use super::names::{is_name, name, names, no_input};
use super::network::header_name;
use super::pointer::{self, pointer, values};
use super::reader::{Table, Value, wrong_type};
use super::refresh::{RefreshFile, refresh};
use super::request::{RequestFile, Stage, body, headers, method_key, params, url};
use super::rules::{InputRuleFile, rules};
use super::secret::secret;
use super::template::references;
use super::tls::{TlsFile, tls};
use super::unit::some_time;
use super::value::{boolean, count};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::config::suggest::did_you_mean;
use crate::provider::pointer::Pointer;
use crate::provider::secret::SecretRef;
use crate::provider::template::{Reference, Template};

/// `type = "http"`, and what `type = "graphql"` becomes.
#[derive(Clone, Debug)]
pub struct HttpFile {
    /// The provider whose token authenticates the request.
    pub parent: Option<Spanned<String>>,
    /// No token is used for longer than its parent's.
    pub within_parent: bool,
    /// What a route has to supply; a token per distinct value.
    pub inputs: Vec<Spanned<String>>,
    /// What is needed of them.
    pub rules: Vec<InputRuleFile>,
    /// Where secrets are, by the names that templates use.
    pub secrets: Vec<(Spanned<String>, Spanned<SecretRef>)>,
    /// What is sent for a first token.
    pub request: RequestFile,
    /// How an answer is read.
    pub reading: ReadingFile,
    /// What is sent for the next one.
    pub refresh: Option<RefreshFile>,
    /// A token is not used for longer than this, whatever the answer says.
    pub max_lifetime: Option<Duration>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long a request waits for a token.
    pub token_wait: Duration,
    /// Tokens kept, at most.
    pub max_entries: usize,
    /// How long an unused one is kept.
    pub max_idle: Duration,
    /// How to connect.
    pub tls: Option<TlsFile>,
    /// Which way, in place of the file's.
    pub egress_proxy: Option<EgressFile>,
    /// The URL may be `http://`.
    pub allow_plaintext: bool,
}

/// How an answer is read.
#[derive(Clone, Debug)]
pub struct ReadingFile {
    /// What is true of a refusal.
    pub refused: Vec<(Pointer, ExpectedFile)>,
    /// What has to be true of an answer.
    pub expect: Vec<(Pointer, ExpectedFile)>,
    /// Where the token is.
    pub token: TokenPlaceFile,
    /// Where its lifetime is.
    pub expiry: Vec<ExpiryFile>,
    /// When the next one is wanted.
    pub soft_expiry: Vec<ExpiryFile>,
    /// When it is good for one use only.
    pub single_use: SingleUseFile,
    /// Where the answer says how long to stay away.
    pub retry_after: Option<Pointer>,
    /// Where a failure is described.
    pub error: Option<Pointer>,
}

/// What a value has to be.
#[derive(Clone, Debug)]
pub enum ExpectedFile {
    /// `"/pointer" = "value"`, or `{ equals = [..] }`
    OneOf(Vec<JsonValue>),
    /// `{ exists = true }`
    Present,
    /// `{ absent = true }`
    Absent,
}

/// Where a token is.
#[derive(Clone, Debug)]
pub enum TokenPlaceFile {
    /// `"/pointer"`, or `{ json = "/pointer" }`
    Json(Pointer),
    /// `{ header = "X-Auth-Token" }`
    Header(HeaderName),
    /// `{ body = true }`
    Body,
}

/// When a token is good for one use only.
#[derive(Clone, Debug)]
pub enum SingleUseFile {
    /// Left out, or `false`.
    No,
    /// `true`
    Yes,
    /// `{ json = "/pointer", equals = "SINGLE_USE" }`
    When(Pointer, Vec<JsonValue>),
}

impl ReadingFile {
    /// A mistake for every input that one of its places names and nobody declares.
    pub(super) fn unknown_inputs(&self, inputs: &[&str]) -> Vec<Diagnostic> {
        expiry::unknown_inputs(self.expiry.iter().chain(&self.soft_expiry), inputs)
    }
}

impl HttpFile {
    /// Every request in it.
    pub fn requests(&self) -> impl Iterator<Item = &RequestFile> {
        let refresh = self.refresh.iter().map(|refresh| &refresh.request);
        std::iter::once(&self.request).chain(refresh)
    }
}

pub(super) fn http(mut table: Table<'_>, report: &mut Report) -> Option<HttpFile> {
    let stage = Stage::First;
    let method = method_key(&mut table, report);
    let example = "url = \"https://api.example.com/token\"";
    let url = table.require("url", example, report, |value, report| {
        url(value, stage, report)
    });
    let headers = table.read("headers", report, |value, report| {
        headers(value, stage, report)
    });
    let query = table.read("query", report, |value, report| {
        params(value, stage, report)
    });
    let body = body(&mut table, stage, report);
    let request = RequestFile {
        method,
        url: url.map(|url| url.value),
        headers: value_or(headers, Vec::new()),
        query: value_or(query, Vec::new()),
        body,
    };
    exchange(table, request, report)
}

/// Everything but the first request.
pub(super) fn exchange(
    mut table: Table<'_>,
    request: RequestFile,
    report: &mut Report,
) -> Option<HttpFile> {
    let parent = table.read("parent", report, name);
    let within_parent = table.read("within_parent", report, boolean);
    let inputs = table.read("inputs", report, |value, report| {
        Some(names(value, "an input", report))
    });
    let rules = table.read("rules", report, rules);
    let secrets = table.read("secrets", report, secrets);
    let reading = reading(&mut table, report);
    let refresh = table.read("refresh", report, refresh);
    let max_lifetime = table.read("max_lifetime", report, some_time);
    let timeout = table.read("timeout", report, some_time);
    let token_wait = table.read("token_wait", report, some_time);
    let max_entries = table.read("max_entries", report, count);
    let max_idle = table.read("max_idle", report, some_time);
    let tls = table.read("tls", report, tls);
    let egress_proxy = table.read("egress_proxy", report, egress_proxy);
    let allow_plaintext = table.read("allow_plaintext", report, boolean);
    table.refuse("after", report, |span| {
        Diagnostic::error("`after` is part of `expiry`", span)
            .hint("write `expiry = [ { after = \"10m\" } ]`")
    });
    if let (Some(within), None) = (&within_parent, &parent) {
        report.push(
            Diagnostic::error("there is no parent to stay within", within.span.clone())
                .hint("add `parent = \"NAME\"`, or leave it out"),
        );
    }
    table.finish(report);
    let file = HttpFile {
        parent,
        within_parent: value_or(within_parent, false),
        inputs: value_or(inputs, Vec::new()),
        rules: value_or(rules, Vec::new()),
        secrets: value_or(secrets, Vec::new()),
        request,
        reading: reading?,
        refresh: refresh.map(|it| it.value),
        max_lifetime: max_lifetime.map(|it| it.value),
        timeout: value_or(timeout, Duration::from_secs(10)),
        token_wait: value_or(token_wait, Duration::from_secs(10)),
        max_entries: value_or(max_entries, 10_000),
        max_idle: value_or(max_idle, Duration::from_hours(1)),
        tls: tls.map(|tls| tls.value),
        egress_proxy: egress_proxy.map(|it| it.value),
        allow_plaintext: value_or(allow_plaintext, false),
    };
    names_exist(&file, report);
    file.request.url.is_some().then_some(file)
}

type Secrets = Vec<(Spanned<String>, Spanned<SecretRef>)>;

fn secrets(value: &Value<'_>, report: &mut Report) -> Option<Secrets> {
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let reference = secret(value, report);
        if !is_name(key.value, key.span.clone(), report) {
            continue;
        }
        if let Some(reference) = reference {
            let key = Spanned::new(key.value.to_owned(), key.span);
            read.push((key, Spanned::new(reference, value.span())));
        }
    }
    Some(read)
}

fn reading(table: &mut Table<'_>, report: &mut Report) -> Option<ReadingFile> {
    let expect = table.read("expect", report, expect);
    let token = table.require("token", "token = \"/access_token\"", report, token_place);
    let single_use = table.read("single_use", report, single_use);
    let token_response = token_response(table, report);
    Some(ReadingFile {
        expect: value_or(expect, Vec::new()),
        token: token?.value,
        single_use: value_or(single_use, SingleUseFile::No),
        ..token_response
    })
}

/// How a token response (RFC 6749 §5.1) is read, with what the table says about it.
pub(super) fn token_response(table: &mut Table<'_>, report: &mut Report) -> ReadingFile {
    let places = table.read("expiry", report, expiry);
    let soft = table.read("soft_expiry", report, expiry);
    let refused = table.read("refused", report, expect);
    let retry_after = table.read("retry_after", report, pointer);
    let error = table.read("error", report, pointer);
    ReadingFile {
        refused: value_or(refused, Vec::new()),
        expect: Vec::new(),
        token: TokenPlaceFile::Json(Pointer::member("access_token")),
        expiry: value_or(places, Vec::new()),
        soft_expiry: value_or(soft, Vec::new()),
        single_use: SingleUseFile::No,
        retry_after: retry_after.map(|it| it.value),
        error: error.map(|it| it.value),
    }
}

fn expect(value: &Value<'_>, report: &mut Report) -> Option<Vec<(Pointer, ExpectedFile)>> {
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let pointer = pointer::parse(key.value, key.span, report);
        let expected = expected(value, report);
        read.extend(pointer.zip(expected));
    }
    Some(read)
}

fn expected(value: &Value<'_>, report: &mut Report) -> Option<ExpectedFile> {
    let DeValue::Table(_) = value.get_ref() else {
        return values(value, report).map(ExpectedFile::OneOf);
    };
    let mut table = Table::of(value, report)?;
    let equals = table.read("equals", report, values);
    let mut yes = |key| {
        let flag = table.read(key, report, boolean)?;
        if !flag.value {
            report.push(
                Diagnostic::error("this says nothing", flag.span)
                    .hint("write { exists = true } or { absent = true }"),
            );
        }
        Some(())
    };
    let (exists, absent) = (yes("exists"), yes("absent"));
    table.finish(report);
    match (equals, exists, absent) {
        (Some(values), None, None) => Some(ExpectedFile::OneOf(values.value)),
        (None, Some(()), None) => Some(ExpectedFile::Present),
        (None, None, Some(())) => Some(ExpectedFile::Absent),
        _ => {
            report.push(
                Diagnostic::error("one expectation for one pointer", value.span())
                    .hint("write a value, { exists = true } or { absent = true }"),
            );
            None
        }
    }
}

fn token_place(value: &Value<'_>, report: &mut Report) -> Option<TokenPlaceFile> {
    match value.get_ref() {
        DeValue::String(_) => pointer(value, report).map(TokenPlaceFile::Json),
        DeValue::Table(_) => {
            let mut table = Table::of(value, report)?;
            let json = table.read("json", report, pointer);
            let header = table.read("header", report, header_name);
            let body = table.read("body", report, boolean);
            let unknown = table.finish(report);
            match (json, header, body) {
                (Some(json), None, None) => Some(TokenPlaceFile::Json(json.value)),
                (None, Some(header), None) => Some(TokenPlaceFile::Header(header.value)),
                (None, None, Some(Spanned { value: true, .. })) => Some(TokenPlaceFile::Body),
                _ => {
                    if !unknown {
                        report.push(
                            Diagnostic::error("a token is in one place", value.span()).hint(
                                "write \"/access_token\", { header = \"X-Auth-Token\" } or { body = true }",
                            ),
                        );
                    }
                    None
                }
            }
        }
        _ => {
            wrong_type(value, "a pointer like \"/access_token\"", report);
            None
        }
    }
}

fn single_use(value: &Value<'_>, report: &mut Report) -> Option<SingleUseFile> {
    let DeValue::Table(_) = value.get_ref() else {
        let always = boolean(value, report)?;
        return Some(if always {
            SingleUseFile::Yes
        } else {
            SingleUseFile::No
        });
    };
    let mut table = Table::of(value, report)?;
    let json = table.require("json", "json = \"/usage\"", report, pointer);
    let equals = table.require("equals", "equals = \"SINGLE_USE\"", report, values);
    table.finish(report);
    Some(SingleUseFile::When(json?.value, equals?.value))
}

/// Every name in a template and in `expiry` is one of the provider's own.
fn names_exist(file: &HttpFile, report: &mut Report) {
    let inputs: Vec<_> = file.inputs.iter().map(|it| it.value.as_str()).collect();
    let secrets: Vec<_> = file
        .secrets
        .iter()
        .map(|(it, _)| it.value.as_str())
        .collect();
    let templates = file.requests().flat_map(RequestFile::templates);
    let mut wrong: Vec<Diagnostic> = templates
        .flat_map(|template| unknown(template, &inputs, &secrets, file, report.source()))
        .collect();
    let refresh = file.refresh.iter().flat_map(|refresh| &refresh.expiry);
    wrong.extend(file.reading.unknown_inputs(&inputs));
    wrong.extend(expiry::unknown_inputs(refresh, &inputs));
    for rule in &file.rules {
        if !inputs.contains(&rule.input.value.as_str()) {
            wrong.push(no_input(&rule.input, &inputs));
        }
    }
    for diagnostic in wrong {
        report.push(diagnostic);
    }
}

fn unknown(
    template: &Spanned<Template>,
    inputs: &[&str],
    secrets: &[&str],
    file: &HttpFile,
    source: &str,
) -> Vec<Diagnostic> {
    let unknown = |reference: Spanned<&Reference>| {
        let (what, name, known, otherwise) = match reference.value {
            Reference::Input(name) => (
                "input",
                name,
                inputs,
                "declare it: `inputs = [\"NAME\"]` in this provider, with that name",
            ),
            Reference::Secret(name) => (
                "secret",
                name,
                secrets,
                "declare it: `secrets = { NAME = { env = \"...\" } }` in this provider, with that name",
            ),
            Reference::Parent if file.parent.is_none() => {
                return Some(
                    Diagnostic::error("this provider has no parent", reference.span)
                        .hint("add `parent = \"NAME\"`"),
                );
            }
            _ => return None,
        };
        if known.contains(&name.as_str()) {
            return None;
        }
        let diagnostic = Diagnostic::error(format!("there is no {what} `{name}`"), reference.span);
        Some(match did_you_mean(name, known.iter().copied()) {
            Some(meant) => diagnostic.hint(format!("did you mean `{{{what}.{meant}}}`?")),
            None => diagnostic.hint(otherwise),
        })
    };
    references(template, source).filter_map(unknown).collect()
}
