//! Auth0: client credentials in JSON, with the audience that the token is for.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::{Desk, Habits, Refusal, any_page, bearer, oauth_error, object, ok, parameters, text};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

pub(super) const HABITS: Habits = Habits {
    hosts: &["made-up.eu.auth0.com", "api.made-up.example"],
    credentials: &[
        ("client_id", "vL0bH8dMadeUpClient"),
        ("client_secret", "made-up_\"secret\"_of the demo"),
        ("audience", "https://api.made-up.example/"),
    ],
    lifetime: Duration::from_secs(86_400),
    single_use: false,
    is_fetch: |request| request.path() == "/oauth/token",
    fetch,
    token: bearer,
    unauthorized: || {
        oauth_error(
            401,
            "invalid_token",
            "The access token is invalid or expired",
        )
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let body = object(request)
        .or_else(|| parameters(request))
        .ok_or_else(|| oauth_error(400, "invalid_request", "The body cannot be read"))?;
    if text(&body, "grant_type") != "client_credentials" {
        return Err(oauth_error(
            403,
            "unsupported_grant_type",
            "Unsupported grant type",
        ));
    }
    for name in ["client_id", "client_secret"] {
        if text(&body, name) != desk.credential(name) {
            return Err(oauth_error(401, "access_denied", "Unauthorized"));
        }
    }
    let audience = text(&body, "audience");
    if audience != desk.credential("audience") {
        let why = format!("Service not enabled within domain: {audience}");
        return Err(oauth_error(403, "access_denied", &why));
    }
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{}", random(300));
    desk.issue(&token);
    let mut answer = ok(&json!({
        "access_token": token,
        "expires_in": desk.seconds(),
        "token_type": "Bearer",
    }));
    let remaining = HeaderName::from_static("x-ratelimit-remaining");
    answer
        .headers_mut()
        .insert(remaining, HeaderValue::from_static("99"));
    Ok(answer)
}
