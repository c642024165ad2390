//! The content of a message in HTTP/2.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::body::Incoming;
use tokio::time::Instant;

/// The body of an app's request: of HTTP/1.1, or of HTTP/2.
pub type AppBody = Either<Incoming, Content>;

/// What comes on a stream. Its sender may send on as it is read. A stream that is reset, even without an error, has broken
/// off.
#[derive(Debug)]
pub struct Content {
    stream: RecvStream,
    /// What is left of a declared length.
    length: Option<u64>,
    /// When anything last came on the connection.
    heard_at: Rc<Cell<Instant>>,
}

impl Content {
    pub(super) fn new(
        stream: RecvStream,
        declared: Option<&HeaderValue>,
        heard_at: Rc<Cell<Instant>>,
    ) -> Self {
        Self {
            stream,
            length: declared.and_then(|value| value.to_str().ok()?.parse().ok()),
            heard_at,
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        loop {
            let data = ready!(this.stream.poll_data(cx));
            this.heard_at.set(Instant::now());
            match data {
                Some(Ok(piece)) => {
                    this.stream.flow_control().release_capacity(piece.len())?;
                    if let Some(length) = &mut this.length {
                        *length = length.saturating_sub(piece.len() as u64);
                    }
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let trailers = ready!(this.stream.poll_trailers(cx))?;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
