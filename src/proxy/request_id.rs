//! By what a request is known in the log, in a trace and in a problem document.

use std::cell::OnceCell;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::metrics::spans::{TRACEPARENT, TraceParent};

/// The id of a request: of the trace that it belongs to, else what the app calls it, else one that is made up. Read when
/// somebody wants to know it, and then always the same.
#[derive(Debug, Default)]
pub struct RequestId {
    traceparent: Option<HeaderValue>,
    x_request_id: Option<HeaderValue>,
    text: OnceCell<String>,
}

impl RequestId {
    /// What these fields say: `traceparent`, else `x-request-id`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut id = Self::default();
        // In one pass, which costs less than to look each of them up.
        for (name, value) in headers {
            if *name == TRACEPARENT {
                id.traceparent.get_or_insert_with(|| value.clone());
            } else if *name == X_REQUEST_ID {
                id.x_request_id.get_or_insert_with(|| value.clone());
            }
        }
        id
    }

    /// As the log and problem documents have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get_or_init(|| {
            self.of_trace()
                .or_else(|| self.of_app())
                .unwrap_or_else(|| as_text(fastrand::u128(..)))
        })
    }

    fn of_trace(&self) -> Option<String> {
        let parent = TraceParent::parse(self.traceparent.as_ref()?)?;
        Some(as_text(parent.trace))
    }

    fn of_app(&self) -> Option<String> {
        let value = self.x_request_id.as_ref()?.to_str().ok()?;
        let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=LONGEST).contains(&value.len());
        (fits && is_plain).then(|| value.to_owned())
    }
}

fn as_text(trace: u128) -> String {
    format!("{trace:032x}")
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer one is not an id, but something to fill logs with.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fields: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_trace_comes_before_what_the_app_calls_it() {
        let traced = (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let named = ("x-request-id", "order-7");
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(id(&[traced, named]), trace);
        assert_eq!(id(&[named]), "order-7");
        assert_eq!(id(&[("traceparent", "00-0-0-0"), named]), "order-7");
    }

    #[test]
    fn what_is_no_id_is_replaced_by_one_that_nobody_else_has() {
        for fields in [&[][..], &[("x-request-id", "two words")]] {
            assert_eq!(id(fields).len(), 32);
            assert_ne!(id(fields), id(fields));
        }
        let one = RequestId::default();
        assert_eq!(one.as_str(), one.as_str(), "it stays the same");
    }
}
