//! A GitHub App: a JWT signed by the client itself, good for ten minutes at most, is the parent of
//! a token for each installation.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Desk, Habits, Refusal, any_page};
use crate::fake::answer::{self, Answer};
use crate::fake::minted::random;
use crate::fake::{Received, clock};

pub(super) const HABITS: Habits = Habits {
    hosts: &["api.github.com"],
    credentials: &[("app_id", "123456")],
    lifetime: Duration::from_secs(3600),
    single_use: false,
    is_fetch: |request| installation(request.path()).is_some(),
    fetch,
    token,
    unauthorized: || Refusal(401, message("Bad credentials")),
    page: any_page,
};

/// The installation of `/app/installations/{id}/access_tokens`.
fn installation(path: &str) -> Option<&str> {
    path.strip_prefix("/app/installations/")?
        .strip_suffix("/access_tokens")
}

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    // GitHub turns everybody away who does not say who they are.
    if request.field("user-agent").is_none_or(str::is_empty) {
        return Err(Refusal(
            403,
            message("Request forbidden by administrative rules."),
        ));
    }
    let refuse = |text: &str| Refusal(401, message(text));
    let assertion = super::bearer(request)
        .and_then(|token| desk.assertion("RS256", &token))
        .ok_or_else(|| refuse("A JSON web token could not be decoded"))?;
    let issuer = match assertion.claims.get("iss") {
        Some(Value::Number(number)) => number.to_string(),
        _ => assertion.text("iss").to_owned(),
    };
    if issuer != desk.credential("app_id") {
        return Err(refuse("'Issuer' claim ('iss') must be an Integer"));
    }
    if !assertion.is_current(600) || assertion.claims.get("iat").is_none() {
        return Err(refuse(
            "'Expiration time' claim ('exp') is too far in the future",
        ));
    }
    let id = installation(request.path()).unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal(404, message("Not Found")));
    }
    if !request.body.is_empty() && !request.json().is_some_and(|body| body.is_object()) {
        return Err(Refusal(400, message("Problems parsing JSON")));
    }
    let wanted = request.json().unwrap_or_default();
    let token = format!("ghs_{}", random(36));
    desk.issue(&token);
    Ok(answer::json(
        StatusCode::CREATED,
        &json!({
            "token": token,
            "expires_at": clock::rfc3339_in(desk.tokens.lifetime()),
            "permissions": wanted.get("permissions").cloned().unwrap_or_else(|| json!({ "metadata": "read" })),
            "repository_selection": if wanted.get("repositories").is_some() { "selected" } else { "all" },
        }),
    ))
}

/// `Bearer` or `token`.
fn token(request: &Received) -> Option<String> {
    let (scheme, token) = request.field("authorization")?.split_once(' ')?;
    ["bearer", "token"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
        .then(|| token.to_owned())
}

fn message(text: &str) -> Value {
    json!({ "message": text, "documentation_url": "https://docs.github.com/rest" })
}
