//! Which form of an answer is wanted: a page by browsers, JSON by programs, text by everybody else.

use http::HeaderMap;
use http::header::ACCEPT;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// HTML.
    Page,
    /// JSON.
    Json,
    /// Plain text.
    Text,
}

impl Wanted {
    /// What these fields ask for by name, with the most weight (RFC 9110 §12.5.1): nobody gets a page for `*/*`.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Text);
        let fields = headers.get_all(ACCEPT).iter();
        for range in fields
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default() {
                kind if kind.eq_ignore_ascii_case("text/html") => Self::Page,
                kind if kind.eq_ignore_ascii_case("application/json") => Self::Json,
                kind if kind.eq_ignore_ascii_case("text/plain") => Self::Text,
                _ => continue,
            };
            let weight = parts
                .find_map(|parameter| parameter.strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if weight > best.0 {
                best = (weight, form);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_asked_for_by_its_name() {
        for (accept, wanted) in [
            ("", Wanted::Text),
            ("*/*", Wanted::Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Wanted::Page,
            ),
            ("application/json", Wanted::Json),
            ("Application/JSON; charset=utf-8", Wanted::Json),
            ("text/html;q=0.5, application/json", Wanted::Json),
            ("text/html, application/json", Wanted::Page),
            ("application/json;q=0", Wanted::Text),
            ("text/plain, text/html;q=0.9", Wanted::Text),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Wanted::by(&headers), wanted, "{accept}");
        }
    }
}
