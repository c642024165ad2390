//! `HashiCorp` Vault: a login with an `AppRole`, a token in a field of its own, a 403 when it is dead,
//! and a life that can be extended.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, Habits, Refusal, any_page, ok, text};
use crate::fake::Received;
use crate::fake::answer::Answer;
use crate::fake::minted::random;

pub(super) const HABITS: Habits = Habits {
    hosts: &["vault.made-up.example"],
    credentials: &[
        ("role_id", "db02de05-0000-4000-8000-6d6164652075"),
        ("secret_id", "6a174c20-0000-4000-8000-6d6164652075"),
    ],
    lifetime: Duration::from_secs(1200),
    single_use: false,
    is_fetch: |request| {
        ["/v1/auth/approle/login", "/v1/auth/token/renew-self"].contains(&request.path())
    },
    fetch,
    token,
    unauthorized: || Refusal(403, errors("permission denied")),
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    if request.path() == "/v1/auth/token/renew-self" {
        let token = token(request).filter(|token| desk.accept(token));
        let token = token.ok_or_else(desk.habits.unauthorized)?;
        desk.tokens.insert(&token, ());
        return Ok(ok(&auth(desk, &token)));
    }
    // Vault reads JSON whatever the request calls it.
    let body = request.json().unwrap_or_default();
    for name in ["role_id", "secret_id"] {
        if text(&body, name).is_empty() {
            return Err(Refusal(400, errors(&format!("missing {name}"))));
        }
        if text(&body, name) != desk.credential(name) {
            return Err(Refusal(400, errors("invalid role or secret ID")));
        }
    }
    let token = format!("hvs.{}", random(90));
    desk.issue(&token);
    Ok(ok(&auth(desk, &token)))
}

fn auth(desk: &Desk, token: &str) -> Value {
    json!({
        "request_id": "made-up",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": null,
        "auth": {
            "client_token": token,
            "accessor": "made-up",
            "policies": ["default"],
            "token_type": "service",
            "lease_duration": desk.seconds(),
            "renewable": true,
        },
    })
}

fn token(request: &Received) -> Option<String> {
    request.field("x-vault-token").map(str::to_owned)
}

fn errors(text: &str) -> Value {
    json!({ "errors": [text] })
}
