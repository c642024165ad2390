//! `application/x-www-form-urlencoded`, read with a strict eye.

/// The parameters of a form. What no encoder writes is not a form: a raw blank, a byte above ASCII,
/// half an escape, bytes that are not UTF-8.
pub(in crate::fake) fn parse(body: &[u8]) -> Option<Vec<(String, String)>> {
    let body = std::str::from_utf8(body).ok()?;
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Some((decode(name)?, decode(value)?)))
        .collect()
}

/// Decodes one name or value. Punctuation may be left as it is: people write forms by hand.
fn decode(text: &str) -> Option<String> {
    decode_with(text, |byte| byte.is_ascii_graphic())
}

/// Decodes an id or a secret in front of base64 (RFC 6749 §2.3.1). What has to be escaped must be:
/// a raw `+` or `%` would mean something else.
pub(super) fn decode_credential(text: &str) -> Option<String> {
    decode_with(text, |byte| {
        byte.is_ascii_alphanumeric() || b"*-._~".contains(&byte)
    })
}

fn decode_with(text: &str, may_be_raw: fn(u8) -> bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            raw if may_be_raw(raw) => raw,
            _ => return None,
        });
    }
    String::from_utf8(decoded).ok()
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_blanks_are_decoded() {
        let pairs = parse(b"a=b+c%20d&e=%C3%BC&f").unwrap();
        assert_eq!(
            pairs,
            [("a", "b c d"), ("e", "ü"), ("f", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_no_encoder_writes_is_not_a_form() {
        for body in ["a=b c", "a=%", "a=%4", "a=%zz", "a=%ff", "a=ü", "a=\r\n"] {
            assert_eq!(parse(body.as_bytes()), None, "{body:?}");
        }
    }

    #[test]
    fn a_credential_must_be_encoded() {
        assert_eq!(decode_credential("a%2Fb%2Bc+d").as_deref(), Some("a/b+c d"));
        for raw in ["a/b", "a=b", "a@b", "50%", "a:b"] {
            assert_eq!(decode_credential(raw), None, "{raw:?}");
        }
    }
}
