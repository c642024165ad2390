//! SumUp: a merchant's token for a client, made by a parent, and named in the path.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, Habits, Refusal, any_page, bearer, object, ok};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

pub(super) const HABITS: Habits = Habits {
    hosts: &["api.sumup.com"],
    credentials: &[("api_key", "sup_sk_made_up")],
    lifetime: Duration::from_secs(899),
    single_use: false,
    is_fetch: |request| merchant(request.path()).is_some(),
    fetch,
    token: bearer,
    unauthorized: || Refusal(401, problem("NOT_AUTHORIZED", "Unauthorized")),
    page: any_page,
};

fn merchant(path: &str) -> Option<&str> {
    path.strip_prefix("/v0.1/merchants/")?
        .strip_suffix("/tokens")
}

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    if bearer(request).as_deref() != Some(desk.credential("api_key")) {
        return Err(Refusal(401, problem("NOT_AUTHORIZED", "Unauthorized")));
    }
    let code = merchant(request.path()).unwrap_or_default();
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal(404, problem("NOT_FOUND", "No such merchant")));
    }
    let body = object(request).unwrap_or_default();
    let actions = body.get("actions").and_then(Value::as_array);
    if !actions.is_some_and(|actions| actions.contains(&json!("checkout"))) {
        return Err(Refusal(
            400,
            problem("INVALID", "actions must name checkout"),
        ));
    }
    let token = random(48);
    desk.issue(&token);
    Ok(ok(
        &json!({ "access_token": token, "expires_in": desk.seconds() }),
    ))
}

fn problem(code: &str, message: &str) -> Value {
    json!({ "error_code": code, "message": message })
}
