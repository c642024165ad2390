//! A claim of a JWT: a JSON value in which text is a template.

use std::borrow::Cow;

use serde_json::Value;

use super::template::Template;
use super::{FetchError, Input, Subject};

/// A JSON value. `T` is what its text is: a template with its place in the file, or one that can be filled in.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Claim<T> {
    /// Text with placeholders.
    Text(T),
    /// A number or a boolean.
    Fixed(Value),
    /// A list.
    List(Vec<Self>),
    /// An object, in the order of the file.
    Object(Vec<(String, Self)>),
}

/// What a placeholder in a claim stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClaimPart {
    /// The subject's input of this index.
    Input(usize),
    /// `{key.sha256}`: the fingerprint of the signing key's public half.
    Fingerprint,
}

/// Claims, or fields of a header, by name.
pub type Claims<T> = Vec<(String, Claim<T>)>;

impl<T> Claim<T> {
    /// The same value with all of its text replaced.
    #[must_use]
    pub fn map<U>(&self, replace: &impl Fn(&T) -> U) -> Claim<U> {
        match self {
            Self::Text(text) => Claim::Text(replace(text)),
            Self::Fixed(value) => Claim::Fixed(value.clone()),
            Self::List(items) => Claim::List(items.iter().map(|it| it.map(replace)).collect()),
            Self::Object(members) => {
                let members = members.iter();
                Claim::Object(
                    members
                        .map(|(name, it)| (name.clone(), it.map(replace)))
                        .collect(),
                )
            }
        }
    }

    /// All text in it.
    pub fn texts(&self) -> Vec<&T> {
        match self {
            Self::Text(text) => vec![text],
            Self::Fixed(_) => Vec::new(),
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, it)| it.texts()).collect(),
        }
    }
}

impl Claim<Template<ClaimPart>> {
    /// The value for one subject, and for the key as it is now.
    pub(super) fn render(
        &self,
        subject: &Subject,
        fingerprint: &impl Fn() -> Result<String, FetchError>,
    ) -> Result<Value, FetchError> {
        match self {
            Self::Text(template) => text(template, subject, fingerprint),
            Self::Fixed(value) => Ok(value.clone()),
            Self::List(items) => items
                .iter()
                .map(|item| item.render(subject, fingerprint))
                .collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, member)| Ok((name.clone(), member.render(subject, fingerprint)?)))
                .collect(),
        }
    }
}

// A placeholder on its own keeps the type of its value; in the middle of text everything is text.
fn text(
    template: &Template<ClaimPart>,
    subject: &Subject,
    fingerprint: &impl Fn() -> Result<String, FetchError>,
) -> Result<Value, FetchError> {
    if let Some(ClaimPart::Input(index)) = template.as_reference()
        && let Some(Input::Json(json)) = subject.inputs().get(*index)
    {
        return serde_json::from_str(json)
            .map_err(|_| FetchError::malformed("an input is not the JSON that it was"));
    }
    let text = template.render(|part| match part {
        ClaimPart::Input(index) => Ok(Cow::Borrowed(subject.input(*index))),
        ClaimPart::Fingerprint => fingerprint().map(Cow::Owned),
    })?;
    Ok(Value::String(text.into_owned()))
}
