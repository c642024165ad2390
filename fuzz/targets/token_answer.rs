//! Any answer of a token endpoint: a token that is taken can be a field value, and is good for a bounded time.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use pillion::provider::exchange::Answer;
use pillion::provider::expiry::{Expiry, Unit};
use pillion::provider::pointer::Pointer;
use pillion::provider::reading::{Reading, RefreshPlace, SingleUse, TokenPlace};
use pillion::provider::{Lifetime, Subject};

static READING: LazyLock<Reading> = LazyLock::new(|| {
    let pointer = |text| Pointer::parse(text).expect("a pointer");
    Reading {
        fields: vec![("merchant".to_owned(), pointer("/merchant_id"))],
        soft_expiry: vec![Expiry::Json(pointer("/refresh_in"), Unit::Seconds)],
        expiry: vec![
            Expiry::Json(pointer("/expires_on"), Unit::Epoch),
            Expiry::Json(pointer("/until"), Unit::Rfc3339),
            Expiry::ExpiresIn,
            Expiry::Jwt { strip_prefix: None },
        ],
        single_use: SingleUse::When(pointer("/usage"), vec!["ONCE".into()]),
        retry_after: Some(pointer("/retry_after")),
        error: Some(pointer("/error_description")),
        refresh: Some(RefreshPlace {
            token: pointer("/refresh_token"),
            expiry: vec![Expiry::Json(pointer("/refresh_expires_in"), Unit::Seconds)],
        }),
        ..Reading::new(TokenPlace::Json(pointer("/*/access_token")))
    }
});

fuzz_target!(|input: (u16, &str, &[u8])| {
    let (status, date, body) = input;
    let mut headers = HeaderMap::new();
    if let Ok(date) = HeaderValue::from_str(date) {
        headers.insert("date", date.clone());
        headers.insert("retry-after", date);
    }
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        headers,
        body: Bytes::copy_from_slice(body),
    };
    let Ok(grant) = READING.read(&answer, &Subject::default()) else {
        return;
    };
    let token = grant.token.reveal();
    let field = HeaderValue::from_str(&format!("Bearer {token}"));
    assert!(!token.is_empty() && field.is_ok(), "{token:?}");
    assert!(answer.status.is_success());
    if let Lifetime::For(life) = grant.lifetime {
        assert!(life.as_secs() > 0 || life.subsec_nanos() > 0);
    }
});
