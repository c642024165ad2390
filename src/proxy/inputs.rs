//! What a request says about whose token it needs.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::problem::ProxyError;
use super::route::Route;
use crate::provider::pointer::Pointer;
use crate::provider::template::{FilterError, Template};
use crate::provider::{Input, Subject};

/// One input of a route: its name, and where its value comes from.
#[derive(Clone, Debug)]
pub struct InputRule {
    /// As in the configuration.
    pub name: String,
    /// From what it is made.
    pub value: Template<RequestPart>,
}

/// A part of a request that an input can be made from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum RequestPart {
    /// The path's capture of this index.
    Path(usize),
    /// A field, addressed to pillion and so not forwarded.
    Header(HeaderName),
    /// A query parameter, addressed to pillion and so not forwarded.
    Query(String),
    /// A value of a JSON body: where a token is handed out.
    Body(Pointer),
}

/// The values of a route's inputs, in its order.
#[derive(Debug, Default)]
pub struct Inputs(Subject);

/// The parts of a request that inputs are made from.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The captured segments, decoded.
    pub captures: &'a [Cow<'a, str>],
    /// The fields, as they came.
    pub headers: &'a HeaderMap,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// The body, where the route reads it.
    pub body: Option<&'a Value>,
}

/// What a request says is people's: not even a log of everything shows it.
impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Inputs {
    /// Reads the inputs of `route` from a request.
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadInput`] that names the input, never its value.
    pub fn read(route: &Route, parts: &Parts<'_>) -> Result<Self, ProxyError> {
        let mut values = Subject::default();
        for input in &route.inputs {
            let read = input.read(parts, &mut values);
            read.map_err(|Unusable(reason)| ProxyError::BadInput {
                input: input.name.clone(),
                reason,
            })?;
        }
        Ok(Self(values))
    }

    /// The value of the route's `index`th input.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        self.0.input(index)
    }

    /// The values of these inputs, as a subject.
    #[must_use]
    pub fn subject(&self, indices: &[usize]) -> Subject {
        self.0.of(indices)
    }
}

impl InputRule {
    fn read(&self, parts: &Parts<'_>, into: &mut Subject) -> Result<(), Unusable> {
        // A value that stands alone keeps its type; in a text, it is text.
        if let Some(RequestPart::Body(pointer)) = self.value.as_reference() {
            let value = parts.in_body(pointer)?;
            if !value.is_string() {
                let text = value.to_string();
                if text.len() > MAX_JSON_BYTES {
                    let reason = format!("is longer than {MAX_JSON_BYTES} bytes of JSON");
                    return Err(Unusable(reason));
                }
                into.push(Input::Json(&text));
                return Ok(());
            }
        }
        let value = self.value.render(|part| part.read(parts))?;
        if value.is_empty() {
            return Err(Unusable("is empty".to_owned()));
        }
        if value.len() > MAX_INPUT_BYTES {
            let reason = format!("is longer than {MAX_INPUT_BYTES} bytes");
            return Err(Unusable(reason));
        }
        if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            let reason = "has a character that is not printable ASCII";
            return Err(Unusable(reason.to_owned()));
        }
        into.push(Input::Text(&value));
        Ok(())
    }
}

impl<'a> Parts<'a> {
    fn in_body(&self, pointer: &Pointer) -> Result<&'a Value, Unusable> {
        let found = self.body.map(|body| pointer.find(body)).unwrap_or_default();
        let mut values = found.into_iter().filter(|value| !value.is_null());
        values
            .next()
            .ok_or_else(|| missing("value", &format!("{pointer} of the body")))
    }
}

fn missing(what: &str, name: &str) -> Unusable {
    Unusable(format!(
        "needs the {what} `{name}`, which the request does not have"
    ))
}

/// Why a part of a request cannot be an input. Never holds the part.
#[derive(Debug)]
struct Unusable(String);

impl From<FilterError> for Unusable {
    fn from(error: FilterError) -> Self {
        Self(error.to_string())
    }
}

impl RequestPart {
    fn read<'a>(&self, parts: &Parts<'a>) -> Result<Cow<'a, str>, Unusable> {
        match self {
            Self::Path(index) => parts
                .captures
                .get(*index)
                .map(|capture| Cow::Borrowed(capture.as_ref()))
                .ok_or_else(|| missing("path segment", "")),
            Self::Header(name) => {
                let mut values = parts.headers.get_all(name).iter();
                let value = values
                    .next()
                    .ok_or_else(|| missing("header", name.as_str()))?;
                if values.next().is_some() {
                    return Err(Unusable(format!(
                        "needs one header `{name}`, and the request has several"
                    )));
                }
                let value = value.to_str().map_err(|_| {
                    Unusable("has a character that is not printable ASCII".to_owned())
                })?;
                Ok(Cow::Borrowed(value))
            }
            Self::Query(name) => {
                let mut values = form_urlencoded::parse(parts.query.unwrap_or_default().as_bytes())
                    .filter(|(key, _)| key == name)
                    .map(|(_, value)| value);
                let value = values
                    .next()
                    .ok_or_else(|| missing("query parameter", name))?;
                if values.next().is_some() {
                    return Err(Unusable(format!(
                        "needs one query parameter `{name}`, and the request has several"
                    )));
                }
                Ok(value)
            }
            Self::Body(pointer) => Ok(match parts.in_body(pointer)? {
                Value::String(text) => Cow::Borrowed(text),
                other => Cow::Owned(other.to_string()),
            }),
        }
    }
}

/// The query without the parameters that are addressed to pillion.
#[must_use]
pub fn forwarded_query<'a>(route: &Route, query: Option<&'a str>) -> Option<Cow<'a, str>> {
    let query = query?;
    let parts = route
        .inputs
        .iter()
        .flat_map(|input| input.value.references());
    let ours: Vec<&str> = parts
        .filter_map(|part| match part {
            RequestPart::Query(name) => Some(name.as_str()),
            RequestPart::Path(_) | RequestPart::Header(_) | RequestPart::Body(_) => None,
        })
        .collect();
    if ours.is_empty() {
        return Some(Cow::Borrowed(query));
    }
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            form_urlencoded::parse(pair.as_bytes())
                .next()
                .is_none_or(|(name, _)| !ours.contains(&name.as_ref()))
        })
        .collect();
    (!rest.is_empty()).then(|| Cow::Owned(rest.join("&")))
}

/// A merchant number, a card id, a hash: nothing that an upstream takes as a name is longer.
const MAX_INPUT_BYTES: usize = 1024;
/// A list of phone numbers, a handful of amounts. It is kept with the token that was made for it.
const MAX_JSON_BYTES: usize = 8 * 1024;
