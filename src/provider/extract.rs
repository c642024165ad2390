//! What is read out of a token answer: the token, and how long it lives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::pointer::Pointer;
use super::{FetchError, Lifetime};

/// Holds a token to what a field value may be (RFC 9110 §5.5), and to a length that heads can carry.
///
/// # Errors
///
/// [`FetchError::Malformed`], without a word of the token.
pub fn check_token(token: &str) -> Result<(), FetchError> {
    if token.is_empty() {
        return Err(FetchError::malformed("the token is empty"));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(FetchError::malformed("the token is longer than 16 KiB"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(FetchError::malformed(
            "the token has a character that a header cannot carry",
        ));
    }
    Ok(())
}

/// The lifetime that a token response states: `expires_in` (RFC 6749 §5.1), else the JWT's own `exp`.
///
/// An `exp` that comes sooner than `expires_in` wins: it is what the upstream will check. `until` knows how long it is
/// until a second since 1970.
pub(super) fn lifetime(
    expires_in: Option<&Value>,
    token: &str,
    until: impl Fn(f64) -> Lifetime,
) -> Option<Lifetime> {
    let by_exp = jwt_expiry(token).map(until);
    match (expires_in.and_then(number).map(seconds), by_exp) {
        (Some(stated), Some(Lifetime::For(exp))) => Some(stated.at_most(exp)),
        (stated, by_exp) => stated.or(by_exp),
    }
}

/// The members of an answer that are kept under these names; what is not there, or null, is not kept.
#[must_use]
pub fn fields(wanted: &[(String, Pointer)], answer: &Value) -> Vec<(String, Value)> {
    wanted
        .iter()
        .filter_map(|(name, pointer)| {
            let mut found = pointer.find(answer).into_iter();
            let value = found.find(|value| !value.is_null())?;
            Some((name.clone(), value.clone()))
        })
        .collect()
}

/// A number of seconds, however it is written: 3600, 3599.5, "3600". Anything else is as good as absent.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

// Nought or less still is one use: the request that asked for it. A century is a mistake, and not to be trusted for long.
pub(super) fn seconds(number: f64) -> Lifetime {
    if number < LEAST.as_secs_f64() {
        Lifetime::Clamped(LEAST)
    } else if number > ABSURD.as_secs_f64() {
        Lifetime::Clamped(IN_PLACE_OF_ABSURD)
    } else {
        Lifetime::For(Duration::from_secs_f64(number))
    }
}

/// The `exp` claim (RFC 7519 §4.1.4), if the token is a JWT. Its signature is the upstream's business.
pub(super) fn jwt_expiry(token: &str) -> Option<f64> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_f64()
}

pub(super) fn unix_seconds(now: SystemTime) -> f64 {
    now.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The longest token that is accepted.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The shortest life.
const LEAST: Duration = Duration::from_secs(1);
/// A life beyond this is a mistake: more than the 360 days that one bank really grants.
const ABSURD: Duration = Duration::from_hours(400 * 24);
const IN_PLACE_OF_ABSURD: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(expires_in: &Value) -> Option<Lifetime> {
        lifetime(Some(expires_in), "opaque", until)
    }

    // It is a quarter past midnight, or so, in 1970.
    fn until(end: f64) -> Lifetime {
        seconds(end - 1000.0)
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn expires_in_is_read_however_it_is_written() {
        let length = |seconds| Some(Lifetime::For(Duration::from_secs_f64(seconds)));
        let clamped = |length| Some(Lifetime::Clamped(length));
        for (written, read) in [
            (json!(3600), length(3600.0)),
            (json!("3600"), length(3600.0)),
            (json!(3599.5), length(3599.5)),
            (json!("3599.5"), length(3599.5)),
            (json!(31_104_000), length(31_104_000.0)),
            (json!(1), length(1.0)),
            (json!(0), clamped(LEAST)),
            (json!(-5), clamped(LEAST)),
            (json!(1e17), clamped(IN_PLACE_OF_ABSURD)),
            (json!("1e400"), None),
            (json!("3600abc"), None),
            (json!("NaN"), None),
            (json!(""), None),
            (json!(null), None),
            (json!(true), None),
            (json!([]), None),
        ] {
            assert_eq!(of(&written), read, "{written}");
        }
    }

    #[test]
    fn without_expires_in_the_exp_of_a_jwt_counts() {
        let life = |token: &str| lifetime(None, token, until);
        let left = Duration::from_secs(900);
        let over = Some(Lifetime::Clamped(LEAST));
        assert_eq!(life(&jwt(&json!({"exp": 1900}))), Some(Lifetime::For(left)));
        assert_eq!(life(&jwt(&json!({"exp": 900}))), over);
        for token in [&jwt(&json!({"iat": 900})), "not.a.jwt", "two.segments"] {
            assert_eq!(life(token), None);
        }
    }

    #[test]
    fn a_sooner_exp_lowers_expires_in_and_a_later_one_does_not_raise_it() {
        let life = |stated: f64, exp: u64| {
            lifetime(Some(&json!(stated)), &jwt(&json!({"exp": exp})), until).unwrap()
        };
        let (sooner, stated) = (Duration::from_secs(300), Duration::from_secs(600));
        assert_eq!(life(600.0, 1300), Lifetime::For(sooner));
        assert_eq!(life(600.0, 9000), Lifetime::For(stated));
        assert_eq!(life(600.0, 900), Lifetime::For(stated));
        assert_eq!(life(1e17, 1300), Lifetime::Clamped(sooner));
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_without_being_quoted() {
        for token in ["", "a b", "a\r\nb", "a\n", "é", "a\0"] {
            let error = check_token(token).unwrap_err().to_string();
            assert!(token.is_empty() || !error.contains(token), "{error}");
        }
        assert!(check_token(&"x".repeat(MAX_TOKEN_BYTES + 1)).is_err());
        assert!(check_token("sandbox_eyJ.a-b~c+/=").is_ok());
    }
}
