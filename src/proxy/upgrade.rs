//! What may follow HTTP on a connection (RFC 9110 §7.8): WebSocket, and whatever else a route allows.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::net::connect::Transport;

/// The protocols that a route lets its callers ask the upstream for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Upgrades(pub Vec<HeaderValue>);

impl Upgrades {
    /// The first allowed protocol that a request asks for. None where it has content, which could be taken for the new
    /// protocol's, or is not HTTP/1.1: it goes on as if it had not asked, which any server may make of it.
    #[must_use]
    pub fn asked_for(
        &self,
        version: Version,
        headers: &HeaderMap,
        has_content: bool,
    ) -> Option<&HeaderValue> {
        if !headers.keys().any(|name| *name == UPGRADE)
            || version != Version::HTTP_11
            || has_content
            || !members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        {
            return None;
        }
        members(headers, &UPGRADE).find_map(|protocol| {
            let is_it = |allowed: &&HeaderValue| allowed.as_bytes().eq_ignore_ascii_case(protocol);
            self.0.iter().find(is_it)
        })
    }
}

/// The members of a field that is a list (RFC 9110 §5.6.1).
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// A connection to the upstream that speaks another protocol from now on.
pub(super) struct Upgraded {
    /// The connection.
    pub(super) upstream: Transport,
    /// What the upstream has said in the new protocol already.
    pub(super) early: Bytes,
    /// How long it may stand still once one side has ended.
    pub(super) idle: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&'static str, &'static str)], version: Version, has_content: bool) -> bool {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let allowed = Upgrades(vec![HeaderValue::from_static("websocket")]);
        let headers = fields.collect();
        let asked = allowed.asked_for(version, &headers, has_content);
        asked.is_some()
    }

    #[test]
    fn an_allowed_protocol_is_asked_for_by_both_fields_and_without_content() {
        const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
        for protocol in ["websocket", "WebSocket", "h2c , websocket"] {
            let fields = [CONNECTION, ("upgrade", protocol)];
            assert!(asked(&fields, Version::HTTP_11, false), "{protocol}");
            assert!(!asked(&fields, Version::HTTP_11, true));
            assert!(!asked(&fields, Version::HTTP_10, false));
            assert!(!asked(&fields, Version::HTTP_2, false));
        }
        for protocol in ["h2c", "websocket/13", "websockets", "TLS/1.0", ""] {
            let fields = [CONNECTION, ("upgrade", protocol)];
            assert!(!asked(&fields, Version::HTTP_11, false), "{protocol}");
        }
        let unconnected = [("connection", "keep-alive"), ("upgrade", "websocket")];
        assert!(!asked(&unconnected, Version::HTTP_11, false));
        assert!(!asked(&[CONNECTION], Version::HTTP_11, false));
    }
}
