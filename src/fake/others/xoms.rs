//! XOMS of Primary: credentials in fields, and the token in a field of an answer without a body.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::{Desk, Habits, Refusal, any_page};
use crate::fake::Received;
use crate::fake::answer::{self, Answer};
use crate::fake::minted::random;

pub(super) const HABITS: Habits = Habits {
    hosts: &["api.remarkets.primary.com.ar"],
    credentials: &[
        ("username", "made-up"),
        ("password", "made up = \"secret\""),
    ],
    lifetime: Duration::from_secs(86_400),
    single_use: false,
    is_fetch: |request| request.path() == "/auth/getToken",
    fetch,
    token: |request| request.field("x-auth-token").map(str::to_owned),
    unauthorized: || {
        Refusal(
            401,
            json!({ "status": "ERROR", "message": "Authentication required" }),
        )
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    for (field, name) in [("x-username", "username"), ("x-password", "password")] {
        if request.field(field) != Some(desk.credential(name)) {
            return Err((desk.habits.unauthorized)());
        }
    }
    let token = random(44);
    let mut answer = answer::empty(StatusCode::OK);
    let value = HeaderValue::from_str(&token).map_err(|_| (desk.habits.unauthorized)())?;
    answer
        .headers_mut()
        .insert(HeaderName::from_static("x-auth-token"), value);
    desk.issue(&token);
    Ok(answer)
}
