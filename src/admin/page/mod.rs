//! The status as a page: one document, with its style and its script inside, and nothing from elsewhere.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::words::Overview;

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    overview: &'a Overview,
    /// Whether whoever looks may ask for a new token.
    may_renew: bool,
    style: &'static str,
    script: &'static str,
}

/// The page. Whoever `may_renew` gets buttons for it.
#[must_use]
pub(super) fn render(overview: &Overview, may_renew: bool) -> String {
    let page = Page {
        overview,
        may_renew,
        style: STYLE,
        script: SCRIPT,
    };
    // Writing to a string does not fail.
    page.render().unwrap_or_default()
}

/// Its `Content-Security-Policy`: this style and this script, by their hashes, and nothing else.
#[must_use]
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        )
    });
    &POLICY
}

fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", STANDARD.encode(digest))
}

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
