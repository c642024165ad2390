//! Marqeta: a token for one request about one card, sent as the password of `Basic`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Desk, Habits, Refusal, any_page, object, text};
use crate::fake::answer::{self, Answer};
use crate::fake::minted::random;
use crate::fake::{Received, clock};

const APPLICATION: &str = "made-up-application-token";
const ADMIN: &str = "made-up:admin-token"; // the colon is the password's

pub(super) const HABITS: Habits = Habits {
    hosts: &["sandbox-api.marqeta.com"],
    credentials: &[("application_token", APPLICATION), ("admin_token", ADMIN)],
    lifetime: Duration::from_secs(300),
    single_use: true,
    is_fetch: |request| request.path() == "/v3/users/auth/clientaccesstoken",
    fetch,
    token: |request| {
        let (application, token) = basic(request)?;
        (application == APPLICATION).then_some(token)
    },
    unauthorized: || Refusal(401, error("401001", "Invalid or expired credentials")),
    page: any_page,
};

/// The names of the answer's members are, except `token`, our guess.
fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    if basic(request) != Some((APPLICATION.to_owned(), ADMIN.to_owned())) {
        return Err(Refusal(401, error("401001", "Invalid credentials")));
    }
    let body = object(request).unwrap_or_default();
    let card = text(&body, "card_token");
    if card.is_empty() {
        return Err(Refusal(400, error("400001", "card_token is missing")));
    }
    let token = random(36);
    desk.issue(&token);
    Ok(answer::json(
        StatusCode::CREATED,
        &json!({
            "token": token,
            "card_token": card,
            "application_token": APPLICATION,
            "created_time": clock::rfc3339_in(Duration::ZERO),
            "expires": clock::rfc3339_in(desk.tokens.lifetime()),
        }),
    ))
}

fn basic(request: &Received) -> Option<(String, String)> {
    let (scheme, credentials) = request.field("authorization")?.split_once(' ')?;
    let credentials = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, password) = credentials.split_once(':')?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| (user.to_owned(), password.to_owned()))
}

fn error(code: &str, message: &str) -> Value {
    json!({ "error_code": code, "error_message": message })
}
