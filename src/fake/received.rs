//! What a fake was sent.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::HangUp;

/// One request, whole. It knows tokens and secrets, so it does not print them.
#[derive(Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The target as it came: the path and the query, or a whole URI.
    pub target: String,
    /// Every field line: the name in lower case and the value, repetitions next to each other. Of HTTP/2, `:authority` too.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The trailer section, if one came.
    pub trailers: Vec<(String, String)>,
    /// When the body was complete.
    pub at: Instant,
}

impl Received {
    /// A request whose body has not been waited for.
    pub(super) fn head(request: &Request<Incoming>) -> Self {
        let uri = request.uri();
        let mut fields = lines(request.headers());
        let mut target = uri.to_string();
        if request.version() == Version::HTTP_2 {
            let authority = uri.authority().map_or("", |it| it.as_str());
            fields.push((":authority".to_owned(), authority.to_owned()));
            target = uri.path_and_query().map_or("", |it| it.as_str()).to_owned();
        }
        Self {
            method: request.method().clone(),
            target,
            fields,
            body: Bytes::new(),
            trailers: Vec::new(),
            at: Instant::now(),
        }
    }

    /// Waits for the whole request.
    ///
    /// # Errors
    ///
    /// If the client went away before its end.
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, HangUp> {
        let head = Self::head(&request);
        let body = request.into_body().collect().await.map_err(|_| HangUp)?;
        Ok(Self {
            trailers: body.trailers().map(lines).unwrap_or_default(),
            body: body.to_bytes(),
            at: Instant::now(),
            ..head
        })
    }

    /// The path of the target.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query of the target, without the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// Every value of the field `name`, which is in lower case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of the field `name`, if it came exactly once: a repeated field that must not be
    /// repeated is as bad as none.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The body as a form, read with a lenient eye.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The media type of the body, without parameters, in lower case.
    pub(super) fn media_type(&self) -> Option<String> {
        let value = self.field("content-type")?;
        let media_type = value
            .split_once(';')
            .map_or(value, |(media_type, _)| media_type);
        Some(media_type.trim_end().to_ascii_lowercase())
    }

    /// Whether the sender meant `host`. An address of this machine is also right: that is how a
    /// test without TLS finds a fake.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let Some(value) = self.field("host") else {
            return false;
        };
        let name = value.rsplit_once(':').map_or(value, |(name, _)| name);
        value == host
            || (name == host && value.ends_with(":443"))
            || name == "127.0.0.1"
            || name == "localhost"
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Received")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("fields", &names)
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn lines(fields: &HeaderMap) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}
