//! Microsoft Entra with a certificate: the assertion names its thumbprint, is signed by PS256, and
//! is good once.

use std::time::Duration;

use serde_json::json;

use super::{Desk, Habits, Refusal, any_page, bearer, ok, parameters, text};
use crate::fake::answer::Answer;
use crate::fake::minted::random;
use crate::fake::{Received, clock};

const PATH: &str = "/5e1f0d6a-0000-4000-8000-6d6164652075/oauth2/v2.0/token";
const AUDIENCE: &str = concat!(
    "https://login.microsoftonline.com",
    "/5e1f0d6a-0000-4000-8000-6d6164652075/oauth2/v2.0/token"
);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) const HABITS: Habits = Habits {
    hosts: &["login.microsoftonline.com", "graph.microsoft.com"],
    credentials: &[
        ("tenant", "5e1f0d6a-0000-4000-8000-6d6164652075"),
        ("client_id", "97e0a5b7-0000-4000-8000-6d6164652075"),
    ],
    lifetime: Duration::from_secs(86_399), // such a long one comes with `refresh_in`
    single_use: false,
    is_fetch: |request| request.path().ends_with("/oauth2/v2.0/token"),
    fetch,
    token: bearer,
    unauthorized: || {
        let message = "Access token has expired or is not yet valid.";
        let error = json!({ "code": "InvalidAuthenticationToken", "message": message });
        Refusal(401, json!({ "error": error }))
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    if request.path() != PATH {
        return Err(refuse(400, "invalid_request", 90_002, "Tenant not found."));
    }
    let form = parameters(request)
        .ok_or_else(|| refuse(400, "invalid_request", 900_144, "The body is not a form."))?;
    if text(&form, "grant_type") != "client_credentials" {
        return Err(refuse(
            400,
            "unsupported_grant_type",
            70_003,
            "Unsupported grant type.",
        ));
    }
    if text(&form, "client_id") != desk.credential("client_id") {
        return Err(refuse(
            400,
            "unauthorized_client",
            700_016,
            "Application not found.",
        ));
    }
    if !text(&form, "scope").ends_with("/.default") {
        return Err(refuse(
            400,
            "invalid_scope",
            1_002_012,
            "The scope must be of the form {resource}/.default.",
        ));
    }
    let client = |code, why| refuse(401, "invalid_client", code, why);
    if text(&form, "client_assertion_type") != ASSERTION_TYPE {
        return Err(client(
            7_000_218,
            "The request must contain client_assertion or client_secret.",
        ));
    }
    let assertion = desk
        .assertion("PS256", text(&form, "client_assertion"))
        .ok_or_else(|| {
            client(
                700_027,
                "The signature of the client assertion is not valid.",
            )
        })?;
    let thumbprint = desk
        .verifier
        .as_ref()
        .and_then(|key| key.thumbprint.as_deref());
    if thumbprint.is_none()
        || assertion
            .header
            .get("x5t#S256")
            .and_then(|value| value.as_str())
            != thumbprint
    {
        return Err(client(
            700_027,
            "The certificate with identifier used to sign the client assertion is not registered on application.",
        ));
    }
    if assertion.text("aud") != AUDIENCE {
        return Err(client(
            700_023,
            "Client assertion audience claim does not match Realm issuer.",
        ));
    }
    let client_id = desk.credential("client_id");
    if (assertion.text("iss"), assertion.text("sub")) != (client_id, client_id) {
        return Err(client(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    if !assertion.is_current(86_400) {
        return Err(client(
            700_024,
            "Client assertion is not within its valid time range.",
        ));
    }
    let jti = assertion.text("jti");
    if jti.is_empty() || desk.seen.check(jti).is_some() {
        return Err(client(
            700_025,
            "The identifier of the client assertion is missing or was used before.",
        ));
    }
    desk.seen.insert(jti, ());
    let token = format!("eyJ0eXAiOiJKV1QifQ.{}", random(300));
    desk.issue(&token);
    Ok(ok(&json!({
        "token_type": "Bearer",
        "expires_in": desk.seconds(),
        "ext_expires_in": desk.seconds(),
        "refresh_in": desk.refresh_in().as_secs(),
        "access_token": token,
    })))
}

fn refuse(status: u16, error: &str, code: u32, why: &str) -> Refusal {
    Refusal(
        status,
        json!({
            "error": error,
            "error_description": format!("AADSTS{code}: {why}"),
            "error_codes": [code],
            "timestamp": clock::rfc3339_in(Duration::ZERO),
        }),
    )
}
