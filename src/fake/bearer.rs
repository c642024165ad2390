//! The one bearer token of a request (RFC 6750), read with a strict eye.

use super::received::Received;

/// The bearer token of `request`: in exactly one `Authorization` field, in the right alphabet, and
/// nowhere else.
///
/// A second field, a token in the query, or anything around the token makes it no token at all.
pub(super) fn bearer(request: &Received) -> Option<&str> {
    if query_has_token(request) {
        return None;
    }
    let (scheme, token) = request.field("authorization")?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && is_b64token(token)).then_some(token)
}

/// RFC 6750 §2.3 knows this place and advises against it; Stitch and Forage never document it.
fn query_has_token(request: &Received) -> bool {
    let query = request.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
}

/// `b64token` of RFC 6750 §2.1.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}
