//! What is asked for, and what is answered: the same for every client.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;

/// A kind of exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Get,
    Post,
}

/// What a client makes of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Get, Self::Post];

    /// Also what it is called in `benches/instructions/counts.txt`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET 1 KiB",
            Self::Post => "POST 1 KiB",
        }
    }

    const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
        }
    }

    /// What the request carries.
    pub(crate) const fn content(self) -> &'static [u8] {
        match self {
            Self::Get => b"",
            Self::Post => &CONTENT,
        }
    }

    /// A request as pillion rewrites it. What says how long it is comes from the client.
    pub(crate) fn request(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(self.content())));
        *request.method_mut() = self.method();
        *request.uri_mut() = "/v1/accounts/42/transactions?limit=20".parse().unwrap();
        let headers = request.headers_mut();
        for (name, value) in REQUEST {
            let name = HeaderName::from_static(name);
            headers.insert(name, HeaderValue::from_static(value));
        }
        request
    }

    /// The bytes of the answer.
    pub(crate) fn answer(self) -> Vec<u8> {
        let fields = ANSWER.map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", fields.concat());
        [head.as_bytes(), &CONTENT].concat()
    }
}

impl Answer {
    /// Whether it is the whole of what was said. Looks at no more than that costs next to nothing.
    pub(crate) fn is_right(&self) -> bool {
        self.status == StatusCode::OK
            && self.headers.len() >= ANSWER.len() - 1
            && self.body.len() == CONTENT.len()
    }
}

const CONTENT: [u8; 1024] = [b'x'; 1024];

const REQUEST: [(&str, &str); 10] = [
    ("host", "api.example.com"),
    ("user-agent", "app/1.0 (linux)"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, br"),
    ("accept-language", "en"),
    ("cache-control", "no-cache"),
    ("x-request-id", "5f0c7a3e-9f0b-4a43-8e0b-0c5e2f9f6a11"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    (
        "authorization",
        "Bearer bench-00000000000000000000000000000000",
    ),
    ("merchant-account", "acme"),
];

const ANSWER: [(&str, &str); 10] = [
    ("server", "nginx/1.22.1"),
    ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "1024"),
    ("connection", "keep-alive"),
    ("cache-control", "no-store"),
    ("vary", "accept-encoding"),
    ("etag", "\"5f0c7a3e\""),
    ("x-request-id", "5f0c7a3e-9f0b-4a43-8e0b-0c5e2f9f6a11"),
    ("strict-transport-security", "max-age=31536000"),
];
