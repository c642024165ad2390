//! `[provider.NAME]`: where a token comes from.

use std::time::Duration;

use http::Uri;
use toml::de::DeValue;

use super::assertion::AssertionFile;
use super::client_auth::{self, ClientAuth, Method};
use super::egress::{EgressFile, egress_proxy};
use super::fields::fields;
use super::grant::{self, GrantFile};
use super::graphql::graphql;
use super::hand_out::hand_out;
use super::http::{HttpFile, ReadingFile, SingleUseFile, http, token_response};
use super::jwt::{JwtFile, JwtSourceFile, jwt_source};
use super::names::{is_name, names};
use super::reader::{Table, Value, wrong_type};
use super::scope::scope;
use super::secret::secret;
use super::template::{Verdict, template};
use super::tls::{TlsFile, tls};
use super::unit::some_time;
use super::url::endpoint;
use super::value::{boolean, choice, count};
use crate::config::report::{Diagnostic, Report};
use crate::config::span::{Spanned, value_or};
use crate::provider::pointer::Pointer;
use crate::provider::secret::SecretRef;
use crate::provider::template::{Reference, Template};

/// One provider.
#[derive(Clone, Debug)]
pub struct ProviderFile {
    /// The name, and its place in the head of the table.
    pub name: Spanned<String>,
    /// Fetched at start, and readiness waits for it.
    pub warm: bool,
    /// Its tokens may be handed out; the place is that of the word.
    pub hand_out: Option<Spanned<()>>,
    /// Further members of the token response that are kept, by name.
    pub fields: Vec<(Spanned<String>, Spanned<Pointer>)>,
    /// What `type` says, and what belongs to it.
    pub source: SourceFile,
}

/// What a provider does for a token.
#[derive(Clone, Debug)]
pub enum SourceFile {
    /// `type = "oauth2"`
    OAuth2(Box<OAuth2File>),
    /// `type = "static"`
    Static(StaticFile),
    /// `type = "http"`
    Http(Box<HttpFile>),
    /// `type = "graphql"`
    GraphQl(Box<HttpFile>),
    /// `type = "jwt"`
    Jwt(Box<JwtSourceFile>),
}

impl SourceFile {
    /// The exchange, if it is one of which the file says everything.
    pub(in crate::config) fn exchange(&self) -> Option<&HttpFile> {
        match self {
            Self::Http(http) | Self::GraphQl(http) => Some(http),
            Self::OAuth2(_) | Self::Static(_) | Self::Jwt(_) => None,
        }
    }
}

/// `type = "oauth2"`: a token endpoint (RFC 6749).
#[derive(Clone, Debug)]
pub struct OAuth2File {
    /// Where tokens are asked for.
    pub token_endpoint: Spanned<Uri>,
    /// What for.
    pub grant: GrantFile,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// Who the client is, unless the grant or the assertion says it.
    pub client_id: Option<Spanned<ClientId>>,
    /// Scope tokens, each once; a route may replace them.
    pub scope: Vec<Spanned<String>>,
    /// Where the token will be used (RFC 8707).
    pub resource: Vec<String>,
    /// Further parameters of the token request. Only [`Reference::Input`] in them.
    pub params: Vec<(Spanned<String>, Spanned<Template>)>,
    /// What a route has to supply; a token per distinct value.
    pub inputs: Vec<Spanned<String>>,
    /// A token is not used for longer than this, whatever the answer says.
    pub max_lifetime: Option<Duration>,
    /// How an answer is read.
    pub reading: ReadingFile,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long a request waits for a token.
    pub token_wait: Duration,
    /// Tokens kept, at most.
    pub max_entries: usize,
    /// How long an unused one is kept.
    pub max_idle: Duration,
    /// How to connect to the token endpoint.
    pub tls: Option<TlsFile>,
    /// Which way, in place of the file's.
    pub egress_proxy: Option<EgressFile>,
    /// The token endpoint may be `http://`.
    pub allow_plaintext: bool,
}

impl OAuth2File {
    /// The assertions that are signed here.
    pub fn assertions(&self) -> impl Iterator<Item = &JwtFile> {
        let of_client = match &self.client_auth {
            ClientAuth::Assertion(assertion) => Some(assertion),
            ClientAuth::Basic(_) | ClientAuth::Post(_) => None,
            ClientAuth::Certificate | ClientAuth::None => None,
        };
        let of_grant = match &self.grant {
            GrantFile::JwtBearer(assertion) => Some(assertion),
            GrantFile::ClientCredentials | GrantFile::Password { .. } => None,
            GrantFile::RefreshToken(_) | GrantFile::TokenExchange(_) => None,
        };
        let all = of_client.into_iter().chain(of_grant);
        all.filter_map(|assertion| match assertion {
            AssertionFile::Signed { jwt, .. } => Some(&**jwt),
            AssertionFile::Kept(_) => None,
        })
    }
}

/// A client identifier. Not a secret (RFC 6749 §2.2), but it may be kept where the secret is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientId {
    /// Written in the file.
    Literal(String),
    /// Read like a secret.
    Reference(SecretRef),
}

/// `type = "static"`: a long-lived key.
#[derive(Clone, Debug)]
pub struct StaticFile {
    /// Where the key is.
    pub secret: Spanned<SecretRef>,
}

#[derive(Clone, Copy)]
enum Type {
    OAuth2,
    Static,
    Http,
    GraphQl,
    Jwt,
}

/// Reads a provider. None if there is not enough of it to be held against the rest of the file.
pub(super) fn provider(
    name: &Spanned<&str>,
    value: &Value<'_>,
    report: &mut Report,
) -> Option<ProviderFile> {
    let good_name = is_name(name.value, name.span.clone(), report);
    let mut table = Table::of(value, report)?;
    let kind = table.require("type", "type = \"oauth2\"", report, |value, report| {
        let choices = [
            ("oauth2", Type::OAuth2),
            ("static", Type::Static),
            ("http", Type::Http),
            ("graphql", Type::GraphQl),
            ("jwt", Type::Jwt),
        ];
        choice(value, &choices, report)
    })?;
    match kind.value {
        Type::OAuth2 | Type::Static | Type::Jwt => table.refuse("parent", report, |span| {
            Diagnostic::error("a provider of this type has no parent", span)
                .hint("leave it out, or write `type = \"http\"`")
        }),
        Type::Http | Type::GraphQl => {}
    }
    let hand_out = hand_out(&mut table, report);
    let fields = fields(&mut table, report);
    let warm = table.read("warm", report, boolean);
    let source = match kind.value {
        Type::OAuth2 => oauth2(table, report).map(|it| SourceFile::OAuth2(Box::new(it))),
        Type::Static => static_key(table, report).map(SourceFile::Static),
        Type::Http => http(table, report).map(|it| SourceFile::Http(Box::new(it))),
        Type::GraphQl => graphql(table, report).map(|it| SourceFile::GraphQl(Box::new(it))),
        Type::Jwt => jwt_source(table, report).map(|it| SourceFile::Jwt(Box::new(it))),
    };
    let exchange = source.as_ref().and_then(SourceFile::exchange);
    let is_single_use =
        exchange.is_some_and(|it| !matches!(it.reading.single_use, SingleUseFile::No));
    if let Some(warm) = warm.as_ref().filter(|warm| warm.value && is_single_use) {
        report.push(
            Diagnostic::error(
                "a token of one use cannot be fetched ahead",
                warm.span.clone(),
            )
            .hint("leave `warm` out: each request fetches its own"),
        );
    }
    good_name.then_some(ProviderFile {
        name: Spanned::new(name.value.to_owned(), name.span.clone()),
        warm: value_or(warm, false),
        hand_out,
        fields,
        source: source?,
    })
}

fn static_key(mut table: Table<'_>, report: &mut Report) -> Option<StaticFile> {
    let key = table.require("secret", "secret = { env = \"NAME\" }", report, secret);
    table.refuse("fields", report, |span| {
        Diagnostic::error("a static provider has no fields", span)
            .hint("leave it out: nothing is fetched, so there is no answer to read them from")
    });
    table.refuse("inputs", report, |span| {
        Diagnostic::error("a static provider has no inputs", span)
            .hint("leave it out: there is one key, whatever the request")
    });
    table.finish(report);
    Some(StaticFile { secret: key? })
}

fn oauth2(mut table: Table<'_>, report: &mut Report) -> Option<OAuth2File> {
    let before = report.count();
    let kind = table.read("grant_type", report, grant::kind);
    let method = table.read("client_auth", report, client_auth::method);
    // What else an unknown method or grant would need is not known either.
    let is_known = report.count() == before;
    let example = "token_endpoint = \"https://login.example.com/token\"";
    let token_endpoint = table.require("token_endpoint", example, report, endpoint);
    let kind = value_or(kind, grant::Kind::ClientCredentials);
    let method = method.map_or_else(|| Method::implied(kind, &table), |it| it.value);
    let mut grant = None;
    let mut client_auth = None;
    if is_known {
        grant = grant::grant(kind, &mut table, report);
        client_auth = client_auth::client_auth(method, kind, &mut table, report);
    } else {
        table.read("client_secret", report, secret);
    }
    let client_id = if !table.has("client_id") && method.id_is_optional(kind, client_auth.as_ref())
    {
        table.take("client_id");
        None
    } else {
        let example = "client_id = { env = \"CLIENT_ID\" }";
        Some(table.require("client_id", example, report, client_id))
    };
    let resource = table.read("resource", report, grant::resource);
    let scope = table.read("scope", report, scope);
    let params = table.read("params", report, |value, report| {
        params(value, kind, report)
    });
    let inputs = table.read("inputs", report, |value, report| {
        Some(names(value, "an input", report))
    });
    let max_lifetime = table.read("max_lifetime", report, some_time);
    let inputs = value_or(inputs, Vec::new());
    let reading = token_response(&mut table, report);
    let declared: Vec<_> = inputs.iter().map(|it| it.value.as_str()).collect();
    for diagnostic in reading.unknown_inputs(&declared) {
        report.push(diagnostic);
    }
    let timeout = table.read("timeout", report, some_time);
    let token_wait = table.read("token_wait", report, some_time);
    let max_entries = table.read("max_entries", report, count);
    let max_idle = table.read("max_idle", report, some_time);
    let has_tls = table.has("tls");
    let tls = table.read("tls", report, tls);
    let shows_certificate = tls.as_ref().map_or(has_tls, |tls| tls.client.is_some());
    if is_known && method == Method::Certificate && !shows_certificate {
        let span = tls.as_ref().map_or(table.span(), |tls| tls.span.clone());
        report.push(
            Diagnostic::error("there is no certificate to show", span)
                .hint("add `tls = { cert = \"/run/secrets/client.pem\", key = \"/run/secrets/client.key\" }`"),
        );
    }
    let egress_proxy = table.read("egress_proxy", report, egress_proxy);
    let allow_plaintext = table.read("allow_plaintext", report, boolean);
    table.refuse("after", report, |span| {
        Diagnostic::error("`after` is part of `expiry`", span)
            .hint("write `expiry = [ { after = \"10m\" } ]`")
    });
    if is_known {
        table.finish(report);
    }
    Some(OAuth2File {
        token_endpoint: token_endpoint?,
        grant: grant?,
        client_auth: client_auth?,
        client_id: match client_id {
            Some(client_id) => Some(client_id?),
            None => None,
        },
        scope: value_or(scope, Vec::new()),
        resource: value_or(resource, Vec::new()),
        params: value_or(params, Vec::new()),
        inputs,
        max_lifetime: max_lifetime.map(|it| it.value),
        reading,
        timeout: value_or(timeout, Duration::from_secs(10)),
        token_wait: value_or(token_wait, Duration::from_secs(10)),
        max_entries: value_or(max_entries, 10_000),
        max_idle: value_or(max_idle, Duration::from_hours(1)),
        tls: tls.map(|tls| tls.value),
        egress_proxy: egress_proxy.map(|it| it.value),
        allow_plaintext: value_or(allow_plaintext, false),
    })
}

pub(super) fn client_id(value: &Value<'_>, report: &mut Report) -> Option<ClientId> {
    let DeValue::String(text) = value.get_ref() else {
        return match value.get_ref() {
            DeValue::Table(_) => secret(value, report).map(ClientId::Reference),
            _ => {
                wrong_type(
                    value,
                    "a string or a reference like { env = \"NAME\" }",
                    report,
                );
                None
            }
        };
    };
    // RFC 6749 appendix A.1: visible characters and spaces.
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        report.push(
            Diagnostic::error("this cannot be a client_id", value.span())
                .hint("write the identifier that the authorization server has given, or { env = \"CLIENT_ID\" }"),
        );
        return None;
    }
    Some(ClientId::Literal(text.as_ref().to_owned()))
}

type Params = Vec<(Spanned<String>, Spanned<Template>)>;

fn params(value: &Value<'_>, kind: grant::Kind, report: &mut Report) -> Option<Params> {
    let verdict = |reference: &Reference| match reference {
        Reference::Input(_) => Verdict::Fine,
        _ => Verdict::Wrong("a parameter is made of {input.NAME} and text"),
    };
    let mut read = Vec::new();
    for (key, value) in Table::of(value, report)?.entries() {
        let own = grant::sets(kind, key.value).then_some("it has a key of its own beside `params`");
        if let Some(hint) = reserved(key.value).or(own) {
            let message = format!("`{}` is not set here", key.value);
            report.push(Diagnostic::error(message, key.span).hint(hint));
            continue;
        }
        if key.value.is_empty() || key.value.chars().any(char::is_control) {
            report.push(
                Diagnostic::error("this cannot be the name of a parameter", key.span)
                    .hint("write a name like `audience`"),
            );
            continue;
        }
        if let Some(template) = template(value, verdict, report) {
            let key = Spanned::new(key.value.to_owned(), key.span);
            read.push((key, Spanned::new(template, value.span())));
        }
    }
    Some(read)
}

/// Parameters that have a key of their own, and what to write.
fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "grant_type" => Some("write `grant_type` beside `params`"),
        "scope" => Some("write `scope` beside `params`"),
        "client_id" => Some("write `client_id` beside `params`"),
        "client_secret" => Some("write `client_secret = { env = \"NAME\" }` beside `params`"),
        _ if name.starts_with("client_assertion") => {
            Some("`client_auth` says how a client proves who it is")
        }
        _ => None,
    }
}
