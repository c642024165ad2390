//! Who plays: which systems of a configuration file have a stand-in, how to call them, and what secrets they take.

use std::collections::HashMap;

use http::{Method, Uri};
use serde_json::json;

use super::call::Call;
use crate::config::compile::route::route_name;
use crate::config::file::{
    ClientAuth, ClientId, File, GrantFile, OAuth2File, PathSegment, ProviderFile, RouteFile,
    SourceFile,
};
use crate::fake::{Forage, Stitch, Systems};
use crate::provider::secret::{SecretRef, Secrets};
use crate::provider::template::Reference;

/// What the demo can show of a file.
#[derive(Debug, Default)]
pub(super) struct Cast {
    pub(super) stitch: Option<Part>,
    pub(super) forage: Option<Part>,
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

/// One route of the file, to a system that is played.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) system: System,
    /// As in metrics.
    pub(super) provider: String,
    pub(super) route: String,
    file: RouteFile,
    /// A field that every caller must bring.
    required: Option<String>,
}

/// A system that has a stand-in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum System {
    Stitch,
    Forage,
}

/// The merchant of the demo, where a route wants one; whatever else it wants to know is the same.
pub(super) const SUBJECT: &str = "1234567";

impl System {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stitch => "Stitch",
            Self::Forage => "Forage",
        }
    }

    pub(super) const fn token_host(self) -> &'static str {
        match self {
            Self::Stitch => Stitch::SECURE_HOST,
            Self::Forage => Forage::HOST,
        }
    }

    pub(super) const fn api_host(self) -> &'static str {
        match self {
            Self::Stitch => Stitch::API_HOST,
            Self::Forage => Forage::HOST,
        }
    }

    fn of_token_endpoint(uri: &Uri) -> Option<Self> {
        [Self::Stitch, Self::Forage]
            .into_iter()
            .find(|system| is_at(uri, system.token_host()))
    }

    /// What a client reads, and what it does that must not happen twice.
    const fn paths(self) -> (&'static str, &'static str) {
        match self {
            Self::Stitch => ("/graphql", "/graphql"),
            Self::Forage => ("/api/payment_methods/", "/api/payments/"),
        }
    }
}

fn is_at(uri: &Uri, host: &str) -> bool {
    let is_host = uri.host().is_some_and(|it| it.eq_ignore_ascii_case(host));
    is_host && uri.scheme_str() == Some("https") && uri.port_u16().unwrap_or(443) == 443
}

impl Cast {
    /// Looks for what can be played in `file`.
    pub(super) fn of(file: &File, systems: &Systems) -> Self {
        let mut cast = Self::default();
        let played: HashMap<&str, System> = file
            .providers
            .iter()
            .filter_map(|provider| {
                let system = cast.hire(provider, systems)?;
                Some((provider.name.as_str(), system))
            })
            .collect();
        for route in &file.routes {
            let name = route_name(route);
            let system = played
                .get(route.provider.as_str())
                .copied()
                .zip(route.upstream.as_ref())
                .filter(|(system, upstream)| is_at(upstream, system.api_host()));
            let Some((system, _)) = system else {
                let upstream = route.upstream.as_ref();
                let host = upstream.and_then(|it| it.host());
                let host = host.unwrap_or("the app itself");
                if let Some(upstream) = upstream {
                    cast.cut_off(upstream);
                }
                cast.left_out.push(format!(
                    "route {name}: {host} with the token of {} has no stand-in",
                    route.provider.as_str()
                ));
                continue;
            };
            cast.name_host(system.api_host());
            let place = match system {
                System::Stitch => &mut cast.stitch,
                System::Forage => &mut cast.forage,
            };
            let part = Part {
                system,
                provider: route.provider.value.clone(),
                route: name,
                file: route.clone(),
                required: file
                    .listen
                    .require_header
                    .as_ref()
                    .map(|header| header.value.to_string()),
            };
            if place.is_none() && part.can_be_called() {
                *place = Some(part);
            } else {
                cast.left_out
                    .push(format!("route {}: the tour takes another way", part.route));
            }
        }
        cast
    }

    /// Supplies what was made up; everything else is read where the file says.
    pub(super) fn secrets(&self) -> Secrets {
        let supply = self.supply.clone();
        Secrets::supplied(move |reference| supply.get(reference).cloned())
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.stitch.iter().chain(&self.forage)
    }

    /// Finds the system that plays a provider, and makes its secrets up.
    fn hire(&mut self, provider: &ProviderFile, systems: &Systems) -> Option<System> {
        let name = provider.name.as_str();
        let oauth2 = match &provider.source {
            SourceFile::OAuth2(oauth2) => oauth2,
            SourceFile::Static(_) => {
                self.left_out
                    .push(format!("provider {name}: its secret is the token"));
                return None;
            }
            SourceFile::Jwt(_) => {
                self.left_out
                    .push(format!("provider {name}: it signs its own tokens"));
                return None;
            }
            SourceFile::Http(exchange) | SourceFile::GraphQl(exchange) => {
                for url in exchange.requests().filter_map(|it| it.url.as_ref()) {
                    self.cut_off(&url.origin);
                }
                self.left_out
                    .push(format!("provider {name}: the tour takes another way"));
                return None;
            }
        };
        let Some(system) = System::of_token_endpoint(&oauth2.token_endpoint) else {
            let host = oauth2.token_endpoint.host().unwrap_or_default();
            self.cut_off(&oauth2.token_endpoint);
            self.left_out
                .push(format!("provider {name}: {host} has no stand-in"));
            return None;
        };
        let (id, secret) = match system {
            System::Stitch => (systems.stitch.client_id(), systems.stitch.client_secret()),
            System::Forage => (systems.forage.client_id(), systems.forage.client_secret()),
        };
        let is_simple = matches!(oauth2.grant, GrantFile::ClientCredentials)
            && !matches!(
                oauth2.client_auth,
                ClientAuth::Assertion(_) | ClientAuth::Certificate
            );
        if !is_simple {
            self.left_out.push(format!(
                "provider {name}: the stand-in knows client credentials with a secret only"
            ));
            return None;
        }
        if matches!(oauth2.client_id.as_deref(), Some(ClientId::Literal(literal)) if literal != id)
        {
            self.left_out.push(format!(
                "provider {name}: the stand-in does not know the client_id in the file"
            ));
            return None;
        }
        self.make_up(oauth2, id, secret);
        self.name_host(system.token_host());
        Some(system)
    }

    fn make_up(&mut self, oauth2: &OAuth2File, id: &str, secret: &str) {
        let client_id = match oauth2.client_id.as_deref() {
            Some(ClientId::Reference(reference)) => Some((reference, id)),
            Some(ClientId::Literal(_)) | None => None,
        };
        let client_secret = match &oauth2.client_auth {
            ClientAuth::Basic(reference) | ClientAuth::Post(reference) => {
                Some((&reference.value, secret))
            }
            ClientAuth::Assertion(_) | ClientAuth::Certificate | ClientAuth::None => None,
        };
        for (reference, value) in client_id.into_iter().chain(client_secret) {
            if !self.supply.contains_key(reference) {
                self.supply.insert(reference.clone(), value.to_owned());
                self.made_up.push(reference.clone());
            }
        }
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

impl Part {
    /// A call that changes nothing.
    pub(super) fn reads(&self) -> Call {
        self.reads_for(SUBJECT)
    }

    /// The same, for another merchant.
    pub(super) fn reads_for(&self, subject: &str) -> Call {
        let (path, _) = self.system.paths();
        match self.system {
            System::Stitch => self
                .call(Method::POST, path, subject)
                .with_json(&json!({ "query": "{ client { id } }" })),
            System::Forage => self.call(Method::GET, path, subject),
        }
    }

    /// A call that makes a payment, and a second one if it is carried out twice.
    pub(super) fn pays(&self) -> Call {
        let (_, path) = self.system.paths();
        self.call(Method::POST, path, SUBJECT)
            .with_json(&match self.system {
                System::Stitch => json!({
                    "query": PAYMENT,
                    "variables": { "input": { "amount": { "quantity": "1.00", "currency": "ZAR" } } },
                }),
                System::Forage => json!({ "amount": "20.00", "funding_type": "ebt_snap" }),
            })
    }

    /// A call whose path means another one to whoever decodes it.
    pub(super) fn escapes(&self) -> Call {
        let mut call = self.reads();
        let prefix = self.prefix(SUBJECT);
        call.target = format!("{prefix}/%2e%2e/elsewhere");
        call
    }

    /// Whether a caller says whose token it wants, and the upstream is told.
    pub(super) fn is_per_merchant(&self) -> bool {
        self.file.path.captures().next().is_some() && self.sets_merchant()
    }

    pub(super) fn sets_merchant(&self) -> bool {
        self.file
            .headers
            .iter()
            .any(|(name, _)| name.value == "merchant-account")
    }

    fn can_be_called(&self) -> bool {
        let (reads, pays) = self.system.paths();
        let methods = match self.system {
            System::Stitch => vec![Method::POST],
            System::Forage => vec![Method::GET, Method::POST],
        };
        let taken = &self.file.methods;
        self.rest(reads).is_some()
            && self.rest(pays).is_some()
            && methods
                .iter()
                .all(|method| taken.is_empty() || taken.iter().any(|taken| taken.value == *method))
    }

    fn call(&self, method: Method, path: &str, subject: &str) -> Call {
        let target = self.prefix(subject) + self.rest(path).unwrap_or_default();
        let mut call = Call {
            method,
            ..Call::get(if target.is_empty() { "/" } else { &target })
        };
        if let Some(host) = self.file.hosts.first() {
            call = call.with("host", host);
        }
        if let Some(required) = &self.required {
            call = call.with(required, "1");
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (_, template) in &self.file.inputs {
            for reference in template.references() {
                match reference {
                    Reference::Header(name) => call = call.with(name, subject),
                    Reference::Query(name) => {
                        query.append_pair(name, subject);
                    }
                    _ => {}
                }
            }
        }
        let query = query.finish();
        if !query.is_empty() {
            call.target = format!("{}?{query}", call.target);
        }
        call
    }

    /// What the route takes, with `subject` for whatever it captures.
    fn prefix(&self, subject: &str) -> String {
        self.file
            .path
            .segments
            .iter()
            .map(|segment| match segment {
                PathSegment::Literal(text) => format!("/{text}"),
                PathSegment::Capture(_) => format!("/{subject}"),
            })
            .collect()
    }

    /// What has to follow, so that the upstream sees `path`.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let upstream = self.file.upstream.as_ref()?;
        let base = upstream.path().trim_end_matches('/');
        path.strip_prefix(base)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

const PAYMENT: &str = "mutation($input: ClientPaymentInitiationRequestCreateInput!) { \
    clientPaymentInitiationRequestCreate(input: $input) { paymentInitiationRequest { id url } } }";
