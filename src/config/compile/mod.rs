//! From what the user wrote to what the program runs on: names are resolved, nothing can be missing afterwards.

mod egress;
mod exchange;
mod oauth2;
pub mod route;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;

use super::file::{
    EgressFile, File, HttpFile, LimitsFile, OAuth2File, ProviderFile, RequestFile, SourceFile,
    TlsFile, UrlFile,
};
use super::parents;
use super::report::{Diagnostic, Report};
use super::span::Spanned;
use crate::metrics::Metrics;
use crate::net::connect::{Endpoint, EndpointSettings};
use crate::net::pool::PoolSettings;
use crate::net::tls::{TlsClients, TlsError, TlsSettings};
use crate::provider::exchange::Target;
use crate::provider::grant_type::GrantType;
use crate::provider::graphql::GraphQl;
use crate::provider::http::Http;
use crate::provider::inputs::{InputCheck, Need};
use crate::provider::jwt::JwtSource;
use crate::provider::oauth2::OAuth2;
use crate::provider::pointer::Pointer;
use crate::provider::reading::Reading;
use crate::provider::request::RequestTemplate;
use crate::provider::rotation::Rotation;
use crate::provider::secret::Secrets;
use crate::provider::static_key::StaticKey;
use crate::provider::template::{Reference, Template};
use crate::provider::{Policy, Provider, Source};
use crate::proxy::caller::CallerRules;
use crate::proxy::route::RouteTable;
use crate::proxy::{Limits, Plan};
use crate::token::Tokens;

/// What a configuration meets when it is compiled: the process that it is for.
#[derive(Debug)]
pub struct Surroundings {
    /// Where routes and providers are counted.
    pub metrics: Metrics,
    /// What fetches run on.
    pub runtime: Handle,
    /// How secrets are read.
    pub secrets: Secrets,
    /// Laid over the file's `resolve`.
    pub resolve: HashMap<(String, u16), SocketAddr>,
    /// Trusted besides the system's roots.
    pub trust: Vec<CertificateDer<'static>>,
}

/// Compiles a file. Providers that are the same in `previous` keep their tokens. Nothing is fetched, nobody is called.
///
/// # Errors
///
/// `report`, with what is wrong in the files that the file names.
pub fn compile(
    file: &File,
    mut report: Report,
    surroundings: &Surroundings,
    previous: Option<&Plan>,
) -> Result<Plan, Report> {
    let clients = TlsClients::new(&surroundings.trust);
    let mut compiler = Compiler {
        file,
        surroundings,
        clients,
        previous,
        providers: Vec::new(),
        report: &mut report,
    };
    for provider in &file.providers {
        compiler.tokens(provider, None);
    }
    let routes = file
        .routes
        .iter()
        .filter_map(|route| compiler.route(route))
        .collect();
    let providers = compiler
        .providers
        .into_iter()
        .map(|(_, tokens)| tokens)
        .collect();
    if report.has_errors() {
        return Err(report);
    }
    let hosts = file.routes.iter().flat_map(|route| &route.hosts);
    let hosts = hosts
        .chain(&file.listen.hosts)
        .map(|host| host.value.clone());
    Ok(Plan {
        routes: RouteTable(routes),
        providers,
        callers: CallerRules {
            hosts: hosts.collect(),
            require_header: file
                .listen
                .require_header
                .as_ref()
                .map(|name| name.value.clone()),
        },
        limits: limits(&file.limits),
        pool: PoolSettings {
            idle_timeout: file.limits.idle_timeout,
            max_age: file.limits.connection_age,
            max_idle: file.limits.idle_per_upstream,
        },
    })
}

/// Where spans go, if requests are traced. What is wrong goes into the report.
pub fn collector(file: &File, report: &mut Report, surroundings: &Surroundings) -> Option<Target> {
    let url = &file.trace.as_ref()?.otlp;
    let mut compiler = Compiler {
        file,
        surroundings,
        clients: TlsClients::new(&surroundings.trust),
        previous: None,
        providers: Vec::new(),
        report,
    };
    let endpoint = compiler.endpoint(
        url,
        &Way {
            tls: None,
            socket: None,
            egress_proxy: None,
            // Nothing of a secret is in spans.
            allow_plaintext: true,
            connect_timeout: COLLECTOR_CONNECT,
        },
    )?;
    Some(Target {
        endpoint,
        host: host_field(url),
        path: format!("{}/v1/traces", url.path().trim_end_matches('/')),
    })
}

/// Time for a connection to a collector.
const COLLECTOR_CONNECT: Duration = Duration::from_secs(2);

const fn limits(limits: &LimitsFile) -> Limits {
    Limits {
        head_bytes: limits.head_size_bytes,
        head_time: limits.header_timeout,
        body_idle: limits.body_idle,
    }
}

struct Compiler<'a> {
    file: &'a File,
    surroundings: &'a Surroundings,
    clients: TlsClients,
    previous: Option<&'a Plan>,
    providers: Vec<(ProviderKey, Arc<Tokens>)>,
    report: &'a mut Report,
}

/// Name and scope: a route's own scope makes another provider of it, with tokens of its own.
type ProviderKey = (String, Option<Vec<String>>);

impl Compiler<'_> {
    fn tokens(&mut self, file: &ProviderFile, scope: Option<Vec<String>>) -> Option<Arc<Tokens>> {
        let key = (file.name.value.clone(), scope);
        if let Some((_, tokens)) = self.providers.iter().find(|(known, _)| *known == key) {
            return Some(Arc::clone(tokens));
        }
        // The parent first: there is no cycle in a file that has been checked.
        let parent = match parents::parent_name(file) {
            Some(name) => {
                let all: &File = self.file;
                Some(self.tokens(parents::of_name(name, all)?, None)?)
            }
            None => None,
        };
        let mut provider = self.provider(file, key.1.as_deref())?;
        if let Some(parent) = &parent {
            // A child of another parent is another child.
            let mut hasher = DefaultHasher::new();
            (provider.fingerprint, parent.provider().fingerprint).hash(&mut hasher);
            parent.provider().name.hash(&mut hasher);
            provider.fingerprint = hasher.finish();
        }
        let unchanged = self.previous.into_iter().flat_map(|plan| &plan.providers);
        let tokens = unchanged
            .map(|tokens| (tokens, tokens.provider()))
            .find(|(_, old)| old.name == provider.name && old.fingerprint == provider.fingerprint)
            .map(|(tokens, _)| Arc::clone(tokens))
            .unwrap_or_else(|| {
                let surroundings = self.surroundings;
                Tokens::new(
                    provider,
                    parent,
                    surroundings.runtime.clone(),
                    &surroundings.metrics,
                )
            });
        self.providers.push((key, Arc::clone(&tokens)));
        Some(tokens)
    }

    fn provider(&mut self, file: &ProviderFile, scope: Option<&[String]>) -> Option<Provider> {
        let mut hasher = DefaultHasher::new();
        let policy = policy(file, &self.file.limits);
        policy.hash(&mut hasher);
        let mut checks = Vec::new();
        let (source, inputs) = match &file.source {
            SourceFile::Static(source) => {
                source.secret.value.hash(&mut hasher);
                let source = StaticKey {
                    secret: source.secret.value.clone(),
                    secrets: self.surroundings.secrets.clone(),
                };
                (Source::Static(source), Vec::new())
            }
            SourceFile::Jwt(source) => {
                let (jwt, inputs) = oauth2::jwt_source(source);
                (&jwt, &inputs).hash(&mut hasher);
                let secrets = self.surroundings.secrets.clone();
                (Source::Jwt(JwtSource { jwt, secrets }), inputs)
            }
            SourceFile::OAuth2(source) => {
                let inputs: Vec<String> = source
                    .inputs
                    .iter()
                    .map(|input| input.value.clone())
                    .collect();
                inputs.hash(&mut hasher);
                let reading = exchange::token_response(&source.reading, fields(file), &inputs);
                let source = self.oauth2(source, scope, &inputs, reading, &mut hasher)?;
                checks = param_checks(&source);
                (Source::OAuth2(source), inputs)
            }
            SourceFile::Http(source) => {
                let inputs = input_names(source);
                let (source, needs) = self.exchange(source, fields(file), &mut hasher)?;
                checks = needs;
                (Source::Http(source), inputs)
            }
            SourceFile::GraphQl(source) => {
                "graphql".hash(&mut hasher);
                let inputs = input_names(source);
                let (source, needs) = self.exchange(source, fields(file), &mut hasher)?;
                checks = needs;
                (Source::GraphQl(GraphQl(source)), inputs)
            }
        };
        Some(Provider {
            name: file.name.value.as_str().into(),
            fingerprint: hasher.finish(),
            inputs,
            checks,
            source,
            policy,
        })
    }

    fn oauth2(
        &mut self,
        file: &OAuth2File,
        scope: Option<&[String]>,
        inputs: &[String],
        reading: Reading,
        hasher: &mut DefaultHasher,
    ) -> Option<OAuth2> {
        let url = &file.token_endpoint;
        let endpoint = self.endpoint(
            url,
            &Way {
                socket: None,
                tls: file.tls.as_ref(),
                egress_proxy: file.egress_proxy.as_ref(),
                allow_plaintext: file.allow_plaintext,
                connect_timeout: file.timeout,
            },
        )?;
        let client_auth = oauth2::client_auth(file, inputs);
        let mut grant = oauth2::grant(file, inputs);
        if let GrantType::RefreshToken(rotation) = &mut grant
            && let Some(known) = self.known_rotation(rotation)
        {
            *rotation = known;
        }
        let own = || {
            file.scope
                .iter()
                .map(|scope| scope.value.clone())
                .collect::<BTreeSet<_>>()
        };
        let scope = scope.map_or_else(own, |scope| scope.iter().cloned().collect());
        let params: Vec<(String, Template<usize>)> = file
            .params
            .iter()
            .map(|(name, template)| {
                let resolved =
                    template.resolve(|reference| Ok::<_, Infallible>(index_of(reference, inputs)));
                let Ok(template) = resolved;
                (name.value.clone(), template)
            })
            .collect();
        let path = url
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        endpoint.fingerprint().hash(hasher);
        (
            &path,
            &client_auth,
            &grant,
            &scope,
            &file.resource,
            &params,
            &reading,
        )
            .hash(hasher);
        Some(OAuth2 {
            token_endpoint: Target {
                endpoint,
                host: host_field(url),
                path,
            },
            client_auth,
            grant,
            scope: scope.into_iter().collect(),
            resource: file.resource.clone(),
            params,
            reading,
            secrets: self.surroundings.secrets.clone(),
        })
    }

    /// The same one, of another provider or of the plan before: what it has come to is not lost, and used once.
    fn known_rotation(&self, rotation: &Arc<Rotation>) -> Option<Arc<Rotation>> {
        let compiled = self.providers.iter().map(|(_, tokens)| tokens);
        let previous = self.previous.into_iter().flat_map(|plan| &plan.providers);
        compiled.chain(previous).find_map(|tokens| {
            let Source::OAuth2(source) = &tokens.provider().source else {
                return None;
            };
            match &source.grant {
                GrantType::RefreshToken(known) if known == rotation => Some(Arc::clone(known)),
                _ => None,
            }
        })
    }

    fn exchange(
        &mut self,
        file: &HttpFile,
        fields: Vec<(String, Pointer)>,
        hasher: &mut DefaultHasher,
    ) -> Option<(Http, Vec<InputCheck>)> {
        let first = file.request.url.as_ref()?;
        let request = self.request(&file.request, first, file, hasher)?;
        let refresh = match &file.refresh {
            Some(refresh) => {
                let url = refresh.request.url.as_ref().unwrap_or(first);
                Some(self.request(&refresh.request, url, file, hasher)?)
            }
            None => None,
        };
        let parts: Vec<_> = std::iter::once(&request)
            .chain(&refresh)
            .map(|request| &request.parts)
            .collect();
        let checks = exchange::checks(&parts, file);
        let reading = exchange::reading(file, fields);
        let references: Vec<_> = file
            .secrets
            .iter()
            .map(|(_, reference)| reference.value.clone())
            .collect();
        (input_names(file), &checks, &reading, &references, parts).hash(hasher);
        let exchange = Http {
            request,
            refresh,
            reading,
            references,
            secrets: self.surroundings.secrets.clone(),
        };
        Some((exchange, checks))
    }

    fn request(
        &mut self,
        request: &RequestFile,
        url: &UrlFile,
        file: &HttpFile,
        hasher: &mut DefaultHasher,
    ) -> Option<RequestTemplate> {
        let origin = &url.origin;
        let endpoint = self.endpoint(
            origin,
            &Way {
                socket: None,
                tls: file.tls.as_ref(),
                egress_proxy: file.egress_proxy.as_ref(),
                allow_plaintext: file.allow_plaintext,
                connect_timeout: file.timeout,
            },
        )?;
        endpoint.fingerprint().hash(hasher);
        Some(RequestTemplate {
            endpoint,
            host: host_field(origin),
            parts: exchange::request(request, &url.path, file),
        })
    }

    fn endpoint(&mut self, url: &Spanned<Uri>, way: &Way<'_>) -> Option<Endpoint> {
        let host = url
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let encrypted = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let key = (host.clone(), port);
        let in_file = self
            .file
            .resolve
            .iter()
            .find(|entry| entry.host.value == key);
        let overlaid = self.surroundings.resolve.get(&key).copied();
        // The demo's stand-ins come before a socket, which comes before everything else in the file.
        let socket = way.socket.filter(|_| overlaid.is_none()).cloned();
        let resolved = match socket {
            Some(_) => None,
            None => overlaid.or(in_file.map(|entry| entry.address.value)),
        };
        let egress = way.egress_proxy.or(self.file.egress_proxy.as_ref());
        let egress = egress.filter(|_| socket.is_none());
        let proxy = egress::proxy_for(egress, &host, resolved);
        let user = proxy.and_then(egress::user);
        let settings = tls_settings(way.tls);
        let mut hasher = DefaultHasher::new();
        (
            &key,
            encrypted,
            &socket,
            resolved,
            proxy.map(|proxy| (&proxy.host, proxy.port)),
            &user,
            way.allow_plaintext,
            way.connect_timeout,
            &settings,
        )
            .hash(&mut hasher);
        settings.content().hash(&mut hasher);
        let config = if encrypted {
            let place = way
                .tls
                .and_then(TlsFile::first_place)
                .unwrap_or_else(|| url.span.clone());
            Some(self.tls(&settings, place)?)
        } else {
            None
        };
        let endpoint = Endpoint::new(EndpointSettings {
            fingerprint: hasher.finish(),
            host,
            port,
            tls: config,
            socket,
            resolved,
            egress_proxy: proxy
                .map(|proxy| egress::egress_proxy(proxy, user, &self.surroundings.secrets)),
            allow_plaintext: way.allow_plaintext,
            connect_timeout: way.connect_timeout,
        });
        match endpoint {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.report
                    .push(Diagnostic::error(error.to_string(), url.span.clone()));
                None
            }
        }
    }

    fn tls(
        &mut self,
        settings: &TlsSettings,
        place: Range<usize>,
    ) -> Option<Arc<rustls::ClientConfig>> {
        match self.clients.configure(settings) {
            Ok(config) => Some(config),
            Err(error) => {
                let diagnostic = Diagnostic::error(error.to_string(), place);
                self.report.push(match error {
                    TlsError::Unreadable { .. } => {
                        diagnostic.hint("mount the file, or correct its path")
                    }
                    TlsError::Empty { .. } => {
                        diagnostic.hint("the file must be PEM: -----BEGIN ...-----")
                    }
                    TlsError::Configuration(_) => diagnostic,
                });
                None
            }
        }
    }
}

/// What a route or a provider says about its connections.
struct Way<'a> {
    socket: Option<&'a PathBuf>,
    tls: Option<&'a TlsFile>,
    egress_proxy: Option<&'a EgressFile>,
    allow_plaintext: bool,
    connect_timeout: Duration,
}

fn input_names(file: &HttpFile) -> Vec<String> {
    file.inputs
        .iter()
        .map(|input| input.value.clone())
        .collect()
}

/// What the filters of an OAuth provider's parameters need.
fn param_checks(source: &OAuth2) -> Vec<InputCheck> {
    let uses = source.params.iter().flat_map(|(_, it)| it.uses());
    uses.filter(|(_, filters)| !filters.is_empty())
        .map(|(input, filters)| InputCheck {
            input: *input,
            need: Need::Filters(filters.to_vec()),
        })
        .collect()
}

fn fields(file: &ProviderFile) -> Vec<(String, Pointer)> {
    let fields = file.fields.iter();
    fields
        .map(|(name, pointer)| (name.value.clone(), pointer.value.clone()))
        .collect()
}

fn policy(file: &ProviderFile, limits: &LimitsFile) -> Policy {
    let defaults = Policy {
        timeout: Duration::from_secs(10),
        token_wait: Duration::from_secs(10),
        max_waiters: limits.waiters,
        max_fetches: limits.fetches,
        max_entries: 1,
        max_idle: Duration::from_hours(1),
        max_lifetime: None,
        warm: file.warm,
        within_parent: false,
    };
    match &file.source {
        SourceFile::Static(_) => defaults,
        SourceFile::Jwt(source) => Policy {
            max_entries: source.max_entries,
            max_idle: source.max_idle,
            ..defaults
        },
        SourceFile::Http(source) | SourceFile::GraphQl(source) => Policy {
            timeout: source.timeout,
            token_wait: source.token_wait,
            max_entries: source.max_entries,
            max_idle: source.max_idle,
            max_lifetime: source.max_lifetime,
            within_parent: source.within_parent,
            ..defaults
        },
        SourceFile::OAuth2(source) => Policy {
            timeout: source.timeout,
            token_wait: source.token_wait,
            max_entries: source.max_entries,
            max_idle: source.max_idle,
            max_lifetime: source.max_lifetime,
            ..defaults
        },
    }
}

fn tls_settings(tls: Option<&TlsFile>) -> TlsSettings {
    TlsSettings {
        ca: tls
            .and_then(|tls| tls.ca.as_ref())
            .map(|path| path.value.clone()),
        identity: tls
            .and_then(|tls| tls.client.as_ref())
            .map(|client| (client.cert.value.clone(), client.key.value.clone())),
    }
}

// What is not among the names has been reported, and the file does not come this far.
pub(super) fn index_of(reference: &Reference, names: &[String]) -> usize {
    let name = match reference {
        Reference::Input(name) | Reference::Path(name) => name.as_str(),
        _ => "",
    };
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or(usize::MAX)
}

/// The `Host` field's value for a URL: its authority, without the port that its scheme implies.
fn host_field(url: &Uri) -> HeaderValue {
    let host = url.host().unwrap_or_default();
    let implied = match url.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let authority = match url.port_u16() {
        Some(port) if port != implied => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    HeaderValue::from_str(&authority).unwrap_or_else(|_| HeaderValue::from_static(""))
}
