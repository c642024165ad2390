//! The framing of a request: one reader's body must not be another's next request.
//!
//! hyper settles what is doubtful the way RFC 9112 §6 says a recipient may, and rebuilds it. We refuse it, because an
//! honest client never sends it.

use std::fmt;

use http::header::{CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, Uri, Version};

use super::problem::ProxyError;

/// Checks the head of a request in HTTP/2, which has a framing of its own: what is refused here would be doubtful behind us.
///
/// # Errors
///
/// [`ProxyError::HeadTooLarge`] for more than [`MOST_FIELDS`] or [`MOST_LIST_BYTES`]; [`ProxyError::BadFraming`] where a
/// field belongs to a connection of HTTP/1.1 (RFC 9113 §8.2.2), a value has white space around it (§8.2.1), or there is
/// more than one `Content-Length`.
pub fn check_http2(uri: &Uri, headers: &HeaderMap) -> Result<(), ProxyError> {
    if headers.len() > MOST_FIELDS || list_bytes(uri, headers) > MOST_LIST_BYTES {
        return Err(ProxyError::HeadTooLarge);
    }
    if headers
        .values()
        .any(|value| has_space_around(value.as_bytes()))
    {
        return Err(ProxyError::BadFraming(
            "the request has a field with white space around its value",
        ));
    }
    if has_connection_fields(headers) {
        return Err(ProxyError::BadFraming(
            "the request has a field that only a connection of HTTP/1.1 has",
        ));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map_or(&b"0"[..], |value| value.as_bytes());
    if lengths.next().is_some() {
        return Err(ProxyError::BadFraming(
            "the request has more than one Content-Length",
        ));
    }
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(ProxyError::BadFraming("the Content-Length is not a number"));
    }
    Ok(())
}

/// How large a head is for HTTP/2 (RFC 9113 §6.5.2); of the pseudo-fields, what can be long.
fn list_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let fields = headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD_BYTES);
    host.len() + target.len() + fields.sum::<usize>()
}

fn has_space_around(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn has_connection_fields(headers: &HeaderMap) -> bool {
    const FIELDS: [&str; 5] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ];
    FIELDS.iter().any(|name| headers.contains_key(*name))
        || headers.get_all(TE).iter().any(|value| value != "trailers")
}

/// A request line as hyper has read it.
#[derive(Clone, Copy)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target, without a fragment.
    pub uri: &'a Uri,
    /// HTTP/1.1 or HTTP/1.0.
    pub version: Version,
}

/// Who is asked for may be in a target.
impl fmt::Debug for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLine")
            .field("method", &self.method)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl RequestLine<'_> {
    /// Whether `received` begins with this line and a target that is a path, so that nothing before it was lost and nothing
    /// in it left out.
    fn begins(&self, received: &[u8]) -> bool {
        let target = self
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str());
        let rest = received.strip_prefix(self.method.as_str().as_bytes());
        let rest = rest.and_then(|rest| rest.strip_prefix(b" "));
        let rest = rest.and_then(|rest| rest.strip_prefix(target.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b" "))
    }
}

/// Checks the framing of a request of HTTP/1.1 whose head is at the beginning of `received`.
///
/// # Errors
///
/// [`ProxyError::BadFraming`] unless there is at most one plain `Content-Length`, or one `Transfer-Encoding: chunked`;
/// [`ProxyError::BadTarget`] when the request line has a fragment.
pub fn check(
    line: RequestLine<'_>,
    headers: &HeaderMap,
    received: &[u8],
) -> Result<(), ProxyError> {
    let is_known = line.begins(received);
    if !is_known && has_fragment(received) {
        return Err(ProxyError::BadTarget(
            "the target has a #, and what follows it is never sent",
        ));
    }
    let is_framing = |name: &HeaderName| matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING);
    if !headers.keys().any(is_framing) {
        return Ok(());
    }
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if chunked && line.version == Version::HTTP_10 {
        return Err(ProxyError::BadFraming("HTTP/1.0 has no Transfer-Encoding"));
    }
    // What is doubtful, hyper leaves out of its fields. Where there are as many of them as lines, nothing was.
    if is_known && memchr::memchr_iter(b'\n', received).count() == headers.len() + 2 {
        let fields = headers.iter();
        let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        return check_fields(fields, chunked);
    }
    check_fields(head_lines(received).filter_map(split_field), chunked)
}

fn check_fields<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    chunked: bool,
) -> Result<(), ProxyError> {
    let (mut lengths, mut codings) = (0, 0);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(ProxyError::BadFraming("the Content-Length is not a number"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ProxyError::BadFraming(
                    "the Transfer-Encoding is not chunked alone",
                ));
            }
        }
    }
    match (lengths, codings) {
        (1, 0) | (0, 1) => Ok(()),
        // A head that came together with the body before it: what was read of it is gone.
        (0, 0) if !chunked => Ok(()),
        (0, 0) => Err(ProxyError::BadFraming(
            "a chunked request was sent before the last one was answered",
        )),
        (_, 0) => Err(ProxyError::BadFraming(
            "the request has more than one Content-Length",
        )),
        (0, _) => Err(ProxyError::BadFraming(
            "the request has more than one Transfer-Encoding",
        )),
        (_, _) => Err(ProxyError::BadFraming(
            "the request has both Content-Length and Transfer-Encoding",
        )),
    }
}

/// Fields in the head of a request. Of HTTP/1.1 hyper takes no more, either.
pub const MOST_FIELDS: usize = 100;
/// The head of a request in HTTP/2, with 32 bytes more for each field.
pub const MOST_LIST_BYTES: usize = 16 * 1024;
const PER_FIELD_BYTES: usize = 32;

// `Uri` cuts a fragment off (RFC 9112 §3.2 knows none), and another reader would take the # for a part of the path.
fn has_fragment(received: &[u8]) -> bool {
    if memchr::memchr(b'#', received).is_none() {
        return false;
    }
    let line = received
        .trim_ascii_start()
        .split(|byte| *byte == b'\n')
        .next();
    let mut words = line
        .unwrap_or_default()
        .trim_ascii_end()
        .split(|byte| *byte == b' ');
    let (_method, target, version) = (words.next(), words.next(), words.next());
    // Where what was read begins elsewhere, it does not end like this.
    target.is_some_and(|target| target.contains(&b'#'))
        && matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0"))
}

fn head_lines(received: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = received;
    let lines = std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end)?;
        rest = after.get(1..)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    });
    // An empty line before the request line is allowed (RFC 9112 §2.2).
    lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .skip(1)
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    Some((name, value.get(1..)?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_head(received: &str, headers: &HeaderMap, version: Version) -> bool {
        let line = RequestLine {
            method: &Method::POST,
            uri: &Uri::from_static("/a"),
            version,
        };
        check(line, headers, received.as_bytes()).is_ok()
    }

    /// What hyper leaves of fields.
    fn read(fields: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields.lines() {
            let (name, value) = field.split_once(':').unwrap();
            let name: HeaderName = name.parse().unwrap();
            if name == TRANSFER_ENCODING {
                headers.remove(CONTENT_LENGTH);
            }
            let settled = [CONTENT_LENGTH, TRANSFER_ENCODING];
            let is_settled = settled.iter().any(|name| headers.contains_key(name));
            if name != CONTENT_LENGTH || !is_settled {
                headers.append(name, value.trim().parse().unwrap());
            }
        }
        headers
    }

    /// Whether a head with these fields passes: the same, whatever is around it.
    fn passes(fields: &str) -> bool {
        let fields = format!("Host: a\r\n{fields}");
        let headers = read(&fields);
        let head = format!("POST /a HTTP/1.1\r\n{fields}\r\n");
        let passes = check_head(&head, &headers, Version::HTTP_11);
        for around in [
            format!("{head}body: x\r\ncontent-length: 9\r\n"),
            format!("\r\n{head}"),
            head.replace("\r\n", "\n"),
        ] {
            let passed = check_head(&around, &headers, Version::HTTP_11);
            assert_eq!(passed, passes, "{around:?}");
        }
        passes
    }

    #[test]
    fn a_head_whose_beginning_was_lost_is_read_all_the_same() {
        let headers = read("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n");
        // As many lines as there would be without the second length.
        let received = "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
        assert!(!check_head(received, &headers, Version::HTTP_11));
    }

    #[test]
    fn one_length_or_one_coding_and_nothing_else() {
        for good in [
            "Content-Length: 5\r\n",
            "transfer-encoding: Chunked\r\n",
            "CONTENT-LENGTH:5\r\n",
        ] {
            assert!(passes(good), "{good:?}");
        }
        for bad in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
        ] {
            assert!(!passes(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_fragment_is_no_part_of_a_target() {
        let passes = |received| check_head(received, &read("Host: a"), Version::HTTP_11);
        assert!(passes("POST /a HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!passes("POST /a#b HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!passes("\r\nPOST /a#b HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(passes("POST /a HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n"));
        // A method may have one.
        assert!(passes("POST# /a HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    #[test]
    fn a_head_of_http2_has_one_length_and_nothing_of_a_connection() {
        let check = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            check_http2(&Uri::from_static("/"), &headers).is_ok()
        };
        for good in [
            &[][..],
            &[("content-length", "5")],
            &[("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")],
        ] {
            assert!(check(good), "{good:?}");
        }
        for bad in [
            &[("content-length", "5"), ("content-length", "5")][..],
            &[("content-length", "+5")],
            &[("content-length", "")],
            &[("te", "gzip")],
            &[("te", "trailers, gzip")],
            &[("connection", "x-a")],
            &[("keep-alive", "1")],
            &[("proxy-connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("upgrade", "h2c")],
        ] {
            assert!(!check(bad), "{bad:?}");
        }
    }

    #[test]
    fn transfer_encoding_is_not_for_http_1_0() {
        let headers = read("transfer-encoding: chunked");
        assert!(!check_head("", &headers, Version::HTTP_10));
    }
}
