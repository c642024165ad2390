//! Spans of a trace: begun and ended where things happen, and kept in a bounded queue for whoever exports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// `traceparent` (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The whole trace, not 0.
    pub trace: u128,
    /// The span that the next ones are below, not 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads a value. None if it is not valid, and so to be ignored.
    #[must_use]
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let mut parts = value.to_str().ok()?.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            let digits = b'0'..=b'9';
            let letters = b'a'..=b'f';
            text.len() == length
                && text
                    .bytes()
                    .all(|byte| digits.contains(&byte) || letters.contains(&byte))
        };
        let is_valid = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace, 32)
            && is_hex(span, 16)
            && is_hex(flags, 2)
            // Later versions may say more; this one says no more.
            && (version != "00" || parts.next().is_none());
        let this = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (is_valid && this.trace != 0 && this.span != 0).then_some(this)
    }

    fn to_value(self) -> Option<HeaderValue> {
        let Self { trace, span, .. } = self;
        let flags = u8::from(self.is_sampled);
        HeaderValue::from_str(&format!("00-{trace:032x}-{span:016x}-{flags:02x}")).ok()
    }
}

/// Spans on their way out. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Spans(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    sender: Sender<Span>,
    /// Of traces that begin here, from 0 to 1.
    sample: f64,
    dropped: AtomicU64,
}

/// A span that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// What the next ones are below.
    pub own: TraceParent,
    parent: Option<u64>,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where it stands in its trace.
    pub place: Begun,
    /// What it is about, in few different words.
    pub name: String,
    /// Whose side it is told from.
    pub kind: SpanKind,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Whether it failed.
    pub failed: bool,
    /// What else there is to tell: no subject, no secret.
    pub attributes: Vec<(&'static str, SpanValue)>,
}

/// Whose side a span is told from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpanKind {
    /// Who was asked.
    Server,
    /// Who asked.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanValue {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl Spans {
    /// A queue of [`WAITING_MOST`] spans, and its end for whoever exports them. Of traces that begin here, the share
    /// `sample` is recorded.
    #[must_use]
    pub fn new(sample: f64) -> (Self, Receiver<Span>) {
        let (sender, receiver) = channel(WAITING_MOST);
        let queue = Queue {
            sender,
            sample,
            dropped: AtomicU64::new(0),
        };
        (Self(Arc::new(queue)), receiver)
    }

    /// Begins the span of a request, in the trace that it brings or else in one of its own, and tells the upstream.
    #[must_use]
    pub fn begin_request(&self, headers: &mut HeaderMap) -> Begun {
        let parent = headers.get(&TRACEPARENT).and_then(TraceParent::parse);
        if parent.is_none() {
            // It goes with a trace that there is not.
            headers.remove(&TRACESTATE);
        }
        let begun = parent.map_or_else(|| self.begin(), below);
        if let Some(value) = begun.own.to_value() {
            headers.insert(TRACEPARENT, value);
        }
        begun
    }

    /// Begins a trace.
    #[must_use]
    pub fn begin(&self) -> Begun {
        Begun {
            own: TraceParent {
                trace: fastrand::u128(1..),
                span: fastrand::u64(1..),
                is_sampled: fastrand::f64() < self.0.sample,
            },
            parent: None,
        }
    }

    /// A span has ended. Nothing is waited for: where the queue is full, it is dropped.
    pub fn end(&self, span: Span) {
        if span.place.own.is_sampled && self.0.sender.try_send(span).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many have been dropped because nobody took them, since this was asked last.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.0.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Begins a span below another.
#[must_use]
pub fn below(parent: TraceParent) -> Begun {
    Begun {
        own: TraceParent {
            span: fastrand::u64(1..),
            ..parent
        },
        parent: Some(parent.span),
    }
}

impl Begun {
    /// The span that it is below, if there is one.
    #[must_use]
    pub const fn parent(&self) -> Option<u64> {
        self.parent
    }
}

/// Spans that wait to be exported.
pub const WAITING_MOST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &'static str) -> Option<TraceParent> {
        TraceParent::parse(&HeaderValue::from_static(value))
    }

    #[test]
    fn a_valid_traceparent_is_read_and_written_as_it_was() {
        let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = parse(value).unwrap();
        assert_eq!((read.span, read.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(read.to_value().unwrap(), value);
        // A later version may have more to say.
        assert!(parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x").is_some());
    }

    #[test]
    fn an_invalid_traceparent_is_none() {
        for value in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn a_queue_that_nobody_empties_drops_what_is_too_much() {
        let (spans, mut receiver) = Spans::new(1.0);
        let end = |spans: &Spans| {
            spans.end(Span {
                place: spans.begin(),
                name: String::new(),
                kind: SpanKind::Client,
                began: SystemTime::now(),
                took: Duration::ZERO,
                failed: false,
                attributes: Vec::new(),
            });
        };
        for _ in 0..WAITING_MOST + 3 {
            end(&spans);
        }
        assert_eq!((spans.take_dropped(), spans.take_dropped()), (3, 0));
        assert!(receiver.try_recv().is_ok());
        let (none, mut receiver) = Spans::new(0.0);
        end(&none);
        assert!(receiver.try_recv().is_err(), "not sampled");
    }
}
