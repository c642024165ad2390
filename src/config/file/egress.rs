//! `egress_proxy`: the HTTP proxy through which connections leave, of the process, a provider or a route.

use std::net::IpAddr;

use toml::de::DeValue;

use super::provider::ClientId;
use super::reader::{Table, Value, wrong_type};
use super::secret::secret;
use super::url::{authority, show_if_public, url};
use super::value::{boolean, hidden_string, one_or_list, string};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::secret::SecretRef;

/// How connections leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EgressFile {
    /// `false`
    Directly,
    /// `"http://proxy.example.com:3128"`, or `{ url = .., .. }`
    Through(EgressProxyFile),
}

/// An HTTP proxy that is asked for tunnels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EgressProxyFile {
    /// Its host, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who asks: name and password.
    pub user: Option<(ClientId, SecretRef)>,
    /// Hosts that are connected to directly all the same.
    pub no_proxy: Vec<NoProxy>,
}

/// One element of `no_proxy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoProxy {
    /// `"api.internal"`: this very name, in lower case.
    Name(String),
    /// `".internal"`: every name that ends so, in lower case.
    Below(String),
    /// `"10.0.0.0/8"`: addresses that begin with so many bits; one address has all of them.
    Network(IpAddr, u32),
}

impl NoProxy {
    /// Whether it is about this host: its name in lower case, and its address if that is known without the network.
    pub(in crate::config) fn covers(&self, name: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(end) => name.ends_with(end.as_str()),
            Self::Network(network, bits) => {
                address.is_some_and(|it| begins_like(it.to_canonical(), *network, *bits))
            }
        }
    }
}

fn begins_like(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let differing = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    differing >= bits
}

/// Reads `egress_proxy`.
pub(super) fn egress_proxy(value: &Value<'_>, report: &mut Report) -> Option<EgressFile> {
    let proxy = match value.get_ref() {
        DeValue::Boolean(_) => return is_direct(value, report),
        DeValue::String(_) => {
            let (host, port) = place(value, report)?;
            EgressProxyFile {
                host,
                port,
                user: None,
                no_proxy: Vec::new(),
            }
        }
        DeValue::Table(_) => whole(value, report)?,
        _ => {
            wrong_type(value, "a URL, a table or false", report);
            return None;
        }
    };
    Some(EgressFile::Through(proxy))
}

fn is_direct(value: &Value<'_>, report: &mut Report) -> Option<EgressFile> {
    if boolean(value, report)? {
        report.push(
            Diagnostic::error("this does not say through which proxy", value.span())
                .hint(format!("write its URL, like \"{EXAMPLE}\"")),
        );
        return None;
    }
    Some(EgressFile::Directly)
}

fn whole(value: &Value<'_>, report: &mut Report) -> Option<EgressProxyFile> {
    let mut table = Table::of(value, report)?;
    let url = table.require("url", &format!("url = \"{EXAMPLE}\""), report, place);
    let has = (table.has("username"), table.has("password"));
    let username = table.read("username", report, username);
    let password = table.read("password", report, secret);
    let no_proxy = table.read("no_proxy", report, |value, report| {
        one_or_list(value, report, no_proxy)
    });
    if let (true, false) | (false, true) = has {
        let (there, missing, example) = if has.0 {
            (
                "username",
                "password",
                "password = { env = \"PROXY_PASSWORD\" }",
            )
        } else {
            ("password", "username", "username = \"...\"")
        };
        report.push(
            Diagnostic::error(format!("`{there}` without `{missing}`"), value.span())
                .hint(format!("add `{example}`")),
        );
    }
    table.finish(report);
    let (host, port) = url?.value;
    let user = username.zip(password);
    let no_proxy: Vec<Spanned<NoProxy>> = value_or(no_proxy, Vec::new());
    Some(EgressProxyFile {
        host,
        port,
        user: user.map(|(name, password)| (name.value, password.value)),
        no_proxy: no_proxy.into_iter().map(|it| it.value).collect(),
    })
}

/// Host and port of the proxy's URL.
fn place(value: &Value<'_>, report: &mut Report) -> Option<(String, u16)> {
    let text = hidden_string(value, "a URL", report)?;
    let wrong = |message: &str| Diagnostic::error(message, value.span());
    let is_public = show_if_public(text, value.span(), report);
    if authority(text).contains('@') {
        report.push(wrong("a URL cannot have a user or a password in it").hint(format!(
            "write {{ url = \"{EXAMPLE}\", username = \"...\", password = {{ env = \"PROXY_PASSWORD\" }} }}"
        )));
        return None;
    }
    let mistake = match text.split_once("://") {
        Some(("http", _)) => None,
        Some(("https", _)) => Some(
            wrong("TLS to the egress proxy itself is not supported")
                .hint("begin the URL with `http://`")
                .note("what goes through the proxy to an https:// URL is encrypted all the same"),
        ),
        Some(_) => Some(
            wrong("an egress proxy is an HTTP proxy")
                .hint("begin the URL with `http://`: the proxy is asked for tunnels with CONNECT"),
        ),
        None if is_public => Some(wrong("expected a URL").hint(format!("write \"http://{text}\""))),
        None => Some(wrong("expected a URL").hint(format!("write something like \"{EXAMPLE}\""))),
    };
    if let Some(mistake) = mistake {
        report.push(mistake);
        return None;
    }
    let url = url(text, value.span(), report)?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        report.push(
            wrong("the URL of an egress proxy ends after its port")
                .hint(format!("leave out what follows, like \"{EXAMPLE}\"")),
        );
        return None;
    }
    let Some(port) = url.port_u16() else {
        report.push(
            wrong("the port of the egress proxy is missing")
                .hint(format!("add it, like \"{EXAMPLE}\"")),
        );
        return None;
    };
    let host = url.host()?.trim_matches(['[', ']']);
    Some((host.to_ascii_lowercase(), port))
}

/// A name with a colon in it could not be told from its password (RFC 7617 §2).
fn username(value: &Value<'_>, report: &mut Report) -> Option<ClientId> {
    let text = match value.get_ref() {
        DeValue::Table(_) => return secret(value, report).map(ClientId::Reference),
        DeValue::String(text) => text,
        _ => {
            let wanted = "a string or a reference like { env = \"NAME\" }";
            wrong_type(value, wanted, report);
            return None;
        }
    };
    if text.is_empty() || text.contains(|c: char| c == ':' || c.is_control()) {
        report.push(
            Diagnostic::error("this cannot be the name of a user", value.span())
                .hint("write the name without its password: a name has no colon"),
        );
        return None;
    }
    Some(ClientId::Literal(text.as_ref().to_owned()))
}

fn no_proxy(value: &Value<'_>, report: &mut Report) -> Option<NoProxy> {
    let text = string(value, "a host, a domain or a network", report)?;
    let parsed = network(text).or_else(|| name(text));
    if parsed.is_none() {
        let diagnostic = Diagnostic::error("expected a host, a domain or a network", value.span());
        report.push(if text == "*" {
            diagnostic.hint("write `egress_proxy = false` where nothing goes through the proxy")
        } else if text.contains('*') {
            diagnostic.hint("a domain begins with a dot, and there is no `*`: write \".internal\"")
        } else {
            diagnostic.hint("write something like \"api.internal\", \".internal\" or \"10.0.0.0/8\", without a scheme or a port")
        });
    }
    parsed
}

fn network(text: &str) -> Option<NoProxy> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), str::parse).ok()?;
    (bits <= most).then_some(NoProxy::Network(address, bits))
}

fn name(text: &str) -> Option<NoProxy> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix('.').unwrap_or(&lower);
    let is_name = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
    is_name.then_some(if lower.starts_with('.') {
        NoProxy::Below(lower)
    } else {
        NoProxy::Name(lower)
    })
}

const EXAMPLE: &str = "http://proxy.example.com:3128";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_exact_and_a_domain_is_what_is_below_it() {
        for (text, name, covers) in [
            ("api.internal", "api.internal", true),
            ("API.internal", "api.internal", true),
            ("api.internal", "v2.api.internal", false),
            (".internal", "api.internal", true),
            (".internal", "v2.api.internal", true),
            (".internal", "internal", false),
            (".internal", "api.notinternal", false),
        ] {
            let covered = super::name(text).unwrap().covers(name, None);
            assert_eq!(covered, covers, "{text} {name}");
        }
    }

    #[test]
    fn a_network_is_about_addresses() {
        for (text, address, covers) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "a00::1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ] {
            let network = network(text).unwrap();
            let covered = network.covers("name", address.parse().ok());
            assert_eq!(covered, covers, "{text} {address}");
            assert!(!network.covers("name", None));
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "fd00::/129"] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
