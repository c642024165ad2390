//! The Concierge service: a token for the backend, and tokens for a bank's customers made with it.

use serde_json::json;

use super::role::{Ask, Role, sampled, supplied};
use super::system::System;
use crate::config::file::SourceFile;
use crate::fake::Concierge;

/// SHA-256 of `+15550100`, a number that nobody has.
pub(in crate::cli::demo) const PHONE: &str =
    "602cd7fbbe41688e2d90224bcac362db2f1ff2e2ba7487d8585c9ce226cb6d00";

pub(super) fn role(source: &SourceFile, concierge: &Concierge) -> Result<Role, String> {
    let SourceFile::Http(exchange) = source else {
        return Err("the Concierge service has no such tokens".to_owned());
    };
    let url = exchange.request.url.as_ref();
    let path = url.and_then(|url| url.path.as_literal());
    let (reads, brings) = match path {
        Some("/sdk/auth/getToken") => (Ask::post("/api/user/list", json!({})), "\"users\""),
        Some(
            "/sdk/auth/getClientTokenByPhone"
            | "/sdk/auth/getClientTokenByClientId"
            | "/sdk/auth/getClientTokenForActivation",
        ) => (Ask::get("/sdk/client/profile"), "{"),
        _ => return Err("the stand-in has nothing at this path".to_owned()),
    };
    let password = [
        ("username", concierge.app_id()),
        ("password", concierge.app_secret()),
    ];
    let samples = [
        ("expires_minutes", json!(60)),
        ("phones", json!([{ "hash": PHONE, "primary": true }])),
        ("client_id", json!("42")),
        ("token_type", json!("self")),
    ];
    Ok(Role {
        system: System::Concierge,
        secrets: supplied(exchange, &password),
        reads,
        brings,
        pays: None,
        samples: sampled(exchange, &samples),
    })
}
