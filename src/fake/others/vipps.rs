//! Vipps `MobilePay`: credentials in fields, nothing in the body, numbers in strings; and two of the
//! fields go along with every call.

use std::time::Duration;

use serde_json::json;

use super::{Desk, Habits, Refusal, any_page, ok};
use crate::fake::answer::Answer;
use crate::fake::minted::random;
use crate::fake::{Received, clock};

const SUBSCRIPTION_KEY: &str = "0f14ebcab0ec4b29ae0cb90d91b4a84a";
const SERIAL_NUMBER: &str = "123456";

pub(super) const HABITS: Habits = Habits {
    hosts: &["api.vipps.no"],
    credentials: &[
        ("client_id", "fb492b5e-0000-4000-8000-6d6164652075"),
        ("client_secret", "Y8Kteew6GE3ZmeycEt6egg=="),
        ("Ocp-Apim-Subscription-Key", SUBSCRIPTION_KEY),
        ("Merchant-Serial-Number", SERIAL_NUMBER),
    ],
    lifetime: Duration::from_secs(86_398),
    single_use: false,
    is_fetch: |request| request.path() == "/accesstoken/get",
    fetch,
    token,
    unauthorized: || {
        Refusal(
            401,
            json!({ "message": "Access denied due to invalid subscription key or token.", "statusCode": 401 }),
        )
    },
    page: any_page,
};

fn fetch(desk: &Desk, request: &Received) -> Result<Answer, Refusal> {
    for name in ["client_id", "client_secret", "Ocp-Apim-Subscription-Key"] {
        if request.field(&name.to_ascii_lowercase()) != Some(desk.credential(name)) {
            let error =
                json!({ "message": format!("{name} is missing or wrong"), "statusCode": 401 });
            return Err(Refusal(401, error));
        }
    }
    if !request.body.is_empty() {
        return Err(Refusal(
            400,
            json!({ "message": "The body must be empty", "statusCode": 400 }),
        ));
    }
    let token = format!("eyJ0eXAiOiJKV1QifQ.{}", random(300));
    desk.issue(&token);
    let now = clock::unix_now();
    Ok(ok(&json!({
        "token_type": "Bearer",
        "expires_in": desk.seconds().to_string(),
        "ext_expires_in": "0",
        "expires_on": (now + desk.seconds()).to_string(),
        "not_before": now.to_string(),
        "resource": "00000002-0000-0000-c000-000000000000",
        "access_token": token,
    })))
}

fn token(request: &Received) -> Option<String> {
    let along = (
        request.field("ocp-apim-subscription-key"),
        request.field("merchant-serial-number"),
    );
    (along == (Some(SUBSCRIPTION_KEY), Some(SERIAL_NUMBER))).then(|| super::bearer(request))?
}
