//! What a provider of the file is to the system that plays it.

use http::Method;
use serde_json::Value;

use super::system::System;
use crate::config::file::{BodyFile, HttpFile, RouteFile};
use crate::config::span::Spanned;
use crate::provider::json::Json;
use crate::provider::secret::SecretRef;
use crate::provider::template::{Reference, Template};

/// A provider whose tokens a stand-in makes.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) system: System,
    /// What the stand-in takes for a secret, by where the file keeps it.
    pub(super) secrets: Vec<(SecretRef, String)>,
    /// What a caller with its token asks for, and changes nothing by it.
    pub(super) reads: Ask,
    /// In the answer to that, if it is a good one.
    pub(super) brings: &'static str,
    /// What must not happen twice.
    pub(super) pays: Option<Ask>,
    /// What the inputs are; where nothing is said of one, anything is good.
    pub(super) samples: Vec<Sample>,
}

/// A request as the system sees it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) document: Option<Value>,
}

/// What the tour has for an input.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) input: String,
    /// What the system calls it.
    pub(super) called: String,
    pub(super) value: Value,
}

impl Role {
    /// Whether `route` calls the API that the tokens are for, or hands them out.
    pub(super) fn serves(&self, route: &RouteFile) -> bool {
        match &route.upstream {
            Some(upstream) => System::of_api(upstream) == Some(self.system),
            None => route.hand_out.is_some(),
        }
    }
}

impl Ask {
    pub(super) const fn get(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            path,
            document: None,
        }
    }

    pub(super) fn post(path: &'static str, document: Value) -> Self {
        Self {
            method: Method::POST,
            path,
            document: Some(document),
        }
    }
}

/// The inputs that `exchange` sends under a name that `samples` knows.
pub(super) fn sampled(exchange: &HttpFile, samples: &[(&str, Value)]) -> Vec<Sample> {
    let mut found = Vec::new();
    for (called, reference) in sent(exchange) {
        let sample = samples.iter().find(|(name, _)| *name == called);
        if let (Reference::Input(input), Some((_, value))) = (reference, sample) {
            found.push(Sample {
                input: input.clone(),
                called: called.to_owned(),
                value: value.clone(),
            });
        }
    }
    found
}

/// The secrets that `exchange` sends under a name that `known` knows.
pub(super) fn supplied(exchange: &HttpFile, known: &[(&str, &str)]) -> Vec<(SecretRef, String)> {
    let mut found = Vec::new();
    for (called, reference) in sent(exchange) {
        let Reference::Secret(name) = reference else {
            continue;
        };
        let place = exchange.secrets.iter().find(|(it, _)| it.value == *name);
        let value = known.iter().find(|(it, _)| *it == called);
        if let (Some((_, place)), Some((_, value))) = (place, value) {
            found.push((place.value.clone(), (*value).to_owned()));
        }
    }
    found
}

/// What is placed in the content of the first request, each with the name of the member that it is in.
fn sent(exchange: &HttpFile) -> Vec<(&str, &Reference)> {
    let mut found = Vec::new();
    match &exchange.request.body {
        BodyFile::None => {}
        BodyFile::Json(document) => placed("", document, &mut found),
        BodyFile::Form(params) => {
            for (name, template) in params {
                found.extend(template.references().map(|it| (name.value.as_str(), it)));
            }
        }
    }
    found
}

fn placed<'a>(
    member: &'a str,
    document: &'a Json<Spanned<Template>>,
    found: &mut Vec<(&'a str, &'a Reference)>,
) {
    match document {
        Json::Plain(_) => {}
        Json::Text(template) => found.extend(template.references().map(|it| (member, it))),
        Json::List(list) => list.iter().for_each(|it| placed(member, it, found)),
        Json::Object(members) => members
            .iter()
            .for_each(|(name, it)| placed(name, it, found)),
    }
}
