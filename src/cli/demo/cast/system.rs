//! The systems that have a stand-in.

use http::Uri;

use crate::config::file::{ProviderFile, SourceFile};
use crate::fake::{Concierge, Forage, Highnote, Stitch};

/// A system that has a stand-in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli::demo) enum System {
    Stitch,
    Forage,
    Concierge,
    Highnote,
}

impl System {
    pub(in crate::cli::demo) const ALL: [Self; 4] =
        [Self::Stitch, Self::Forage, Self::Concierge, Self::Highnote];

    pub(in crate::cli::demo) const fn name(self) -> &'static str {
        match self {
            Self::Stitch => "Stitch",
            Self::Forage => "Forage",
            Self::Concierge => "Concierge",
            Self::Highnote => "Highnote",
        }
    }

    /// What its tokens are.
    pub(in crate::cli::demo) const fn tokens(self) -> &'static str {
        match self {
            Self::Stitch => "client tokens, by secret and by certificate",
            Self::Forage => "an authentication token, and from it one for each merchant",
            Self::Concierge => "a backend token, and from it tokens for customers",
            Self::Highnote => "an API key, and from it tokens for one thing each",
        }
    }

    pub(in crate::cli::demo) const fn token_host(self) -> &'static str {
        match self {
            Self::Stitch => Stitch::SECURE_HOST,
            Self::Forage => Forage::HOST,
            Self::Concierge => Concierge::HOST,
            Self::Highnote => Highnote::HOST,
        }
    }

    pub(in crate::cli::demo) const fn api_host(self) -> &'static str {
        match self {
            Self::Stitch => Stitch::API_HOST,
            Self::Forage | Self::Concierge | Self::Highnote => self.token_host(),
        }
    }

    /// The one from whose token endpoint `provider` has its tokens: all of its requests go there.
    pub(super) fn of_provider(provider: &ProviderFile) -> Option<Self> {
        let mut urls = urls(provider);
        let first = urls.next()?;
        let system = Self::ALL
            .into_iter()
            .find(|system| is_at(first, system.token_host()))?;
        urls.all(|url| is_at(url, system.token_host()))
            .then_some(system)
    }

    /// The one whose API is `upstream`.
    pub(super) fn of_api(upstream: &Uri) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|system| is_at(upstream, system.api_host()))
    }
}

/// Where a provider sends requests.
pub(super) fn urls(provider: &ProviderFile) -> impl Iterator<Item = &Uri> {
    let (endpoint, exchange) = match &provider.source {
        SourceFile::OAuth2(oauth2) => (Some(&oauth2.token_endpoint.value), None),
        SourceFile::Http(exchange) | SourceFile::GraphQl(exchange) => (None, Some(exchange)),
        SourceFile::Static(_) | SourceFile::Jwt(_) => (None, None),
    };
    let requests = exchange
        .into_iter()
        .flat_map(|exchange| exchange.requests());
    let urls = requests.filter_map(|request| Some(&request.url.as_ref()?.origin.value));
    endpoint.into_iter().chain(urls)
}

fn is_at(uri: &Uri, host: &str) -> bool {
    let is_host = uri.host().is_some_and(|it| it.eq_ignore_ascii_case(host));
    is_host && uri.scheme_str() == Some("https") && uri.port_u16().unwrap_or(443) == 443
}
