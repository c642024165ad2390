//! Square: a refresh token that somebody brought along, JSON, and the expiry as a date.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, Habits, Refusal, any_page, bearer, object, ok, parameters, text};
use crate::fake::answer::Answer;
use crate::fake::minted::random;
use crate::fake::{Received, clock};

pub(super) const HABITS: Habits = Habits {
    hosts: &["connect.squareup.com"],
    credentials: &[
        ("client_id", "sq0idp-made-up"),
        ("client_secret", "sq0csp-made-up-secret"),
        ("refresh_token", "EQAA-made-up-refresh-token"),
        ("merchant_id", "ML000000MADEUP"),
    ],
    lifetime: Duration::from_secs(30 * 86_400),
    single_use: false,
    is_fetch: |request| request.path() == "/oauth2/token",
    fetch,
    token: bearer,
    unauthorized: || {
        Refusal(
            401,
            errors(
                "AUTHENTICATION_ERROR",
                "UNAUTHORIZED",
                "This request could not be authorized.",
            ),
        )
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let bad = |detail: &str| Refusal(400, errors("INVALID_REQUEST_ERROR", "BAD_REQUEST", detail));
    if request
        .field("square-version")
        .is_some_and(|version| !is_date(version))
    {
        return Err(bad("The Square-Version is not a date."));
    }
    let body = object(request)
        .or_else(|| parameters(request))
        .ok_or_else(|| bad("The body is neither JSON nor a form."))?;
    if text(&body, "grant_type") != "refresh_token" {
        return Err(bad("Missing or invalid parameter `grant_type`"));
    }
    for name in ["client_id", "client_secret", "refresh_token"] {
        if text(&body, name) != desk.credential(name) {
            let detail = format!("Invalid parameter `{name}`");
            return Err(Refusal(
                401,
                errors("AUTHENTICATION_ERROR", "UNAUTHORIZED", &detail),
            ));
        }
    }
    let token = format!("EAAA{}", random(60));
    desk.issue(&token);
    Ok(ok(&json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_at": clock::rfc3339_in(desk.tokens.lifetime()),
        "merchant_id": desk.credential("merchant_id"),
        "refresh_token": desk.credential("refresh_token"), // the same, as in the code flow
        "short_lived": false,
    })))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.split('-').map(str::len);
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
        && (parts.next(), parts.next(), parts.next(), parts.next())
            == (Some(4), Some(2), Some(2), None)
}

fn errors(category: &str, code: &str, detail: &str) -> Value {
    json!({ "errors": [{ "category": category, "code": code, "detail": detail }] })
}
