//! Whether a request gets a token.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use super::assertion::{self, Proof};
use super::form;
use super::refusal::Refusal;
use super::rules::{ClientAuth, Rules};
use crate::fake::Received;

/// What a request is granted.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) scopes: Vec<String>,
    pub(super) lifetime: Option<Duration>,
    /// The `jti` of the assertion with which the client came.
    pub(super) jti: Option<String>,
}

impl Grant {
    /// Judges a request by RFC 6749 and by the rules of this endpoint.
    pub(super) fn judge(rules: &Rules, request: &Received) -> Result<Self, Refusal> {
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        if request.query().is_some() {
            return Err(Refusal::Malformed(
                "parameters belong into the body, not into the query",
            )); // RFC 6749 §2.3.1
        }
        let parameters = Parameters::read(request)?;
        let jti = present(rules, request, &parameters)?;
        match parameters.get("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(Refusal::GrantType),
            None => return Err(Refusal::Missing("grant_type")),
        }
        check_audience(rules, &parameters)?;
        Ok(Self {
            scopes: scopes(rules, &parameters)?,
            lifetime: lifetime(rules, &parameters)?,
            jti,
        })
    }
}

/// The parameters of a request; each at most once, none of them empty.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(request: &Received) -> Result<Self, Refusal> {
        if request.media_type().as_deref() != Some("application/x-www-form-urlencoded") {
            return Err(Refusal::Malformed(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let mut parameters =
            form::parse(&request.body).ok_or(Refusal::Malformed("the body is not a form"))?;
        parameters.sort();
        if parameters
            .windows(2)
            .any(|pair| matches!(pair, [(one, _), (other, _)] if one == other))
        {
            return Err(Refusal::Malformed("a parameter is repeated")); // RFC 6749 §3.2
        }
        // By the same section, an empty parameter counts as left out.
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(parameter, _)| parameter == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Client authentication (RFC 6749 §2.3), in the one way that the rules allow. The `jti` of an assertion, if one was it.
fn present(
    rules: &Rules,
    request: &Received,
    parameters: &Parameters,
) -> Result<Option<String>, Refusal> {
    let tries_header = request.values("authorization").next().is_some();
    if tries_header && parameters.get("client_secret").is_some() {
        return Err(Refusal::Malformed(
            "more than one way of client authentication",
        )); // §2.3: MUST NOT
    }
    let mut jti = None;
    let is_client = match rules.client_auth {
        ClientAuth::ClientSecretJwt | ClientAuth::PrivateKeyJwt => {
            let proof = match rules.client_auth {
                ClientAuth::ClientSecretJwt => Proof::Secret,
                _ => Proof::PublicKey,
            };
            let kind = parameters.get("client_assertion_type");
            if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
                return Err(Refusal::Missing("client_assertion_type"));
            }
            let assertion = parameters
                .get("client_assertion")
                .ok_or(Refusal::Missing("client_assertion"))?;
            jti = assertion::judge(assertion, proof, rules, request);
            let id = parameters.get("client_id");
            let is_same = id.is_none_or(|said| said == rules.client_id); // RFC 7521 §4.2
            jti.is_some() && is_same && !tries_header && parameters.get("client_secret").is_none()
        }
        ClientAuth::ClientSecretBasic => basic(request).is_some_and(|(id, secret)| {
            same(&id, &rules.client_id)
                & same(&secret, &rules.client_secret)
                & parameters.get("client_id").is_none_or(|said| said == id)
        }),
        ClientAuth::ClientSecretPost => {
            let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
            let id = id.ok_or(Refusal::Missing("client_id"))?;
            !tries_header
                && same(id, &rules.client_id)
                    & secret.is_some_and(|secret| same(secret, &rules.client_secret))
        }
        ClientAuth::None => {
            let id = parameters
                .get("client_id")
                .ok_or(Refusal::Missing("client_id"))?;
            !tries_header && parameters.get("client_secret").is_none() && same(id, &rules.client_id)
        }
    };
    if is_client {
        Ok(jti)
    } else {
        Err(Refusal::Client {
            challenge: tries_header || rules.client_auth == ClientAuth::ClientSecretBasic,
        })
    }
}

/// Id and secret of the one `Authorization: Basic`. The base64 must be the canonical one, with its
/// padding.
fn basic(request: &Received) -> Option<(String, String)> {
    let (scheme, credentials) = request.field("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    Some((
        form::decode_credential(id)?,
        form::decode_credential(secret)?,
    ))
}

/// Compares without stopping at the first difference.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

fn check_audience(rules: &Rules, parameters: &Parameters) -> Result<(), Refusal> {
    match (&rules.audience, parameters.get("audience")) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refusal::Missing("audience")),
        (Some(right), Some(said)) if right == said => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::Audience),
    }
}

/// The scopes of RFC 6749 §3.3: separated by one blank each, and all of them the client's.
fn scopes(rules: &Rules, parameters: &Parameters) -> Result<Vec<String>, Refusal> {
    let wanted = parameters
        .get("scope")
        .or(rules.default_scope.as_deref())
        .ok_or(Refusal::Scope)?;
    let scopes: Vec<String> = wanted.split(' ').map(str::to_owned).collect();
    if scopes.iter().all(|scope| rules.scopes.contains(scope)) {
        Ok(scopes)
    } else {
        Err(Refusal::Scope)
    }
}

fn lifetime(rules: &Rules, parameters: &Parameters) -> Result<Option<Duration>, Refusal> {
    let Some(parameter) = &rules.lifetime_parameter else {
        return Ok(None);
    };
    let Some(value) = parameters.get(parameter.name) else {
        return Ok(None);
    };
    let seconds = value
        .parse()
        .ok()
        .filter(|seconds| parameter.seconds.contains(seconds));
    let seconds = seconds.ok_or(Refusal::Malformed(
        "the lifetime is not a number of seconds that is allowed",
    ))?;
    Ok(Some(Duration::from_secs(seconds)))
}
