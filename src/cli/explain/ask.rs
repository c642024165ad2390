//! The request that is asked about, as its caller would send it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::{Authority, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;

use crate::proxy::Plan;
use crate::proxy::explain::{self, Explanation};

/// A request, and the address that it is sent to.
pub struct Ask {
    method: Method,
    /// As it stands in the request line.
    target: String,
    uri: Uri,
    authority: Authority,
    headers: HeaderMap,
    body: Bytes,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What is no request.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The method.
    #[error("`{0}` is not a method")]
    Method(String),
    /// The URL.
    #[error("`{0}` is not a URL that pillion can be called with")]
    Url(String),
    /// A field. Its value is not repeated.
    #[error("`-H` wants a name, a colon and a value")]
    Field,
}

impl AskError {
    /// What to type instead.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Method(_) => "write GET, POST, ...: `pillion explain GET /path`",
            Self::Url(_) => "write `http://localhost:8080/path`, or `/path` alone",
            Self::Field => "write `-H 'Name: value'`",
        }
    }
}

impl Ask {
    /// Reads what was typed. As with curl, a body without a `Content-Type` is a form.
    ///
    /// # Errors
    ///
    /// When no HTTP client could send it.
    pub fn parse(
        method: &str,
        url: &str,
        fields: &[String],
        body: Option<&str>,
    ) -> Result<Self, AskError> {
        let bad_method = |_| AskError::Method(method.to_owned());
        let bad_url = || AskError::Url(url.to_owned());
        let method = Method::from_bytes(method.as_bytes()).map_err(bad_method)?;
        let (authority, target) = split(url).ok_or_else(bad_url)?;
        let authority: Authority = authority.parse().map_err(|_| bad_url())?;
        let uri: Uri = target.parse().map_err(|_| bad_url())?;
        let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let mut headers = HeaderMap::new();
        for field in fields {
            let (name, value) = parse_field(field).ok_or(AskError::Field)?;
            headers.append(name, value);
        }
        if !headers.contains_key(HOST) {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad_url())?;
            headers.insert(HOST, host);
        }
        if let Some(body) = &body {
            headers.entry(CONTENT_TYPE).or_insert(FORM);
            headers.entry(CONTENT_LENGTH).or_insert(body.len().into());
        }
        Ok(Self {
            method,
            target,
            uri,
            authority,
            headers,
            body: body.unwrap_or_default(),
        })
    }

    /// What `plan` makes of it, for a proxy that listens there and keeps so many bytes of bodies.
    pub async fn explain(
        &self,
        plan: &Plan,
        listen: &[SocketAddr],
        replay_budget_bytes: usize,
    ) -> Explanation {
        let local = self.local(listen);
        explain::explain(
            plan,
            &self.head(),
            self.request(),
            local,
            replay_budget_bytes,
        )
        .await
    }

    /// Its method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Its target, as it was typed.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Where it is sent, as it was typed.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its fields.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its content.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The bytes of its head.
    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The address that it arrives at: the one that its URL says, where that is listened on.
    fn local(&self, listen: &[SocketAddr]) -> Option<SocketAddr> {
        let host = self.authority.host();
        let called: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let listens = |ip: &IpAddr| {
            listen
                .iter()
                .any(|it| it.ip() == *ip || it.ip().is_unspecified())
        };
        match called.filter(listens) {
            Some(ip) => Some(SocketAddr::new(ip, self.authority.port_u16().unwrap_or(80))),
            None => listen.first().copied(),
        }
    }
}

/// Authority and target of a URL, both as they are: what makes a target a bad one is part of the question.
fn split(url: &str) -> Option<(&str, String)> {
    if url.starts_with('/') {
        return Some(("localhost", url.to_owned()));
    }
    let rest = url.strip_prefix("http://")?;
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some((authority, format!("{slash}{target}")))
}

fn parse_field(field: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = field.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let value = HeaderValue::from_str(value.trim()).ok()?;
    Some((name, value))
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
