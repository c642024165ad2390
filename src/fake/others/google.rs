//! A Google service account: an assertion for an access token, or for an ID token.

use std::time::Duration;

use serde_json::json;

use super::jwt::JWT_BEARER;
use super::{Desk, Habits, Refusal, any_page, bearer, oauth_error, ok, parameters, text};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

pub(super) const HABITS: Habits = Habits {
    hosts: &["oauth2.googleapis.com", "storage.googleapis.com"],
    credentials: &[("client_email", "demo@made-up.iam.gserviceaccount.com")],
    lifetime: Duration::from_secs(3599),
    single_use: false,
    is_fetch: |request| request.path() == "/token",
    fetch,
    token: bearer,
    unauthorized: || {
        let message = "Request had invalid authentication credentials.";
        let error = json!({ "code": 401, "message": message, "status": "UNAUTHENTICATED" });
        Refusal(401, json!({ "error": error }))
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let form = parameters(request)
        .ok_or_else(|| oauth_error(400, "invalid_request", "Could not parse the form."))?;
    if text(&form, "grant_type") != JWT_BEARER {
        return Err(oauth_error(
            400,
            "unsupported_grant_type",
            "Invalid grant_type.",
        ));
    }
    let refuse = |why: &str| oauth_error(400, "invalid_grant", why);
    let assertion = desk
        .assertion("RS256", text(&form, "assertion"))
        .ok_or_else(|| refuse("Invalid JWT Signature."))?;
    if assertion.text("iss") != desk.credential("client_email") {
        return Err(refuse("Invalid grant: account not found"));
    }
    if assertion.text("aud") != AUDIENCE {
        return Err(refuse("Invalid JWT: Failed audience check."));
    }
    if !assertion.is_current(3600) || assertion.claims.get("iat").is_none() {
        return Err(refuse(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ));
    }
    let token = format!("ya29.{}", random(120));
    if !assertion.text("target_audience").is_empty() {
        desk.issue(&token);
        return Ok(ok(&json!({ "id_token": token })));
    }
    if assertion.text("scope").is_empty() {
        return Err(oauth_error(
            400,
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        ));
    }
    desk.issue(&token);
    Ok(ok(&json!({
        "access_token": token,
        "expires_in": desk.seconds(),
        "token_type": "Bearer",
    })))
}
