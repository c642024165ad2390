//! The route fence: whatever the upstream or anything before it makes of a path, it stays on the route.

use std::borrow::Cow;
use std::iter;

use percent_encoding::percent_decode;

use crate::stage::{Stage, StrictUpstream};

const TARGETS: usize = 10_000;

#[tokio::test]
async fn no_reader_of_a_forwarded_path_sees_one_outside_its_route() {
    let upstream = StrictUpstream::start().await;
    let stage = Stage::set()
        .upstream_at(format!("http://{}/base", upstream.address))
        .start()
        .await;
    let mut random = fastrand::Rng::with_seed(9110);
    let targets: Vec<String> = iter::repeat_with(|| target(&mut random))
        .take(TARGETS)
        .collect();
    let (mut forwarded, mut escaped) = (0, 0);
    for batch in targets.chunks(50) {
        let requests: String = batch.iter().map(|it| request(it)).collect();
        let last = "GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answers = stage.exchange(requests + last).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), batch.len() + 1);
        for arrived in upstream.take().unwrap() {
            let path = arrived.target.split('?').next().unwrap();
            for (normaliser, normalise) in NORMALISERS {
                let seen = normalise(path.as_bytes());
                let is_inside = seen == b"/base" || seen.starts_with(b"/base/");
                let seen = String::from_utf8_lossy(&seen);
                assert!(is_inside, "{normaliser} takes {path} for {seen}");
            }
            // Byte for byte as it was sent; of a fragment nobody learns.
            let sent = format!("/api{}", arrived.target.strip_prefix("/base").unwrap());
            let mut all = batch.iter().map(|it| it.split('#').next().unwrap());
            assert!(sent == "/api/" || all.any(|it| it == sent), "{sent}");
            forwarded += 1;
            escaped += usize::from(path.contains('%'));
        }
    }
    // It is no fence that lets nothing through.
    assert!(forwarded > TARGETS / 10, "{forwarded} forwarded");
    assert!(escaped > TARGETS / 100, "{escaped} forwarded with escapes");
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A path below the route, or what somebody might take for one.
fn target(random: &mut fastrand::Rng) -> String {
    let mut target = match random.u8(..20) {
        0 => "/API",
        1 => "/%61pi",
        2 => "/x/../api",
        3 => "/",
        _ => "/api",
    }
    .to_owned();
    let is_tame = random.bool();
    for _ in 0..random.usize(1..6) {
        if random.u8(..10) > 1 {
            target.push('/');
        }
        for _ in 0..random.usize(1..3) {
            let pieces = if is_tame || random.bool() { TAME } else { WILD };
            target.push_str(pieces[random.usize(..pieces.len())]);
        }
    }
    if random.u8(..10) == 0 {
        target.push_str("?next=/../../admin");
    }
    target
}

const TAME: &[&str] = &[
    "a",
    "Z",
    "base",
    "api",
    "admin",
    "...",
    ".x",
    "x.",
    "-",
    "~",
    ":",
    "@",
    ",",
    "=",
    "+",
    "%20",
    "%25",
    "%41",
    "%7e",
    "%C3%A9",
    "%e2%82%ac",
    "caf%E9",
    "%ff",
    "b;v=1",
];
const WILD: &[&str] = &[
    "..",
    ".",
    "/",
    "//",
    "\\",
    ";",
    "..;",
    ";x=..",
    "%2e",
    "%2E",
    "%2e%2e",
    ".%2e",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "%00",
    "%0d%0a",
    "%3b",
    "%252e",
    "%252e%252e",
    "%252f",
    "%25252e",
    "%255c",
    "%c0%ae",
    "%c0%af",
    "%c1%9c",
    "%e0%80%ae",
    "%e0%80%af",
    "%f0%80%80%ae",
    "%",
    "%2",
    "%zz",
    "%u002e",
    "%uff0e",
    "#",
    "*",
    "/../",
    "/./",
    "/..%2f",
    "\\..\\",
];

type Normaliser = fn(&[u8]) -> Vec<u8>;

/// What readers do with paths: RFC 3986 §5.2.4; parameters first, as Tomcat; slashes merged and escapes read once, as
/// nginx; escapes and overlong UTF-8 read until there are none, with backslashes for slashes and in small letters.
const NORMALISERS: [(&str, Normaliser); 4] = [
    ("RFC 3986", |path| remove_dots(path)),
    ("Tomcat", |path| {
        let segments = path.split(|it| *it == b'/');
        let bare = segments.map(|it| it.split(|it| *it == b';').next().unwrap());
        let path = bare.collect::<Vec<_>>().join(&b'/');
        remove_dots(&percent_decode(&path).collect::<Vec<u8>>())
    }),
    ("nginx", |path| {
        let mut path: Vec<u8> = percent_decode(path).collect();
        path.dedup_by(|next, last| (*next, *last) == (b'/', b'/'));
        remove_dots(&path)
    }),
    ("a chain of decoders", |path| {
        let mut path = Cow::Borrowed(path);
        loop {
            let decoded: Vec<u8> = percent_decode(&path).collect();
            if decoded == *path {
                break;
            }
            path = Cow::Owned(decoded);
        }
        let mut plain = Vec::new();
        let mut rest = &*path;
        while let Some((byte, length)) = sloppy_utf8(rest) {
            plain.push(if byte == b'\\' {
                b'/'
            } else {
                byte.to_ascii_lowercase()
            });
            rest = &rest[length..];
        }
        let plain: Vec<u8> = plain.split(|it| *it == 0).next().unwrap().to_vec();
        remove_dots(&plain)
    }),
];

fn remove_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|it| *it == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    [b"/", &*kept.join(&b'/')].concat()
}

/// The first byte as a decoder reads it that takes overlong sequences for what they stand for.
fn sloppy_utf8(bytes: &[u8]) -> Option<(u8, usize)> {
    match *bytes {
        [] => None,
        [first @ (0xc0 | 0xc1), second, ..] => Some(((first & 1) << 6 | second & 0x3f, 2)),
        [0xe0, second @ 0x80..=0x81, third, ..] => Some(((second & 1) << 6 | third & 0x3f, 3)),
        [0xf0, 0x80, third @ 0x80..=0x81, fourth, ..] => {
            Some(((third & 1) << 6 | fourth & 0x3f, 4))
        }
        [byte, ..] => Some((byte, 1)),
    }
}

#[test]
fn the_readers_take_the_well_known_tricks_for_what_they_are() {
    let outside = |path: &str| {
        let is_outside = |normalise: Normaliser| {
            let seen = normalise(path.as_bytes());
            seen != b"/base" && !seen.starts_with(b"/base/")
        };
        NORMALISERS.map(|(_, normalise)| is_outside(normalise))
    };
    for (path, seen) in [
        ("/base/a", [false; 4]),
        ("/base/../admin", [true; 4]),
        ("/base/..;/admin", [false, true, false, false]),
        ("/base/%2e%2e/admin", [false, true, true, true]),
        ("/base/%252e%252e/admin", [false, false, false, true]),
        ("/base/..\\admin", [false, false, false, true]),
        ("/base/%c0%ae%c0%ae/admin", [false, false, false, true]),
        ("/base//../admin", [false, false, true, false]),
        ("/base/%2e%2e%00/admin", [false, false, false, true]),
    ] {
        assert_eq!(outside(path), seen, "{path}");
    }
}
