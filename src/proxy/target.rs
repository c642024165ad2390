//! Request targets: what may be matched against routes, and forwarded.
//!
//! A path that another reader could take for a different one is refused, whichever of them is right: the upstream must
//! see what was matched. What is left is forwarded byte for byte.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

use super::problem::ProxyError;

/// The path and query of a request, fit to be matched.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Begins with a slash. No segment but the last is empty, none is a dot segment however written.
    pub path: &'a str,
    /// Without its question mark.
    pub query: Option<&'a str>,
    /// Something in the path is escaped.
    pub has_escapes: bool,
}

impl<'a> Target<'a> {
    /// Reads the target of a request in origin-form or absolute-form (RFC 9112 §3.2).
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadTarget`] with the rule that it breaks.
    pub fn parse(uri: &'a Uri) -> Result<Self, ProxyError> {
        let path = uri.path();
        let query = uri.query();
        let has_escapes = check_path(path).map_err(ProxyError::BadTarget)?;
        if query.is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ProxyError::BadTarget(
                "the query has a byte that is not ASCII",
            ));
        }
        Ok(Self {
            path,
            query,
            has_escapes,
        })
    }
}

/// A segment as it is meant: percent-decoded.
///
/// # Errors
///
/// When it is not UTF-8.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, ProxyError> {
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| ProxyError::BadTarget("a path segment is not UTF-8"))
}

/// Whether something in a path that can be used is escaped.
fn check_path(path: &str) -> Result<bool, &'static str> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("the path does not begin with a slash");
    };
    // Nearly every path: nothing in it that anybody reads in two ways.
    let mut before = Byte::Plain;
    let is_plain = path.bytes().all(|byte| {
        let byte = BYTES.get(usize::from(byte)).copied();
        let byte = byte.unwrap_or(Byte::Doubtful);
        let is_doubtful = match byte {
            Byte::Plain => false,
            Byte::Slash | Byte::Dot => before == Byte::Slash,
            Byte::Doubtful => true,
        };
        before = byte;
        !is_doubtful
    });
    if is_plain {
        return Ok(false);
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err("the path has an empty segment");
        }
        check_segment(segment.as_bytes())?;
    }
    Ok(path.contains('%'))
}

/// What a byte of a path may be.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Byte {
    Plain,
    Slash,
    Dot,
    Doubtful,
}

/// A table, because it takes half of what comparing does.
#[expect(
    clippy::indexing_slicing,
    reason = "in a constant, where the compiler would tell"
)]
const BYTES: [Byte; 256] = {
    let mut bytes = [Byte::Doubtful; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        bytes[byte] = match byte as u8 {
            b'/' => Byte::Slash,
            b'.' => Byte::Dot,
            b'!' | b'"' | b'$' | b'&'..=b':' | b'<'..=b'[' | b']'..=b'~' => Byte::Plain,
            _ => Byte::Doubtful,
        };
        byte += 1;
    }
    bytes
};

// Decoded again and again, as a chain of readers might, until nothing changes.
fn check_segment(raw: &[u8]) -> Result<(), &'static str> {
    if !raw.iter().all(u8::is_ascii_graphic) {
        return Err("the path has a byte that is not printable ASCII");
    }
    if !escapes_are_whole(raw) {
        return Err("the path has a % that is no escape");
    }
    let mut segment = Cow::Borrowed(raw);
    loop {
        if segment
            .iter()
            .any(|byte| matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f))
        {
            return Err("the path has an encoded slash, a backslash or a control character");
        }
        if is_overlong(&segment) {
            return Err("the path has an overlong UTF-8 sequence");
        }
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return Err("the path has a dot segment");
        }
        let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode(&segment).into();
        if decoded == segment {
            return Ok(());
        }
        segment = Cow::Owned(decoded.into_owned());
    }
}

fn escapes_are_whole(segment: &[u8]) -> bool {
    let mut pieces = segment.split(|byte| *byte == b'%');
    pieces.next();
    pieces.all(|piece| {
        let mut digits = piece.iter().take(2);
        digits.len() == 2 && digits.all(u8::is_ascii_hexdigit)
    })
}

// Some decoders take C0 AE for a dot and C0 AF for a slash.
fn is_overlong(segment: &[u8]) -> bool {
    segment.array_windows().any(|pair| {
        matches!(
            pair,
            [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> Result<(), &'static str> {
        let has_escapes = check_path(path)?;
        assert_eq!(has_escapes, path.contains('%'), "{path}");
        Ok(())
    }

    #[test]
    fn paths_that_mean_one_thing_pass() {
        for path in [
            "/",
            "/stitch",
            "/stitch/",
            "/stitch/graphql",
            "/a/b.c/..d/e..",
            "/a/%20b/%E2%82%AC",
            "/a/caf%E9",
            "/a;v=1/b;c",
            "/a/%25",
            "/a:b@c!$&'()*+,=~-_",
            "/a/...",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn paths_that_somebody_normalises_to_another_are_refused() {
        for path in [
            "",
            "*",
            "a",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a/..",
            "//a",
            "/a//b",
            "/a//",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/a/%2e",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/%2e%2e%3b/b",
            "/a/.;/b",
            "/a\\b",
            "/a/%5cb",
            "/a%2fb",
            "/a%2Fb",
            "/a/%00",
            "/a/%0d%0a",
            "/a/%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a/%252e%252e/b",
            "/a%252fb",
            "/a/%25252e%25252e/b",
            "/a/%c0%ae%c0%ae/b",
            "/a%c0%afb",
            "/a/%e0%80%ae",
            "/a b",
            "/é",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
