//! What a request says about whose token it needs.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::problem::ProxyError;
use super::route::Route;
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
}

/// The values of a route's inputs, in its order.
#[derive(Debug, Default)]
pub struct Inputs(Vec<Input>);

impl Inputs {
    /// Reads the inputs of `route` from a request.
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadInput`] that names the input, never its value.
    pub fn read(
        route: &Route,
        captures: &[Cow<'_, str>],
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Self, ProxyError> {
        let values = route.inputs.iter().map(|input| {
            let bad = |reason: String| ProxyError::BadInput {
                input: input.name.clone(),
                reason,
            };
            let value = input
                .value
                .render(|part| part.read(captures, headers, query))
                .map_err(|Unusable(reason)| bad(reason))?;
            if value.is_empty() {
                return Err(bad("is empty".to_owned()));
            }
            if value.len() > MAX_INPUT_BYTES {
                return Err(bad(format!("is longer than {MAX_INPUT_BYTES} bytes")));
            }
            if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
                return Err(bad("has a character that is not printable ASCII".to_owned()));
            }
            Ok(Input::Text(value.into()))
        });
        values.collect::<Result<_, _>>().map(Self)
    }

    /// The value of the route's `index`th input.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        self.0.get(index).map_or("", Input::as_str)
    }

    /// Whose token the route's provider is to give.
    #[must_use]
    pub fn subject(&self, route: &Route) -> Subject {
        if route.subject.is_empty() {
            return Subject::default();
        }
        let values = route.subject.iter().filter_map(|index| self.0.get(*index));
        Subject::new(values.cloned().collect())
    }
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
    fn read<'a>(
        &self,
        captures: &'a [Cow<'_, str>],
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> Result<Cow<'a, str>, Unusable> {
        let missing = |what: &str, name: &str| {
            Unusable(format!(
                "needs the {what} `{name}`, which the request does not have"
            ))
        };
        match self {
            Self::Path(index) => captures
                .get(*index)
                .map(|capture| Cow::Borrowed(capture.as_ref()))
                .ok_or_else(|| missing("path segment", "")),
            Self::Header(name) => {
                let mut values = headers.get_all(name).iter();
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
                let mut values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
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
            RequestPart::Path(_) | RequestPart::Header(_) => None,
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
