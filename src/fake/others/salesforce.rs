//! Salesforce: an assertion for a token that says where it is good, and not for how long.

use std::time::Duration;

use serde_json::json;

use super::jwt::JWT_BEARER;
use super::{Desk, Habits, Refusal, any_page, oauth_error, ok, parameters, text};
use crate::fake::answer::Answer;
use crate::fake::minted::random;
use crate::fake::{Received, clock};

pub(super) const HABITS: Habits = Habits {
    hosts: &["login.salesforce.com", "made-up.my.salesforce.com"],
    credentials: &[
        ("client_id", "3MVG9.made_up.client"),
        ("username", "demo@made-up.example"),
    ],
    lifetime: Duration::from_secs(7200),
    single_use: false,
    is_fetch: |request| request.path() == "/services/oauth2/token",
    fetch,
    token,
    unauthorized: || {
        let message = "Session expired or invalid";
        Refusal(
            401,
            json!([{ "message": message, "errorCode": "INVALID_SESSION_ID" }]),
        )
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let form = parameters(request)
        .ok_or_else(|| oauth_error(400, "invalid_request", "the body is not a form"))?;
    if text(&form, "grant_type") != JWT_BEARER {
        return Err(oauth_error(
            400,
            "unsupported_grant_type",
            "grant type not supported",
        ));
    }
    let assertion = desk
        .assertion("RS256", text(&form, "assertion"))
        .ok_or_else(|| oauth_error(400, "invalid_grant", "invalid assertion"))?;
    if assertion.text("iss") != desk.credential("client_id") {
        return Err(oauth_error(
            400,
            "invalid_client_id",
            "client identifier invalid",
        ));
    }
    if assertion.text("aud") != "https://login.salesforce.com" {
        return Err(oauth_error(400, "invalid_grant", "audience is invalid"));
    }
    if assertion.text("sub") != desk.credential("username") {
        return Err(oauth_error(
            400,
            "invalid_grant",
            "user hasn't approved this consumer",
        ));
    }
    if !assertion.is_current(300) {
        return Err(oauth_error(
            400,
            "invalid_grant",
            "expired authorization code",
        ));
    }
    let token = format!("00D000000000001!{}", random(96));
    desk.issue(&token);
    Ok(ok(&json!({
        "access_token": token,
        "scope": "api",
        "instance_url": "https://made-up.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D000000000001/005000000000001",
        "token_type": "Bearer",
        "issued_at": clock::unix_now_ms().to_string(),
    })))
}

/// `00D…!…`: the exclamation mark is no character of a bearer token (RFC 6750 §2.1), and yet.
fn token(request: &Received) -> Option<String> {
    let (scheme, token) = request.field("authorization")?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.to_owned())
}
