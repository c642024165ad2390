//! The part of [`compile`](super::compile) that is about the way out of this network.

use std::net::SocketAddr;
use std::sync::Arc;

use super::oauth2::client_id;
use crate::config::file::{EgressFile, EgressProxyFile};
use crate::net::tunnel::{Authorization, EgressProxy};
use crate::provider::egress::ProxyUser;
use crate::provider::secret::Secrets;

/// The proxy that leads to a host, unless it is connected to directly: because the file says so, or because it is on
/// this machine. The host's name is in lower case, and `resolved` is where it is if the file knows.
pub(super) fn proxy_for<'a>(
    egress: Option<&'a EgressFile>,
    host: &str,
    resolved: Option<SocketAddr>,
) -> Option<&'a EgressProxyFile> {
    let Some(EgressFile::Through(proxy)) = egress else {
        return None;
    };
    let address = resolved
        .map(|resolved| resolved.ip())
        .or_else(|| host.parse().ok());
    let is_here = match address {
        Some(address) => address.to_canonical().is_loopback(),
        None => host == "localhost",
    };
    let is_excepted = proxy.no_proxy.iter().any(|it| it.covers(host, address));
    (!is_here && !is_excepted).then_some(proxy)
}

/// Who asks it, by which connections through it are told apart.
pub(super) fn user(file: &EgressProxyFile) -> Option<ProxyUser> {
    let (name, password) = file.user.as_ref()?;
    Some(ProxyUser {
        username: client_id(name),
        password: password.clone(),
    })
}

pub(super) fn egress_proxy(
    file: &EgressProxyFile,
    user: Option<ProxyUser>,
    secrets: &Secrets,
) -> EgressProxy {
    EgressProxy {
        host: file.host.clone(),
        port: file.port,
        authorization: user.map(|user| {
            let secrets = secrets.clone();
            Authorization::new(move || match user.authorization(&secrets) {
                Ok(value) => Ok(value),
                Err(error) => Err(Arc::new(error)),
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::file::NoProxy;

    fn is_proxied(host: &str, resolved: Option<&str>) -> bool {
        let egress = EgressFile::Through(EgressProxyFile {
            host: "proxy.example".to_owned(),
            port: 3128,
            user: None,
            no_proxy: vec![
                NoProxy::Below(".internal".to_owned()),
                NoProxy::Network(IpAddr::from([10, 0, 0, 0]), 8),
            ],
        });
        let resolved = resolved.map(|address| address.parse().unwrap());
        proxy_for(Some(&egress), host, resolved).is_some()
    }

    #[test]
    fn this_machine_and_what_is_excepted_are_connected_to_directly() {
        for host in ["localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!is_proxied(host, None), "{host}");
        }
        assert!(is_proxied("api.example", None));
        assert!(is_proxied("192.0.2.1", None));
        assert!(!is_proxied("10.1.2.3", None));
        assert!(!is_proxied("api.internal", None));
    }

    #[test]
    fn what_the_file_resolves_is_judged_by_where_it_is() {
        assert!(!is_proxied("api.example", Some("127.0.0.1:9443")));
        assert!(!is_proxied("api.example", Some("10.1.2.3:443")));
        assert!(is_proxied("api.example", Some("192.0.2.1:443")));
        assert!(is_proxied("localhost", Some("192.0.2.1:443")));
    }
}
