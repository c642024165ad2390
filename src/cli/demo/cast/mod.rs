//! Who plays: which systems of a configuration file have a stand-in, how to call them, and what secrets they take.

mod client;
mod concierge;
mod forage;
mod highnote;
mod part;
mod role;
mod stitch;
mod system;

use std::collections::HashMap;

use http::Uri;

pub(super) use self::concierge::PHONE;
pub(super) use self::part::Part;
use self::role::Role;
pub(super) use self::system::System;
use crate::config::compile::route::route_name;
use crate::config::file::{File, ProviderFile, RouteFile, SourceFile};
use crate::fake::{ClientKey, Systems};
use crate::provider::secret::{SecretRef, Secrets};

/// What the demo can show of a file.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// The routes that the tour takes, in the order of the file.
    parts: Vec<Part>,
    /// Providers that ask a stand-in for tokens, by their names.
    providers: Vec<(System, String)>,
    /// `host:port` of everything that is played.
    pub(super) hosts: Vec<String>,
    /// References of the file for which the demo makes up what is in them.
    pub(super) made_up: Vec<SecretRef>,
    /// Host and port of everything that is not: nothing of a demo leaves this machine.
    pub(super) elsewhere: Vec<(String, u16)>,
    /// What is not played, and why.
    pub(super) left_out: Vec<String>,
    supply: HashMap<SecretRef, String>,
}

impl Cast {
    /// Looks for what can be played in `file`. Stitch knows the public half of `key`.
    pub(super) fn of(file: &File, systems: &Systems, key: &ClientKey) -> Self {
        let mut cast = Self::default();
        let mut roles = HashMap::new();
        for provider in &file.providers {
            match role(provider, file, systems, key) {
                Ok(role) => {
                    roles.insert(provider.name.as_str(), (provider, role));
                }
                Err(why) => cast.leave_out(provider, &why),
            }
        }
        for provider in &file.providers {
            if parent(provider).is_some_and(|parent| !roles.contains_key(parent))
                && roles.remove(provider.name.as_str()).is_some()
            {
                cast.leave_out(provider, "its parent is left out");
            }
        }
        for provider in &file.providers {
            if let Some((_, role)) = roles.get(provider.name.as_str()) {
                cast.hire(provider, role);
            }
        }
        for route in &file.routes {
            match roles.get(route.provider.as_str()) {
                Some((provider, role)) if role.serves(route) => {
                    cast.take(Part::new(role.clone(), provider, route, file));
                }
                _ => cast.leave_out_route(route),
            }
        }
        cast
    }

    /// Supplies what was made up; everything else is read where the file says.
    pub(super) fn secrets(&self) -> Secrets {
        let supply = self.supply.clone();
        Secrets::supplied(move |reference| supply.get(reference).cloned())
    }

    /// What was made up.
    pub(super) fn made_up_values(&self) -> impl Iterator<Item = &str> {
        self.supply.values().map(String::as_str)
    }

    /// The routes to `system`, in the order of the file.
    pub(super) fn parts(&self, system: System) -> impl DoubleEndedIterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.system == system)
    }

    /// The providers that ask `system` for tokens.
    pub(super) fn providers(&self, system: System) -> impl Iterator<Item = &str> {
        let of_system = self.providers.iter().filter(move |(it, _)| *it == system);
        of_system.map(|(_, provider)| provider.as_str())
    }

    fn hire(&mut self, provider: &ProviderFile, role: &Role) {
        for (reference, value) in &role.secrets {
            if !self.supply.contains_key(reference) {
                self.supply.insert(reference.clone(), value.clone());
                self.made_up.push(reference.clone());
            }
        }
        if !matches!(provider.source, SourceFile::Static(_)) {
            let name = provider.name.value.clone();
            self.providers.push((role.system, name));
            self.name_host(role.system.token_host());
        }
    }

    fn take(&mut self, part: Part) {
        if !part.hands_out() {
            self.name_host(part.system.api_host());
        }
        if part.can_be_called() {
            self.parts.push(part);
        } else {
            self.left_out
                .push(format!("route {}: the tour takes another way", part.route));
        }
    }

    fn leave_out(&mut self, provider: &ProviderFile, why: &str) {
        for url in system::urls(provider) {
            self.cut_off(url);
        }
        self.left_out
            .push(format!("provider {}: {why}", provider.name.as_str()));
    }

    fn leave_out_route(&mut self, route: &RouteFile) {
        let host = route.upstream.as_ref().and_then(|it| it.host());
        let host = host.unwrap_or("the app itself");
        if let Some(upstream) = &route.upstream {
            self.cut_off(upstream);
        }
        self.left_out.push(format!(
            "route {}: {host} with the token of {} has no stand-in",
            route_name(route),
            route.provider.as_str()
        ));
    }

    fn cut_off(&mut self, uri: &Uri) {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let default = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        self.elsewhere
            .push((host.to_ascii_lowercase(), uri.port_u16().unwrap_or(default)));
    }

    fn name_host(&mut self, host: &str) {
        let host = format!("{host}:443");
        if !self.hosts.contains(&host) {
            self.hosts.push(host);
        }
    }
}

/// Who makes the tokens of `provider`, and what they are good for; or why nobody does.
fn role(
    provider: &ProviderFile,
    file: &File,
    systems: &Systems,
    key: &ClientKey,
) -> Result<Role, String> {
    let source = &provider.source;
    let system = match source {
        SourceFile::OAuth2(_) | SourceFile::Http(_) | SourceFile::GraphQl(_) => {
            let host = system::urls(provider).next().and_then(Uri::host);
            let host = host.unwrap_or_default();
            System::of_provider(provider).ok_or_else(|| format!("{host} has no stand-in"))?
        }
        SourceFile::Static(_) if is_key_of_highnote(provider, file) => System::Highnote,
        SourceFile::Static(_) => return Err("its secret is the token".to_owned()),
        SourceFile::Jwt(_) => return Err("it signs its own tokens".to_owned()),
    };
    match system {
        System::Stitch => stitch::role(source, &systems.stitch, key),
        System::Forage => forage::role(source, &systems.forage),
        System::Concierge => concierge::role(source, &systems.concierge),
        System::Highnote => highnote::role(source, &systems.highnote),
    }
}

/// A key says nowhere what it is for; those who use it do.
fn is_key_of_highnote(key: &ProviderFile, file: &File) -> bool {
    let name = Some(key.name.as_str());
    let is_highnote = |system| system == Some(System::Highnote);
    let mut users = file
        .routes
        .iter()
        .filter(|it| Some(it.provider.as_str()) == name);
    let mut children = file.providers.iter().filter(|it| parent(it) == name);
    users.any(|route| is_highnote(route.upstream.as_deref().and_then(System::of_api)))
        || children.any(|child| is_highnote(System::of_provider(child)))
}

fn parent(provider: &ProviderFile) -> Option<&str> {
    match &provider.source {
        SourceFile::Http(exchange) | SourceFile::GraphQl(exchange) => {
            exchange.parent.as_deref().map(String::as_str)
        }
        SourceFile::OAuth2(_) | SourceFile::Static(_) | SourceFile::Jwt(_) => None,
    }
}
