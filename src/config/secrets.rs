//! The secrets that a configuration refers to, and what is wrong with where they are kept.

use std::borrow::Cow;
use std::path::Path;

use super::compile::route::route_name;

use super::file::{ClientId, EgressFile, File, SourceFile, TlsFile};
use crate::provider::secret::{SecretRef, Secrets};
use crate::proxy::Plan;

/// A secret, and what it is for: something of a provider, of a route, or of the process.
struct Kept<'a> {
    provider: Option<&'a str>,
    route: Option<String>,
    key: Option<&'static str>,
    reference: Cow<'a, SecretRef>,
}

/// Tells which secrets cannot be read, before a request does, and which are everybody's to read. Neither is a reason not to
/// serve: a file may be mounted late, and is read when it is used.
pub(super) fn look_at(file: &File, plan: &Plan, secrets: &Secrets) {
    for kept in all(file, plan) {
        let (provider, key, reference) = (kept.provider, kept.key, kept.reference);
        let route = kept.route.as_deref();
        if let Err(error) = secrets.read(&reference) {
            let (error, advice) = (error.to_string(), error.advice());
            tracing::warn!(
                provider,
                route,
                key,
                error,
                advice,
                "a secret cannot be read"
            );
        } else if let Some(file) = reference.open_file() {
            let file = file.display();
            let advice =
                format!("let the user that pillion runs as own it, and `chmod 400 {file}`");
            tracing::warn!(
                provider,
                route,
                key,
                %file,
                advice,
                "every user of this machine may read a secret"
            );
        }
    }
}

fn all<'a>(file: &'a File, plan: &'a Plan) -> Vec<Kept<'a>> {
    let listener = file.listen.tls.as_ref();
    let mut all: Vec<_> = listener
        .map(|tls| private_key(&tls.key.value))
        .into_iter()
        .collect();
    all.extend(of_way(None, file.egress_proxy.as_ref()));
    for tokens in &plan.providers {
        let provider = tokens.provider();
        let references = provider.references().into_iter();
        all.extend(references.map(|reference| Kept {
            provider: Some(&provider.name),
            ..Kept::from(reference)
        }));
    }
    for provider in &file.providers {
        let (tls, egress) = match &provider.source {
            SourceFile::OAuth2(source) => (&source.tls, &source.egress_proxy),
            SourceFile::Http(source) | SourceFile::GraphQl(source) => {
                (&source.tls, &source.egress_proxy)
            }
            SourceFile::Static(_) | SourceFile::Jwt(_) => continue,
        };
        all.extend(of_way(tls.as_ref(), egress.as_ref()).map(|kept| Kept {
            provider: Some(&provider.name.value),
            ..kept
        }));
    }
    for route in &file.routes {
        let way = of_way(route.tls.as_ref(), route.egress_proxy.as_ref());
        all.extend(way.map(|kept| Kept {
            route: Some(route_name(route)),
            ..kept
        }));
    }
    all
}

/// What it takes to connect somewhere.
fn of_way<'a>(
    tls: Option<&'a TlsFile>,
    egress: Option<&'a EgressFile>,
) -> impl Iterator<Item = Kept<'a>> {
    let client = tls.and_then(|tls| tls.client.as_ref());
    let key = client.map(|client| private_key(&client.key.value));
    let user = match egress {
        Some(EgressFile::Through(proxy)) => proxy.user.as_ref(),
        Some(EgressFile::Directly) | None => None,
    };
    let user = user.into_iter().flat_map(|(name, password)| {
        let name = match name {
            ClientId::Reference(reference) => Some(reference),
            ClientId::Literal(_) => None,
        };
        name.into_iter().chain([password]).map(|reference| Kept {
            key: Some("egress_proxy"),
            ..Kept::from(reference)
        })
    });
    key.into_iter().chain(user)
}

fn private_key(path: &Path) -> Kept<'static> {
    Kept {
        provider: None,
        route: None,
        key: Some("tls"),
        reference: Cow::Owned(SecretRef::File(path.to_owned())),
    }
}

impl<'a> From<&'a SecretRef> for Kept<'a> {
    fn from(reference: &'a SecretRef) -> Self {
        Self {
            provider: None,
            route: None,
            key: None,
            reference: Cow::Borrowed(reference),
        }
    }
}
