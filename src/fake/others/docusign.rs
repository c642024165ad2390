//! Docusign: an assertion on behalf of a user, who must have consented, and a second question to
//! learn where the API is.

use std::time::Duration;

use serde_json::{Value, json};

use super::jwt::JWT_BEARER;
use super::{Desk, Habits, Refusal, any_page, bearer, oauth_error, ok, parameters, text};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

pub(super) const HABITS: Habits = Habits {
    hosts: &["account-d.docusign.com", "demo.docusign.net"],
    credentials: &[
        ("integration_key", "7c2b8d7e-0000-4000-8000-6d6164652075"),
        ("user_id", "464f7b3e-0000-4000-8000-6d6164652075"),
    ],
    lifetime: Duration::from_secs(3600),
    single_use: false,
    is_fetch: |request| request.path() == "/oauth/token",
    fetch,
    token: bearer,
    unauthorized: || {
        let message = "One or both of Username and Password are invalid.";
        let code = "AUTHORIZATION_INVALID_TOKEN";
        Refusal(401, json!({ "errorCode": code, "message": message }))
    },
    page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let refuse = |error: &str| Refusal(400, json!({ "error": error }));
    let form = parameters(request).ok_or_else(|| refuse("invalid_request"))?;
    if text(&form, "grant_type") != JWT_BEARER {
        return Err(refuse("unsupported_grant_type"));
    }
    let assertion = desk
        .assertion("RS256", text(&form, "assertion"))
        .filter(|assertion| assertion.is_current(3600))
        .ok_or_else(|| oauth_error(400, "invalid_grant", "no_valid_keys_or_signatures"))?;
    if assertion.text("iss") != desk.credential("integration_key") {
        return Err(oauth_error(400, "invalid_grant", "issuer_not_found"));
    }
    if assertion.text("aud") != "account-d.docusign.com" {
        return Err(oauth_error(400, "invalid_grant", "invalid_audience"));
    }
    let mut scopes = assertion.text("scope").split(' ');
    if assertion.text("sub") != desk.credential("user_id")
        || !scopes.any(|scope| scope == "impersonation")
    {
        return Err(refuse("consent_required"));
    }
    let token = format!("eyJ0eXAiOiJNVCJ9.{}", random(300));
    desk.issue(&token);
    Ok(ok(&json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": desk.seconds(),
    })))
}

fn page(request: &Received) -> Value {
    if request.path() != "/oauth/userinfo" {
        return any_page(request);
    }
    let account = json!({
        "account_id": "fe0b61a3-0000-4000-8000-6d6164652075",
        "is_default": true,
        "base_uri": "https://demo.docusign.net",
    });
    json!({ "sub": "464f7b3e-0000-4000-8000-6d6164652075", "accounts": [account] })
}
