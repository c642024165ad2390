//! What an endpoint shall do wrong, and when.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;

use super::answer::{self, Answer};
use super::locked::Locked;
use super::server::HangUp;

/// One way to fail.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fault {
    /// This answer instead of the right one; see [`Fault::status`], [`Fault::json`],
    /// [`Fault::raw`].
    Answer {
        /// Its status.
        status: StatusCode,
        /// Its fields.
        fields: Vec<(HeaderName, HeaderValue)>,
        /// Its body.
        body: Bytes,
    },
    /// The endpoint's own words for a token or a client that it does not accept.
    Unauthorized,
    /// The right answer, this much later.
    Delay(Duration),
    /// The request is read, and nothing ever comes back.
    Hang,
    /// The request is read, and the connection is closed.
    Reset,
    /// A head that promises a thousand bytes, ten of them, and the connection is closed.
    CutShort,
}

impl Fault {
    /// An answer with this status and no body.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::Answer {
            status,
            fields: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// An answer with this status and this JSON document.
    #[must_use]
    pub fn json(status: StatusCode, document: &Value) -> Self {
        let body = document.to_string().into();
        Self::Answer {
            status,
            fields: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body,
        }
    }

    /// A 200 with whatever body: a firewall's page, half a document, nothing at all.
    #[must_use]
    pub fn raw(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::Answer {
            status: StatusCode::OK,
            fields: vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: body.into(),
        }
    }

    /// Adds a field to an answer; the other faults have none.
    #[must_use]
    pub fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Self::Answer { fields, .. } = &mut self {
            fields.push((name, value));
        }
        self
    }
}

/// The handle with which a test, or the demo, tells one endpoint what to do wrong. Clones tell the
/// same endpoint.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Locked<Orders>>);

#[derive(Debug, Default)]
struct Orders {
    once: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Faults {
    /// The next request that has no earlier order meets this fault.
    pub fn once(&self, fault: Fault) {
        self.0.lock().once.push_back(fault);
    }

    /// The next `count` requests that have no earlier order meet this fault.
    pub fn times(&self, count: usize, fault: &Fault) {
        self.0
            .lock()
            .once
            .extend(std::iter::repeat_n(fault.clone(), count));
    }

    /// Every request that has no order of its own meets this fault.
    pub fn always(&self, fault: Fault) {
        self.0.lock().always = Some(fault);
    }

    /// Everything is as it should be again. What hangs already keeps hanging.
    pub fn clear(&self) {
        *self.0.lock() = Orders::default();
    }

    fn next(&self) -> Option<Fault> {
        let mut orders = self.0.lock();
        orders.once.pop_front().or_else(|| orders.always.clone())
    }

    /// The wrong answer to this request, or nothing if it shall get the right one. `unauthorized`
    /// are the endpoint's own words.
    pub(super) async fn meet(
        &self,
        unauthorized: impl FnOnce() -> Answer,
    ) -> Result<Option<Answer>, HangUp> {
        let Some(fault) = self.next() else {
            return Ok(None);
        };
        match fault {
            Fault::Answer {
                status,
                fields,
                body,
            } => {
                let mut answer = answer::empty(status);
                answer
                    .headers_mut()
                    .extend(fields.into_iter().map(|(name, value)| (Some(name), value)));
                *answer.body_mut() = answer::full(body);
                Ok(Some(answer))
            }
            Fault::Unauthorized => Ok(Some(unauthorized())),
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(None)
            }
            Fault::Hang => never().await,
            Fault::Reset => Err(HangUp),
            Fault::CutShort => Ok(Some(cut_short())),
        }
    }
}

async fn never<T>() -> T {
    match std::future::pending::<Infallible>().await {}
}

fn cut_short() -> Answer {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"{\"access_t"))),
        Err(HangUp),
    ];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("1000"));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
