//! What a JWT says of itself. Nothing is verified: it is for people to read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::provider::secret::Secret;

/// The readable parts of a JWT (RFC 7519).
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// Its JOSE header.
    pub header: Map<String, Value>,
    /// Its claims.
    pub payload: Map<String, Value>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims {
    /// The claims of a token, if it is a signed JWT; something like `sandbox_` may stand before it.
    #[must_use]
    pub fn of(token: &Secret) -> Option<Self> {
        let token = token.reveal();
        let jwt = token.get(token.find("eyJ")?..)?;
        let mut parts = jwt.split('.');
        let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            header: object(header)?,
            payload: object(payload)?,
        })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_jwt_is_read_behind_a_prefix_and_nothing_else_is() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let jwt = format!(
            "{}.{}.c2ln",
            part(json!({"alg": "RS256"})),
            part(json!({"exp": 7}))
        );
        let claims = |token: String| Claims::of(&Secret::new(token));
        let read = claims(format!("sandbox_{jwt}")).unwrap();
        assert_eq!(claims(jwt.clone()), Some(read.clone()));
        assert_eq!(
            (&read.header["alg"], &read.payload["exp"]),
            (&json!("RS256"), &json!(7))
        );
        for other in [
            "opaque",
            "eyJ.eyJ.x",
            "eyJhbGciOiJub25lIn0",
            &format!("{jwt}.more.parts"),
        ] {
            assert_eq!(claims(other.to_owned()), None, "{other}");
        }
    }
}
