//! Templates: text with `{name}` and `{name|filter}` in it, and no logic.
//!
//! [`Template::parse`] reads what the user wrote; [`Template::resolve`] replaces names by what they stand for, once,
//! when the configuration is compiled; [`Template::render`] fills a template in for one request or one fetch.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Text with placeholders. `R` is what a placeholder refers to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Template<R = Reference> {
    parts: Vec<Part<R>>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Part<R> {
    Literal(String),
    Placeholder(R, Vec<Filter>),
}

/// What a placeholder can name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Reference {
    /// `{token}`: the token of the route's provider.
    Token,
    /// `{token.NAME}`: the token of another provider.
    TokenOf(String),
    /// `{field.NAME}`: a further member of the token response.
    Field(String),
    /// `{input.NAME}`
    Input(String),
    /// `{path.NAME}`: a captured segment.
    Path(String),
    /// `{header.NAME}`: a request field addressed to pillion.
    Header(String),
    /// `{query.NAME}`: a query parameter addressed to pillion.
    Query(String),
    /// `{body./pointer}`: a value of a JSON request body.
    Body(String),
    /// `{secret.NAME}`: one of the provider's secrets.
    Secret(String),
    /// `{parent}`: the parent's token.
    Parent,
    /// `{refresh_token}`
    RefreshToken,
    /// `{key.sha256}`: the fingerprint of the public half of the key that signs.
    KeyFingerprint,
}

/// What is done to a value before it is placed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Filter {
    /// Base64 of the value and a colon: Basic credentials with an empty password (RFC 7617).
    Basic,
    /// Base64 with padding (RFC 4648 §4).
    Base64,
    /// SHA-256 in lower-case hexadecimal.
    Sha256,
    /// ASCII lower case.
    Lower,
    /// A whole number within bounds, both included.
    Int {
        /// The least value that is accepted.
        min: i64,
        /// The greatest.
        max: i64,
    },
}

impl Template<Reference> {
    /// Reads a template. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    ///
    /// When a brace is left open, or a name or a filter is unknown: with the place in `text`, and what was probably meant.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let offset = text.len() - rest.len() + at;
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(inside) = from.strip_prefix('{') {
                let Some((name, after)) = inside.split_once('}') else {
                    return Err(TemplateError::at(
                        offset,
                        from.len(),
                        "`{` without a `}`",
                        "write `{{` for a brace",
                    ));
                };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(placeholder(name, offset)?);
                rest = after;
            } else {
                return Err(TemplateError::at(
                    offset,
                    1,
                    "`}` without a `{`",
                    "write `}}` for a brace",
                ));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }
}

impl<R> Template<R> {
    /// A template that is exactly this reference.
    #[must_use]
    pub fn of(reference: R) -> Self {
        Self {
            parts: vec![Part::Placeholder(reference, Vec::new())],
        }
    }

    /// The references in it, in order.
    pub fn references(&self) -> impl Iterator<Item = &R> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(reference, _) => Some(reference),
            Part::Literal(_) => None,
        })
    }

    /// The references in it, each with what is done to its value.
    pub fn uses(&self) -> impl Iterator<Item = (&R, &[Filter])> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(reference, filters) => Some((reference, filters.as_slice())),
            Part::Literal(_) => None,
        })
    }

    /// The one placeholder that it is exactly, if it is.
    #[must_use]
    pub fn as_placeholder(&self) -> Option<(&R, &[Filter])> {
        match self.parts.as_slice() {
            [Part::Placeholder(reference, filters)] => Some((reference, filters)),
            _ => None,
        }
    }

    /// The reference, if the template is exactly that, without a filter.
    #[must_use]
    pub fn as_reference(&self) -> Option<&R> {
        match self.parts.as_slice() {
            [Part::Placeholder(reference, filters)] if filters.is_empty() => Some(reference),
            _ => None,
        }
    }

    /// The text, if there is no placeholder in it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The same template with every reference replaced.
    ///
    /// # Errors
    ///
    /// The first error of `resolve`.
    pub fn resolve<S, E>(
        &self,
        mut resolve: impl FnMut(&R) -> Result<S, E>,
    ) -> Result<Template<S>, E> {
        let parts = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => Ok(Part::Literal(text.clone())),
                Part::Placeholder(reference, filters) => {
                    Ok(Part::Placeholder(resolve(reference)?, filters.clone()))
                }
            })
            .collect::<Result<_, E>>()?;
        Ok(Template { parts })
    }

    /// The text, with every placeholder filled in by `value`.
    ///
    /// # Errors
    ///
    /// The first error of `value`, or of a filter that does not take what it is given.
    pub fn render<'a, E>(
        &'a self,
        value: impl Fn(&'a R) -> Result<Cow<'a, str>, E>,
    ) -> Result<Cow<'a, str>, E>
    where
        E: From<FilterError>,
    {
        self.render_placed(value, |text| text)
    }

    /// The same, with every value encoded by `place` for where it goes. The template's own text is left as it is.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_placed<'a, E>(
        &'a self,
        value: impl Fn(&'a R) -> Result<Cow<'a, str>, E>,
        place: impl Fn(Cow<'a, str>) -> Cow<'a, str>,
    ) -> Result<Cow<'a, str>, E>
    where
        E: From<FilterError>,
    {
        if let [part] = self.parts.as_slice() {
            return render_part(part, &value, &place);
        }
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&render_part(part, &value, &place)?);
        }
        Ok(Cow::Owned(text))
    }
}

impl<R> Template<R> {
    /// The text, with every placeholder and what is done to it replaced by `value`.
    ///
    /// # Errors
    ///
    /// The first error of `value`.
    pub fn fill<'a, E>(
        &'a self,
        value: impl Fn(&'a R, &'a [Filter]) -> Result<Cow<'a, str>, E>,
    ) -> Result<String, E> {
        let texts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => Ok(Cow::Borrowed(text.as_str())),
            Part::Placeholder(reference, filters) => value(reference, filters),
        });
        texts.collect()
    }
}

fn render_part<'a, R, E: From<FilterError>>(
    part: &'a Part<R>,
    value: &impl Fn(&'a R) -> Result<Cow<'a, str>, E>,
    place: &impl Fn(Cow<'a, str>) -> Cow<'a, str>,
) -> Result<Cow<'a, str>, E> {
    match part {
        Part::Literal(text) => Ok(Cow::Borrowed(text)),
        Part::Placeholder(reference, filters) => {
            let text = Filter::apply_all(filters, value(reference)?)?;
            Ok(place(text))
        }
    }
}

impl Filter {
    /// The value after all of these.
    ///
    /// # Errors
    ///
    /// When one of them does not take the value.
    pub fn apply_all<'a>(
        filters: &[Self],
        value: Cow<'a, str>,
    ) -> Result<Cow<'a, str>, FilterError> {
        let mut filters = filters.iter();
        filters.try_fold(value, |value, filter| filter.apply(value))
    }

    /// The value after it.
    ///
    /// # Errors
    ///
    /// When it does not take the value.
    pub fn apply(self, text: Cow<'_, str>) -> Result<Cow<'_, str>, FilterError> {
        Ok(match self {
            Self::Basic => Cow::Owned(STANDARD.encode(format!("{text}:"))),
            Self::Base64 => Cow::Owned(STANDARD.encode(text.as_bytes())),
            Self::Sha256 => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
                let mut hex = String::with_capacity(64);
                for byte in digest.as_ref() {
                    let _ = write!(hex, "{byte:02x}");
                }
                Cow::Owned(hex)
            }
            Self::Lower => Cow::Owned(text.to_ascii_lowercase()),
            Self::Int { min, max } => {
                let canonical = text.strip_prefix('-').unwrap_or(&text);
                let plain = canonical == "0"
                    || (!canonical.starts_with('0') && !canonical.starts_with('+'));
                match text.parse::<i64>() {
                    Ok(number) if plain && (min..=max).contains(&number) => text,
                    _ => return Err(FilterError::NotWithin { min, max }),
                }
            }
        })
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "basic" => Some(Self::Basic),
            "base64" => Some(Self::Base64),
            "sha256" => Some(Self::Sha256),
            "lower" => Some(Self::Lower),
            _ => {
                let (min, max) = text
                    .strip_prefix("int(")?
                    .strip_suffix(')')?
                    .split_once("..")?;
                let (min, max) = (min.trim().parse().ok()?, max.trim().parse().ok()?);
                (min <= max).then_some(Self::Int { min, max })
            }
        }
    }
}

/// A filter that does not take its value. Never holds the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// [`Filter::Int`]
    #[error("is not a whole number from {min} to {max}")]
    NotWithin {
        /// The least value that is accepted.
        min: i64,
        /// The greatest.
        max: i64,
    },
}

/// What is wrong in a template, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// First byte of the mistake in the template's text.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl TemplateError {
    fn at(
        offset: usize,
        length: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            offset,
            length,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

fn placeholder(text: &str, offset: usize) -> Result<Part<Reference>, TemplateError> {
    let mut pieces = text.split('|');
    let name = pieces.next().unwrap_or_default();
    let reference = reference(name).ok_or_else(|| {
        TemplateError::at(
            offset,
            text.len() + 2,
            format!("unknown placeholder `{{{name}}}`"),
            "placeholders are {token}, {token.PROVIDER}, {field.NAME}, {input.NAME}, {path.NAME}, {header.NAME}, \
             {query.NAME}, {body./POINTER}, {secret.NAME}, {parent}, {refresh_token} and {key.sha256}",
        )
    })?;
    let filters = pieces
        .map(|piece| {
            Filter::parse(piece).ok_or_else(|| {
                TemplateError::at(
                    offset,
                    text.len() + 2,
                    format!("unknown filter `{piece}`"),
                    "filters are basic, base64, sha256, lower and int(MIN..MAX)",
                )
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Part::Placeholder(reference, filters))
}

fn reference(name: &str) -> Option<Reference> {
    let plain = match name {
        "token" => Some(Reference::Token),
        "parent" => Some(Reference::Parent),
        "refresh_token" => Some(Reference::RefreshToken),
        "key.sha256" => Some(Reference::KeyFingerprint),
        _ => None,
    };
    if plain.is_some() {
        return plain;
    }
    let (kind, rest) = name.split_once('.')?;
    if rest.is_empty() {
        return None;
    }
    let rest = rest.to_owned();
    match kind {
        "token" => Some(Reference::TokenOf(rest)),
        "field" => Some(Reference::Field(rest)),
        "input" => Some(Reference::Input(rest)),
        "path" => Some(Reference::Path(rest)),
        "header" => Some(Reference::Header(rest)),
        "query" => Some(Reference::Query(rest)),
        "body" => rest.starts_with('/').then_some(Reference::Body(rest)),
        "secret" => Some(Reference::Secret(rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, value: &str) -> Result<String, FilterError> {
        let template = Template::parse(text).unwrap();
        template
            .render(|_| Ok(Cow::Owned(value.to_owned())))
            .map(Cow::into_owned)
    }

    #[test]
    fn text_and_placeholders_alternate() {
        assert_eq!(render("a{token}b{input.x}{{c}}", "V").unwrap(), "aVbV{c}");
        assert_eq!(
            Template::parse("plain").unwrap().as_literal(),
            Some("plain")
        );
    }

    #[test]
    fn filters_apply_from_left_to_right() {
        assert_eq!(
            render("Basic {parent|basic}", "key").unwrap(),
            "Basic a2V5Og=="
        );
        assert_eq!(render("{input.x|lower|base64}", "KEY").unwrap(), "a2V5");
        assert_eq!(
            render("{input.x|sha256}", "").unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_number_is_held_to_its_bounds_and_its_plain_form() {
        for good in ["1", "60", "518400"] {
            assert_eq!(render("{input.m|int(1..518400)}", good).unwrap(), good);
        }
        for bad in ["0", "518401", "-1", "", "1.5", "01", "+1", "1e3", "x"] {
            assert_eq!(
                render("{input.m|int(1..518400)}", bad).unwrap_err(),
                FilterError::NotWithin {
                    min: 1,
                    max: 518_400
                },
                "{bad}"
            );
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, offset, message) in [
            ("ab{tokn}", 2, "unknown placeholder `{tokn}`"),
            ("{token", 0, "`{` without a `}`"),
            ("a}b", 1, "`}` without a `{`"),
            ("{token|rot13}", 0, "unknown filter `rot13`"),
            ("{input.}", 0, "unknown placeholder `{input.}`"),
            ("{body.x}", 0, "unknown placeholder `{body.x}`"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!((error.offset, error.message.as_str()), (offset, message));
        }
    }
}
