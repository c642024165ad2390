//! The parts of [`compile`](super::compile) that are about who asks for a token, and what for.

use std::convert::Infallible;
use std::sync::Arc;

use super::index_of;
use crate::config::file::{
    AssertionFile, ClientAuth as ClientAuthFile, ClientId as ClientIdFile, GrantFile, JwtFile,
    JwtSourceFile, OAuth2File,
};
use crate::config::span::Spanned;
use crate::provider::assertion::Assertion;
use crate::provider::client_auth::{ClientAuth, ClientId};
use crate::provider::grant_type::GrantType;
use crate::provider::jwt::{ClaimPart, Jwt};
use crate::provider::rotation::Rotation;
use crate::provider::template::{Reference, Template};

pub(super) fn client_auth(file: &OAuth2File, inputs: &[String]) -> ClientAuth {
    let id = file.client_id.as_ref().map(|id| client_id(&id.value));
    match (&file.client_auth, id) {
        (ClientAuthFile::Assertion(it), id) => ClientAuth::Assertion {
            id,
            assertion: assertion(it, file, inputs),
        },
        (ClientAuthFile::Basic(secret), Some(id)) => ClientAuth::Basic {
            id,
            secret: secret.value.clone(),
        },
        (ClientAuthFile::Post(secret), Some(id)) => ClientAuth::Post {
            id,
            secret: secret.value.clone(),
        },
        (ClientAuthFile::Certificate, Some(id)) => ClientAuth::Certificate { id },
        (ClientAuthFile::None, Some(id)) => ClientAuth::None { id },
        // Where an id cannot be left out, that has been reported.
        (
            ClientAuthFile::Basic(_)
            | ClientAuthFile::Post(_)
            | ClientAuthFile::Certificate
            | ClientAuthFile::None,
            None,
        ) => ClientAuth::Anonymous,
    }
}

pub(super) fn grant(file: &OAuth2File, inputs: &[String]) -> GrantType {
    match &file.grant {
        GrantFile::ClientCredentials => GrantType::ClientCredentials,
        GrantFile::Password { username, password } => GrantType::Password {
            username: client_id(username),
            password: password.clone(),
        },
        GrantFile::RefreshToken(first) => {
            let endpoint = file.token_endpoint.value.clone();
            GrantType::RefreshToken(Arc::new(Rotation::new(first.clone(), endpoint)))
        }
        GrantFile::JwtBearer(it) => GrantType::JwtBearer(assertion(it, file, inputs)),
        GrantFile::TokenExchange(exchange) => GrantType::TokenExchange(exchange.clone()),
    }
}

/// A JWT that is a token itself, and the inputs it needs.
pub(super) fn jwt_source(file: &JwtSourceFile) -> (Jwt, Vec<String>) {
    let inputs: Vec<_> = file.inputs.iter().map(|it| it.value.clone()).collect();
    (jwt(&file.jwt, &inputs), inputs)
}

pub(super) fn client_id(file: &ClientIdFile) -> ClientId {
    match file {
        ClientIdFile::Literal(id) => ClientId::Literal(id.clone()),
        ClientIdFile::Reference(reference) => ClientId::Kept(reference.clone()),
    }
}

// RFC 7523 §3: the audience is the authorization server, and its token endpoint names it.
fn assertion(file: &AssertionFile, oauth2: &OAuth2File, inputs: &[String]) -> Assertion {
    match file {
        AssertionFile::Kept(reference) => Assertion::Kept(reference.clone()),
        AssertionFile::Signed {
            jwt: file,
            audience,
        } => Assertion::Signed {
            jwt: Box::new(jwt(file, inputs)),
            audience: match audience {
                Some(audience) => audience.clone(),
                None => oauth2.token_endpoint.to_string(),
            },
        },
    }
}

fn jwt(file: &JwtFile, inputs: &[String]) -> Jwt {
    file.map(&mut |template: &Spanned<Template>| {
        let Ok(resolved) = template.resolve(|reference| {
            Ok::<_, Infallible>(match reference {
                Reference::KeyFingerprint => ClaimPart::Fingerprint,
                other => ClaimPart::Input(index_of(other, inputs)),
            })
        });
        resolved
    })
}
