//! JSON documents with texts in them that are filled in later.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Input;
use super::template::{Filter, FilterError, Template};

/// A JSON document whose texts are `T`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Json<T> {
    /// A number, a boolean or null, as it is.
    Plain(Value),
    /// A text.
    Text(T),
    /// An array.
    List(Vec<Self>),
    /// An object, in the order of the file.
    Object(Vec<(String, Self)>),
}

/// The value of a text in a document: with the type of the input, or of the number, that it is exactly; else a text.
///
/// # Errors
///
/// The first error of `value`, or of a filter that does not take what it is given.
pub(super) fn placed<'a, R, E: From<FilterError>>(
    template: &'a Template<R>,
    value: impl Fn(&'a R) -> Result<Cow<'a, str>, E>,
    input: impl Fn(&R) -> Option<Input<'a>>,
) -> Result<Value, E> {
    let text = template.render(value)?;
    let typed = match template.as_placeholder() {
        Some((_, [.., Filter::Int { .. }])) => text.parse::<i64>().ok().map(Value::from),
        Some((reference, [])) => match input(reference) {
            Some(Input::Json(json)) => serde_json::from_str(json).ok(),
            Some(Input::Text(_)) | None => None,
        },
        _ => None,
    };
    Ok(typed.unwrap_or_else(|| Value::from(text)))
}

impl<T> Json<T> {
    /// The texts in it, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<&T> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Text(text) => vec![text],
            Self::List(list) => list.iter().flat_map(Self::texts).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, it)| it.texts()).collect(),
        }
    }

    /// The same document with other texts.
    pub fn map<U>(&self, map: &mut impl FnMut(&T) -> U) -> Json<U> {
        match self {
            Self::Plain(value) => Json::Plain(value.clone()),
            Self::Text(text) => Json::Text(map(text)),
            Self::List(list) => Json::List(list.iter().map(|it| it.map(map)).collect()),
            Self::Object(members) => Json::Object(
                members
                    .iter()
                    .map(|(name, it)| (name.clone(), it.map(map)))
                    .collect(),
            ),
        }
    }

    /// The document with every text replaced by a value. Values are placed, not spliced: none can end a text.
    ///
    /// # Errors
    ///
    /// The first error of `fill`.
    pub fn fill<E>(&self, fill: &impl Fn(&T) -> Result<Value, E>) -> Result<Value, E> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(text) => fill(text)?,
            Self::List(list) => {
                let list = list.iter().map(|it| it.fill(fill));
                Value::Array(list.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, it)| Ok((name.clone(), it.fill(fill)?)));
                Value::Object(members.collect::<Result<Map<_, _>, E>>()?)
            }
        })
    }
}
