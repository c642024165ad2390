//! What the app would do: one request over a real socket, and its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use crate::net::connect::{Endpoint, EndpointSettings};

/// A request as an app would write it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// From before the connection to after the last byte.
    pub(super) took: Duration,
}

/// Why nothing came back, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

impl NoAnswer {
    pub(super) fn because(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Call {
    pub(super) fn get(target: &str) -> Self {
        Self {
            method: Method::GET,
            target: target.to_owned(),
            fields: Vec::new(),
            body: String::new(),
        }
    }

    pub(super) fn post(target: &str) -> Self {
        Self {
            method: Method::POST,
            ..Self::get(target)
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn with_json(self, document: &serde_json::Value) -> Self {
        Self {
            body: document.to_string(),
            ..self.with("content-type", "application/json")
        }
    }

    /// `POST /path`, for people.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The same as a command.
    pub(super) fn to_curl(&self, address: SocketAddr) -> String {
        let mut command = format!("curl -s 'http://{address}{}'", self.target);
        for (name, value) in &self.fields {
            command.push_str(&format!(" -H '{name}: {value}'"));
        }
        if !self.body.is_empty() {
            command.push_str(&format!(" -d '{}'", self.body));
        } else if self.method != Method::GET {
            command.push_str(&format!(" -X {}", self.method));
        }
        command
    }

    /// Sends it to `address`, on a connection of its own.
    pub(super) async fn send(&self, address: SocketAddr) -> Result<Answer, NoAnswer> {
        timeout(PATIENCE, self.exchange(address))
            .await
            .unwrap_or_else(|_| Err(NoAnswer(format!("no answer within {PATIENCE:?}"))))
    }

    async fn exchange(&self, address: SocketAddr) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let endpoint = Endpoint::new(EndpointSettings {
            fingerprint: 0,
            host: address.ip().to_string(),
            port: address.port(),
            tls: None,
            socket: None,
            resolved: Some(address),
            egress_proxy: None,
            allow_plaintext: true,
            connect_timeout: PATIENCE,
        })
        .map_err(NoAnswer::because)?;
        let transport = endpoint.connect().await.map_err(NoAnswer::because)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(transport))
            .await
            .map_err(NoAnswer::because)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(&self.method).uri(&self.target);
        if !self.fields.iter().any(|(name, _)| name == "host") {
            request = request.header("host", address.to_string());
        }
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(self.body.as_bytes())))
            .map_err(NoAnswer::because)?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(NoAnswer::because)?;
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(NoAnswer::because)?
            .to_bytes();
        connection.abort();
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
            took: began.elapsed(),
        })
    }
}

impl Answer {
    /// The `detail` of a problem document (RFC 9457).
    pub(super) fn detail(&self) -> String {
        serde_json::from_str::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()))
            .unwrap_or_default()
    }
}

/// Where somebody on this machine calls a listener at `address`.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

const PATIENCE: Duration = Duration::from_secs(15);
