//! Any text as a request target: what is taken for a path means that path to whoever decodes it, however often.

#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use pillion::proxy::target::Target;

fuzz_target!(|text: &str| {
    let Ok(uri) = text.parse::<Uri>() else {
        return;
    };
    let Ok(target) = Target::parse(&uri) else {
        return;
    };
    assert!(target.path.starts_with('/'));
    let mut path = target.path.as_bytes().to_vec();
    loop {
        let segments = path.split(|it| *it == b'/').skip(1);
        for segment in segments {
            let bare = segment.split(|it| *it == b';').next().unwrap_or_default();
            assert!(!matches!(bare, b"." | b".."), "{text}");
        }
        assert!(path.iter().all(|it| !it.is_ascii_control() && *it != b'\\'), "{text}");
        let slashes = path.iter().filter(|it| **it == b'/').count();
        let decoded: Vec<u8> = percent_decode(&path).collect();
        assert_eq!(decoded.iter().filter(|it| **it == b'/').count(), slashes, "{text}");
        if decoded == path {
            return;
        }
        path = decoded;
    }
});
