//! Who calls: the app, or a web page in a developer's browser that would like to reach the bank through localhost.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

use super::problem::ProxyError;

/// `[listen] hosts` and `require_header`, and the hosts that routes name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CallerRules {
    /// Names under which this listener may be called, in lower case.
    pub hosts: Vec<String>,
    /// A field that every request must bring; no web page can send it to another origin unasked.
    pub require_header: Option<HeaderName>,
}

impl CallerRules {
    /// Lets the app pass and nobody else, and tells the host that it calls: without its port and in whatever case, empty
    /// where HTTP/1.0 does not say. `local` is the address that was connected to, if it has one.
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadFraming`] or [`ProxyError::BadTarget`] where the request does not say whom it calls,
    /// [`ProxyError::ForbiddenCaller`] where it calls somebody else or comes from a web page.
    pub fn check<'a>(
        &self,
        version: Version,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        local: Option<SocketAddr>,
    ) -> Result<Cow<'a, str>, ProxyError> {
        let mut host = HostField::Absent;
        let (mut is_cross_site, mut is_foreign) = (false, false);
        // In one pass, which costs less than to look each of them up.
        for (name, value) in headers {
            if *name == HOST {
                host = match host {
                    HostField::Absent => HostField::One(value),
                    HostField::One(_) | HostField::Several => HostField::Several,
                };
            } else if *name == SEC_FETCH_SITE {
                is_cross_site |= value.as_bytes().eq_ignore_ascii_case(b"cross-site");
            } else if *name == ORIGIN {
                is_foreign |= !self.is_own_origin(value.to_str().unwrap_or_default(), local);
            }
        }
        let host = called_host(version, uri, host)?;
        if !host.is_empty() && !self.is_ours(&host, local) {
            return Err(ProxyError::ForbiddenCaller(
                "the Host is not this listener's: add it to `hosts` under [listen] if it should be",
            ));
        }
        if is_cross_site {
            return Err(ProxyError::ForbiddenCaller(
                "a web page of another site asks for this",
            ));
        }
        if is_foreign {
            return Err(ProxyError::ForbiddenCaller(
                "a web page of another origin asks for this",
            ));
        }
        if let Some(required) = &self.require_header
            && !headers.contains_key(required)
        {
            return Err(ProxyError::ForbiddenCaller(
                "the header that `require_header` under [listen] names is missing",
            ));
        }
        Ok(host)
    }

    fn is_ours(&self, host: &str, local: Option<SocketAddr>) -> bool {
        let is_local = |ip: IpAddr| ip.is_loopback() || local.is_some_and(|it| it.ip() == ip);
        host.eq_ignore_ascii_case("localhost")
            || host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .is_ok_and(is_local)
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    fn is_own_origin(&self, origin: &str, local: Option<SocketAddr>) -> bool {
        origin
            .split_once("://")
            .and_then(|(_, authority)| authority.parse::<Authority>().ok())
            .is_some_and(|authority| self.is_ours(authority.host(), local))
    }
}

/// The `Host` fields of a request.
#[derive(Clone, Copy)]
enum HostField<'a> {
    Absent,
    One(&'a HeaderValue),
    Several,
}

/// The host that a request calls, without its port and in the case that the request has: of the authority of
/// absolute-form or of HTTP/2, or else of the one `Host` field (RFC 9112 §3.2). Empty where HTTP/1.0 does not say.
fn called_host<'a>(
    version: Version,
    uri: &'a Uri,
    field: HostField<'a>,
) -> Result<Cow<'a, str>, ProxyError> {
    if uri.authority().is_none()
        && let HostField::One(value) = field
        && let Some(host) = plain_host(value)
    {
        return Ok(host.into());
    }
    let host = single_host(field)?;
    if let Some(authority) = uri.authority()
        && !(matches!(uri.scheme_str(), Some("http" | "https")) && is_host_and_port(authority))
    {
        return Err(ProxyError::BadTarget(
            "the target is neither a path nor http:// with a host and a port",
        ));
    }
    match (&host, uri.authority(), version) {
        // HTTP/1.0 knows no Host.
        (None, _, Version::HTTP_10) | (None, Some(_), Version::HTTP_2) => {}
        // The field is for gateways that came from HTTP/1.1 (RFC 9113 §8.3.1), and may not say otherwise.
        (Some(host), Some(authority), Version::HTTP_2) if host != authority => {
            return Err(ProxyError::BadFraming("the Host is not the :authority"));
        }
        (None, _, _) => return Err(ProxyError::BadFraming("the request has no Host")),
        (Some(_), _, _) => {}
    }
    let authority = uri.authority().or(host.as_ref());
    Ok(authority.map_or("", Authority::host).to_owned().into())
}

// Without userinfo (RFC 9110 §4.2.4), and with a number after the colon, if anything.
fn is_host_and_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}

/// The host of a `Host` field, if it is written in the way that nearly every one is: in letters, digits, dots and
/// hyphens, with a port or without.
fn plain_host(value: &HeaderValue) -> Option<&str> {
    let value = value.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let end = value.bytes().position(|byte| !is_plain(byte));
    let (host, port) = value.split_at(end.unwrap_or(value.len()));
    let is_port = match port.as_bytes() {
        [] => true,
        // Fewer digits than the largest port has.
        [b':', digits @ ..] => {
            matches!(digits.len(), 1..=4) && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    (!host.is_empty() && is_port).then_some(host)
}

fn single_host(field: HostField<'_>) -> Result<Option<Authority>, ProxyError> {
    let value = match field {
        HostField::Absent => return Ok(None),
        HostField::One(value) => value,
        HostField::Several => {
            return Err(ProxyError::BadFraming("the request has more than one Host"));
        }
    };
    let authority = value
        .to_str()
        .ok()
        .and_then(|value| value.parse::<Authority>().ok());
    match authority {
        Some(authority) if is_host_and_port(&authority) => Ok(Some(authority)),
        _ => Err(ProxyError::BadFraming("the Host is not a host and a port")),
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(fields: &[(&str, &str)]) -> Result<(), ProxyError> {
        let rules = CallerRules {
            hosts: vec!["pillion.internal".to_owned()],
            require_header: None,
        };
        let mut request = Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let local = "10.1.2.3:8080".parse().ok();
        let host = rules.check(head.version, &head.uri, &head.headers, local);
        host.map(drop)
    }

    #[test]
    fn the_listener_is_called_by_its_own_names_only() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.1.2.3",
            "pillion.internal",
        ] {
            assert!(check(&[("host", host)]).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            "127.0.0.1.nip.io",
        ] {
            let refused = check(&[("host", host)]);
            assert!(
                matches!(refused, Err(ProxyError::ForbiddenCaller(_))),
                "{host}"
            );
        }
    }

    #[test]
    fn there_is_exactly_one_host_and_it_is_one() {
        for fields in [
            vec![],
            vec![("host", "localhost"), ("host", "localhost")],
            vec![("host", "a@localhost")],
            vec![("host", "local host")],
            vec![("host", "")],
        ] {
            assert!(
                matches!(check(&fields), Err(ProxyError::BadFraming(_))),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn web_pages_of_other_origins_are_kept_out() {
        let local = ("host", "localhost:8080");
        for fetched in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert!(check(&[local, fetched]).is_err(), "{fetched:?}");
        }
        assert!(check(&[local, ("origin", "http://localhost:3000")]).is_ok());
        assert!(check(&[local, ("sec-fetch-site", "same-origin")]).is_ok());
    }
}
