//! Whether an answer says that the token is no good, and what follows from it.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

/// What an answer says about the token that it was asked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The upstream took it.
    Accepted,
    /// The upstream refused it, and another one may do better.
    Refused,
    /// A 401, but not one that a new token would change.
    NotTheToken,
}

/// Judges an answer by its head (RFC 6750 §3.1).
#[must_use]
pub fn judge(status: StatusCode, headers: &HeaderMap) -> Verdict {
    if status != StatusCode::UNAUTHORIZED {
        return Verdict::Accepted;
    }
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let hopeless = challenges
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("insufficient_scope") || value.contains("use_dpop_nonce"));
    if hopeless {
        Verdict::NotTheToken
    } else {
        Verdict::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, challenge: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_a_401_that_a_new_token_may_cure_is_a_refusal() {
        assert_eq!(judged(401, None), Verdict::Refused);
        assert_eq!(
            judged(401, Some(r#"Bearer error="invalid_token""#)),
            Verdict::Refused
        );
        assert_eq!(
            judged(401, Some(r#"Bearer error="insufficient_scope""#)),
            Verdict::NotTheToken
        );
        assert_eq!(
            judged(401, Some(r#"DPoP error="use_dpop_nonce""#)),
            Verdict::NotTheToken
        );
        for status in [200, 307, 400, 403, 407, 429, 500, 503] {
            assert_eq!(judged(status, None), Verdict::Accepted);
        }
    }
}
