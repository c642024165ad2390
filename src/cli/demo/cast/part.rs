//! One route of the file, and the calls that it takes.

use http::Method;
use serde_json::{Map, Value};

use super::role::{Ask, Role};
use super::system::System;
use crate::cli::demo::call::Call;
use crate::config::compile::route::route_name;
use crate::config::file::{File, PathSegment, ProviderFile, RouteFile, SourceFile};
use crate::provider::template::Reference;

/// One route of the file, to a system that is played.
#[derive(Clone, Debug)]
pub(in crate::cli::demo) struct Part {
    pub(in crate::cli::demo) system: System,
    /// As in metrics.
    pub(in crate::cli::demo) provider: String,
    pub(in crate::cli::demo) route: String,
    role: Role,
    source: SourceFile,
    file: RouteFile,
    /// A field that every caller must bring.
    required: Option<String>,
}

/// The merchant of the demo, where a route wants one; whatever else it wants to know is the same.
const SUBJECT: &str = "1234567";

impl Part {
    pub(super) fn new(role: Role, provider: &ProviderFile, route: &RouteFile, file: &File) -> Self {
        let required = file.listen.require_header.as_ref();
        Self {
            system: role.system,
            provider: provider.name.value.clone(),
            route: route_name(route),
            role,
            source: provider.source.clone(),
            file: route.clone(),
            required: required.map(|header| header.value.to_string()),
        }
    }

    /// A call that changes nothing: of the system, or of pillion for the token.
    pub(in crate::cli::demo) fn reads(&self) -> Call {
        self.reads_for(SUBJECT)
    }

    /// The same, for another merchant.
    pub(in crate::cli::demo) fn reads_for(&self, subject: &str) -> Call {
        if self.hands_out() {
            self.asks_for_token(subject)
        } else {
            self.call(&self.role.reads, subject)
        }
    }

    /// A call that makes a payment, and a second one if it is carried out twice.
    pub(in crate::cli::demo) fn pays(&self) -> Option<Call> {
        let pays = self.role.pays.as_ref().filter(|pays| self.takes(pays))?;
        Some(self.call(pays, SUBJECT))
    }

    /// A call whose path means another one to whoever decodes it.
    pub(in crate::cli::demo) fn escapes(&self) -> Call {
        let mut call = self.reads();
        let prefix = self.prefix(SUBJECT);
        call.target = format!("{prefix}/%2e%2e/elsewhere");
        call
    }

    /// In an answer to [`Self::reads`], if it is a good one.
    pub(in crate::cli::demo) fn brings(&self) -> &'static str {
        if self.hands_out() {
            "\"access_token\""
        } else {
            self.role.brings
        }
    }

    /// Whether the token is the answer.
    pub(in crate::cli::demo) const fn hands_out(&self) -> bool {
        self.file.hand_out.is_some()
    }

    /// The same with `value` for what the system calls `called`; None if no caller says it.
    pub(in crate::cli::demo) fn with(&self, called: &str, value: &Value) -> Option<Self> {
        let mut part = self.clone();
        let mut samples = part.role.samples.iter_mut();
        samples.find(|it| it.called == called)?.value = value.clone();
        Some(part)
    }

    /// Whether a caller says whose token it wants, and the upstream is told.
    pub(in crate::cli::demo) fn is_per_merchant(&self) -> bool {
        self.file.path.captures().next().is_some() && self.sets_merchant()
    }

    /// Whether each subject, a merchant for example, has a token of its own.
    pub(in crate::cli::demo) fn is_per_subject(&self) -> bool {
        match &self.source {
            SourceFile::OAuth2(oauth2) => !oauth2.inputs.is_empty(),
            SourceFile::Http(exchange) | SourceFile::GraphQl(exchange) => {
                !exchange.inputs.is_empty()
            }
            SourceFile::Jwt(jwt) => !jwt.inputs.is_empty(),
            SourceFile::Static(_) => false,
        }
    }

    /// Whether the file has rules for what a caller says.
    pub(in crate::cli::demo) fn has_rules(&self) -> bool {
        matches!(&self.source, SourceFile::Http(exchange) if !exchange.rules.is_empty())
    }

    /// Whether the next token is asked for in another way than the first.
    pub(in crate::cli::demo) fn is_refreshed(&self) -> bool {
        matches!(&self.source, SourceFile::Http(exchange) if exchange.refresh.is_some())
    }

    pub(in crate::cli::demo) fn sets_merchant(&self) -> bool {
        self.file
            .headers
            .iter()
            .any(|(name, _)| name.value == "merchant-account")
    }

    /// Whether [`Self::reads`] comes through.
    pub(super) fn can_be_called(&self) -> bool {
        if self.hands_out() {
            self.takes_method(&self.reads().method)
        } else {
            self.takes(&self.role.reads)
        }
    }

    fn takes(&self, ask: &Ask) -> bool {
        self.takes_method(&ask.method) && self.rest(ask.path).is_some()
    }

    fn takes_method(&self, method: &Method) -> bool {
        let taken = &self.file.methods;
        taken.is_empty() || taken.iter().any(|it| it.value == *method)
    }

    fn call(&self, ask: &Ask, subject: &str) -> Call {
        let target = self.prefix(subject) + self.rest(ask.path).unwrap_or_default();
        let call = Call {
            method: ask.method.clone(),
            ..Call::get(if target.is_empty() { "/" } else { &target })
        };
        let call = match &ask.document {
            Some(document) => call.with_json(document),
            None => call,
        };
        self.addressed(call, subject)
    }

    fn asks_for_token(&self, subject: &str) -> Call {
        let mut document = Map::new();
        for (_, template) in &self.file.inputs {
            for reference in template.references() {
                if let Reference::Body(pointer) = reference {
                    let value = self.sample(reference, subject);
                    place(&mut document, pointer.trim_start_matches('/'), value);
                }
            }
        }
        let call = if document.is_empty() {
            Call::get(&self.prefix(subject))
        } else {
            Call::post(&self.prefix(subject)).with_json(&document.into())
        };
        self.addressed(call, subject)
    }

    /// With everything in the head that the listener and the route want to know.
    fn addressed(&self, mut call: Call, subject: &str) -> Call {
        if let Some(host) = self.file.hosts.first() {
            call = call.with("host", host);
        }
        if let Some(required) = &self.required {
            call = call.with(required, "1");
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (_, template) in &self.file.inputs {
            for reference in template.references() {
                let text = self.text(reference, subject);
                match reference {
                    Reference::Header(name) => call = call.with(name, &text),
                    Reference::Query(name) => {
                        query.append_pair(name, &text);
                    }
                    _ => {}
                }
            }
        }
        let query = query.finish();
        if !query.is_empty() {
            call.target = format!("{}?{query}", call.target);
        }
        call
    }

    /// What the caller says at this place: the sample of the input that it is for, or else the subject.
    fn sample(&self, place: &Reference, subject: &str) -> Value {
        let mut inputs = self.file.inputs.iter();
        let input = inputs.find(|(_, template)| template.references().any(|it| it == place));
        let mut samples = self.role.samples.iter();
        input
            .and_then(|(input, _)| samples.find(|it| it.input == input.value))
            .map_or_else(|| subject.into(), |sample| sample.value.clone())
    }

    fn text(&self, place: &Reference, subject: &str) -> String {
        match self.sample(place, subject) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// What the route takes.
    fn prefix(&self, subject: &str) -> String {
        self.file
            .path
            .segments
            .iter()
            .map(|segment| match segment {
                PathSegment::Literal(text) => format!("/{text}"),
                PathSegment::Capture(name) => {
                    format!("/{}", self.text(&Reference::Path(name.clone()), subject))
                }
            })
            .collect()
    }

    /// What has to follow, so that the upstream sees `path`.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let upstream = self.file.upstream.as_ref()?;
        let base = upstream.path().trim_end_matches('/');
        path.strip_prefix(base)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Places `value` where `pointer`, without its first slash, points.
fn place(document: &mut Map<String, Value>, pointer: &str, value: Value) {
    let Some((name, rest)) = pointer.split_once('/') else {
        document.insert(pointer.to_owned(), value);
        return;
    };
    let inner = document
        .entry(name)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        place(inner, rest, value);
    }
}
