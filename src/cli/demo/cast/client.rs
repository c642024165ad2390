//! The client of a token endpoint: client credentials, with a secret or with a key.

use crate::config::file::{AssertionFile, ClientAuth, ClientId, GrantFile, OAuth2File};
use crate::fake::{ClientKey, TokenEndpoint};
use crate::provider::secret::SecretRef;

/// What `endpoint` takes from the client in the file, or why it takes nothing. It knows the public half of `key`.
pub(super) fn secrets(
    oauth2: &OAuth2File,
    endpoint: &TokenEndpoint,
    key: Option<&ClientKey>,
) -> Result<Vec<(SecretRef, String)>, String> {
    if !matches!(oauth2.grant, GrantFile::ClientCredentials) {
        return Err("the stand-in knows client credentials only".to_owned());
    }
    let rules = endpoint.rules();
    let mut secrets = Vec::new();
    match oauth2.client_id.as_deref() {
        Some(ClientId::Literal(literal)) if *literal != rules.client_id => {
            return Err("the stand-in does not know the client_id in the file".to_owned());
        }
        Some(ClientId::Reference(reference)) => {
            secrets.push((reference.clone(), rules.client_id.clone()));
        }
        Some(ClientId::Literal(_)) | None => {}
    }
    match (&oauth2.client_auth, key) {
        (ClientAuth::Basic(reference) | ClientAuth::Post(reference), _) => {
            secrets.push((reference.value.clone(), rules.client_secret.clone()));
        }
        (ClientAuth::Assertion(AssertionFile::Signed { jwt, .. }), Some(key))
            if jwt.algorithm.name() == "RS256" =>
        {
            let both = format!("{}{}", key.key_pem, key.certificate_pem);
            secrets.push((jwt.key.clone(), both));
        }
        (ClientAuth::Assertion(_) | ClientAuth::Certificate, _) => {
            return Err("the stand-in does not know this client_auth".to_owned());
        }
        (ClientAuth::None, _) => {}
    }
    Ok(secrets)
}
