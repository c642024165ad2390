//! Shopify's client credentials: a form or JSON, and a token in a field of its own.

use std::time::Duration;

use serde_json::json;

use super::{Desk, Habits, Refusal, any_page, oauth_error, object, ok, parameters, text};
use crate::fake::Received;
use crate::fake::answer::Answer;

pub(super) const HABITS: Habits = Habits {
    hosts: &["made-up.myshopify.com"],
    credentials: &[
        ("client_id", "5f4d1c3b2a190807f6e5d4c3b2a19080"),
        ("client_secret", "shpss_0123456789abcdef0123456789abcdef"),
    ],
    lifetime: Duration::from_secs(86_399),
    single_use: false,
    is_fetch: |request| request.path() == "/admin/oauth/access_token",
    fetch,
    token: |request| request.field("x-shopify-access-token").map(str::to_owned),
    unauthorized: || {
        let errors = "[API] Invalid API key or access token (unrecognized login or wrong password)";
        Refusal(401, json!({ "errors": errors }))
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    let body = object(request)
        .or_else(|| parameters(request))
        .ok_or_else(|| {
            oauth_error(
                400,
                "invalid_request",
                "The body is neither JSON nor a form",
            )
        })?;
    if text(&body, "grant_type") != "client_credentials" {
        return Err(oauth_error(
            400,
            "unsupported_grant_type",
            "The grant type is not supported",
        ));
    }
    for name in ["client_id", "client_secret"] {
        if text(&body, name) != desk.credential(name) {
            return Err(oauth_error(
                400,
                "application_cannot_be_found",
                "No application matches",
            ));
        }
    }
    let token = format!("shpat_{:032x}", fastrand::u128(..));
    desk.issue(&token);
    Ok(ok(&json!({
        "access_token": token,
        "scope": "read_products,write_orders",
        "expires_in": desk.seconds(),
    })))
}
