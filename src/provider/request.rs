//! A request to a provider as the configuration describes it, filled in for one fetch.
//!
//! Values are placed, never spliced: as JSON values, as percent-encoded parts of the target, as form parameters, as
//! checked field values. None of them can become more than the place it was meant for.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use zeroize::Zeroizing;

use super::client_auth::Form;
use super::exchange::{self, Answer, Ask};
use super::json::{self, Json};
use super::secret::{self, Secret, SecretRef, Secrets};
use super::template::Template;
use super::{Call, FetchError};
use crate::net::connect::Endpoint;

/// A request with placeholders.
#[derive(Debug)]
pub struct RequestTemplate {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// The `Host` field's value.
    pub host: HeaderValue,
    /// Everything else.
    pub parts: RequestParts,
}

/// What is sent.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RequestParts {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: Template<Part>,
    /// Further query parameters.
    pub query: Vec<(String, Template<Part>)>,
    /// Fields.
    pub headers: Vec<(HeaderName, Template<Part>)>,
    /// Content.
    pub body: Body,
}

/// The content of a request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Body {
    /// There is none.
    None,
    /// A JSON document.
    Json(Json<Template<Part>>),
    /// A form.
    Form(Vec<(String, Template<Part>)>),
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Part {
    /// The provider's input of this index.
    Input(usize),
    /// The provider's secret of this index.
    Secret(usize),
    /// The parent's token.
    Parent,
    /// The refresh token.
    RefreshToken,
}

/// What placeholders stand for in one fetch.
#[derive(Debug)]
pub struct Values<'a> {
    call: &'a Call<'a>,
    secrets: Vec<Secret>,
}

impl<'a> Values<'a> {
    /// The values of a call, with the secrets as they are now.
    ///
    /// # Errors
    ///
    /// When a secret cannot be read.
    pub fn read(
        call: &'a Call<'a>,
        references: &[SecretRef],
        secrets: &Secrets,
    ) -> Result<Self, FetchError> {
        let secrets = references.iter().map(|reference| secrets.read(reference));
        Ok(Self {
            call,
            secrets: secrets.collect::<Result<_, _>>()?,
        })
    }

    /// Text without anything that must not be seen.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.iter();
        let tokens = self.call.parent.into_iter().chain(self.call.refresh_token);
        secret::redact(text, secrets.chain(tokens), self.call.subject.inputs())
    }

    fn text(&self, part: Part) -> Result<Cow<'_, str>, FetchError> {
        let secret = match part {
            Part::Input(index) => return Ok(Cow::Borrowed(self.call.subject.input(index))),
            Part::Secret(index) => self.secrets.get(index),
            Part::Parent => self.call.parent,
            Part::RefreshToken => self.call.refresh_token,
        };
        let missing = || FetchError::malformed("a part of its request is missing");
        Ok(Cow::Borrowed(secret.ok_or_else(missing)?.reveal()))
    }

    fn render<'b>(&'b self, template: &'b Template<Part>) -> Result<Cow<'b, str>, FetchError> {
        template.render(|part| self.text(*part))
    }

    fn json<'b>(&'b self, template: &'b Template<Part>) -> Result<Value, FetchError> {
        let input = |part: &Part| match part {
            Part::Input(index) => self.call.subject.inputs().nth(*index),
            Part::Secret(_) | Part::Parent | Part::RefreshToken => None,
        };
        json::placed(template, |part| self.text(*part), input)
    }
}

impl RequestTemplate {
    /// Sends the request with these values, and reads the answer.
    ///
    /// # Errors
    ///
    /// When a value does not fit where it goes, or there is no answer.
    pub async fn send(&self, values: &Values<'_>) -> Result<Answer, FetchError> {
        let (path, ask) = self.parts.fill(values)?;
        exchange::send(&self.endpoint, &self.host, &path, ask).await
    }
}

impl RequestParts {
    fn fill(&self, values: &Values<'_>) -> Result<(String, Ask), FetchError> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        let body = match &self.body {
            Body::None => Bytes::new(),
            Body::Json(document) => {
                headers.insert(CONTENT_TYPE, exchange::JSON);
                let document = document.fill(&|text| values.json(text))?;
                Bytes::from_owner(Zeroizing::new(document.to_string()))
            }
            Body::Form(params) => {
                headers.insert(CONTENT_TYPE, exchange::FORM);
                form(params, values)?.to_content()
            }
        };
        for (name, template) in &self.headers {
            let value = values.render(template)?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                FetchError::malformed(format!("the request's `{name}` would not be a field value"))
            })?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let ask = Ask {
            method: self.method.clone(),
            headers,
            body,
        };
        Ok((self.target(values)?, ask))
    }

    fn target(&self, values: &Values<'_>) -> Result<String, FetchError> {
        let target = self
            .path
            .render_placed(
                |part| values.text(*part),
                |value| Cow::Owned(utf8_percent_encode(&value, RESERVED).to_string()),
            )?
            .into_owned();
        // A value that is a whole segment could else name another path (RFC 3986 §5.2.4).
        let path = target.split('?').next().unwrap_or_default();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(FetchError::malformed(
                "the request's path has a dot segment",
            ));
        }
        if self.query.is_empty() {
            return Ok(target);
        }
        let separator = if target.contains('?') { '&' } else { '?' };
        let query = form(&self.query, values)?;
        Ok(format!("{target}{separator}{}", query.as_str()))
    }
}

fn form(params: &[(String, Template<Part>)], values: &Values<'_>) -> Result<Form, FetchError> {
    let mut form = Form::default();
    for (name, template) in params {
        form.add(name, &values.render(template)?);
    }
    Ok(form)
}

/// Everything but the unreserved (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;
    use crate::provider::template::Reference;
    use crate::provider::{Input, Subject};

    fn template(text: &str) -> Template<Part> {
        let resolved = Template::parse(text).unwrap().resolve(|reference| {
            Ok::<_, Infallible>(match reference {
                Reference::Input(name) => Part::Input(usize::from(name == "b")),
                Reference::Secret(_) => Part::Secret(0),
                Reference::Parent => Part::Parent,
                _ => Part::RefreshToken,
            })
        });
        resolved.unwrap()
    }

    fn parts(path: &str) -> RequestParts {
        RequestParts {
            method: Method::POST,
            path: template(path),
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    fn fill(parts: &RequestParts, inputs: &[Input<'_>]) -> Result<(String, Ask), FetchError> {
        let (subject, parent) = (
            Subject::new(inputs.iter().copied()),
            Secret::new("PARENT".to_owned()),
        );
        let call = Call {
            parent: Some(&parent),
            ..Call::new(&subject)
        };
        let secrets = Secrets::supplied(|_| Some("S\"3C".to_owned()));
        let values = Values::read(&call, &[SecretRef::Env("X".to_owned())], &secrets).unwrap();
        parts.fill(&values)
    }

    fn text(text: &str) -> Input<'_> {
        Input::Text(text)
    }

    #[test]
    fn values_in_a_target_are_percent_encoded() {
        let parts = RequestParts {
            query: vec![("q".to_owned(), template("{input.b}"))],
            ..parts("/shops/{input.a}/t?k={input.b}")
        };
        let (target, _) = fill(&parts, &[text("a/../b?c#d%"), text("x&y=z é")]).unwrap();
        assert_eq!(
            target,
            "/shops/a%2F..%2Fb%3Fc%23d%25/t?k=x%26y%3Dz%20%C3%A9&q=x%26y%3Dz+%C3%A9"
        );
    }

    #[test]
    fn no_value_can_name_another_path() {
        for value in [".", ".."] {
            assert!(fill(&parts("/a/{input.a}/b"), &[text(value)]).is_err());
        }
    }

    #[test]
    fn values_in_json_are_values_and_keep_their_type_where_they_are_alone() {
        let texts = Json::Object(vec![
            ("text".to_owned(), Json::Text("{input.a}")),
            ("minutes".to_owned(), Json::Text("{input.b|int(1..518400)}")),
            ("mixed".to_owned(), Json::Text("m={input.b}")),
            ("secret".to_owned(), Json::Text("{secret.x}")),
            (
                "list".to_owned(),
                Json::List(vec![Json::Plain(json!(true)), Json::Text("{parent}")]),
            ),
        ]);
        let request = RequestParts {
            body: Body::Json(texts.map(&mut |text| template(text))),
            ..parts("/")
        };
        let (_, ask) = fill(&request, &[text("\",\"admin\":\"1"), text("60")]).unwrap();
        let sent: Value = serde_json::from_slice(&ask.body).unwrap();
        assert_eq!(
            sent,
            json!({
                "text": "\",\"admin\":\"1",
                "minutes": 60,
                "mixed": "m=60",
                "secret": "S\"3C",
                "list": [true, "PARENT"],
            })
        );
        assert!(fill(&request, &[text("x"), text("0")]).is_err());
    }

    #[test]
    fn a_list_is_placed_as_a_list() {
        let root = Json::List(vec![Json::Object(vec![(
            "phones".to_owned(),
            Json::Text(template("{input.a}")),
        )])]);
        let request = RequestParts {
            body: Body::Json(root),
            ..parts("/")
        };
        let phones = Input::Json(r#"[{"hash":"x","primary":true}]"#);
        let (_, ask) = fill(&request, &[phones]).unwrap();
        let sent: Value = serde_json::from_slice(&ask.body).unwrap();
        assert_eq!(
            sent,
            json!([{ "phones": [{ "hash": "x", "primary": true }] }])
        );
    }

    #[test]
    fn values_in_a_form_are_parameters() {
        let request = RequestParts {
            body: Body::Form(vec![("p".to_owned(), template("{input.a}"))]),
            ..parts("/")
        };
        let (_, ask) = fill(&request, &[text("a&admin=1")]).unwrap();
        assert_eq!(&ask.body[..], b"p=a%26admin%3D1");
        assert_eq!(ask.headers[CONTENT_TYPE], exchange::FORM);
    }

    #[test]
    fn a_value_that_would_end_its_field_is_refused() {
        let request = RequestParts {
            headers: vec![(HeaderName::from_static("x-a"), template("a {input.a}"))],
            ..parts("/")
        };
        let (_, ask) = fill(&request, &[text("mid/1")]).unwrap();
        assert_eq!(ask.headers["x-a"], "a mid/1");
        assert!(ask.headers["x-a"].is_sensitive());
        for value in ["a\r\nX-Admin: 1", "a\nb", "a\0"] {
            let error = fill(&request, &[text(value)]).unwrap_err().to_string();
            assert!(!error.contains("Admin"), "{error}");
        }
    }
}
