//! Aeropay: what goes wrong is a 200 as well, with a code in the body.

use std::time::Duration;

use serde_json::json;

use super::{Desk, Habits, Refusal, any_page, bearer, object, ok, text};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

/// The names of members and parameters are our guess; that it is a 200 with `AP002` is not.
pub(super) const HABITS: Habits = Habits {
    hosts: &["api.sandbox-pay.aero.inc"],
    credentials: &[
        ("api_key", "made-up-key"),
        ("api_secret", "made-up-secret"),
        ("id", "1390"),
    ],
    lifetime: Duration::from_secs(1800),
    single_use: false,
    is_fetch: |request| request.path() == "/token",
    fetch,
    token: bearer,
    unauthorized: || refuse("AP002", "The token is invalid or has expired"),
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let body = object(request).ok_or_else(|| refuse("AP001", "The body must be JSON"))?;
    for name in ["api_key", "api_secret", "id"] {
        if text(&body, name) != desk.credential(name) {
            return Err(refuse("AP002", "Invalid credentials"));
        }
    }
    if text(&body, "scope") != "merchant" {
        return Err(refuse("AP001", "Unknown scope"));
    }
    let token = random(64);
    desk.issue(&token);
    Ok(ok(
        &json!({ "success": true, "token": token, "TTL": desk.seconds() }),
    ))
}

fn refuse(code: &str, message: &str) -> Refusal {
    Refusal(
        200,
        json!({ "success": false, "error": { "code": code, "message": message } }),
    )
}
