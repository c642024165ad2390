//! Answer bodies whose beginning can be looked at, and that are passed on as if nobody had.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

/// A body, and what of it has been looked at and not yet passed on.
pub struct Peekable<B: Body> {
    seen: VecDeque<Frame<Bytes>>,
    /// Data among what has been seen.
    seen_bytes: u64,
    /// How the body went on after that, if it came to an end meanwhile.
    end: Option<End<B::Error>>,
    rest: B,
}

enum End<E> {
    Whole,
    /// With whether the reader has been given the time to pass on what came before.
    Broken(Option<E>, bool),
}

// Nothing in it is pinned by it.
impl<B: Body + Unpin> Unpin for Peekable<B> {}

impl<B: Body> From<B> for Peekable<B> {
    fn from(rest: B) -> Self {
        Self {
            seen: VecDeque::new(),
            seen_bytes: 0,
            end: None,
            rest,
        }
    }
}

impl<B> Peekable<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// The whole content, if it has ended within `limit` bytes and in `patience`. Whatever was read, is still to be given.
    pub async fn peek(&mut self, limit: usize, patience: Duration) -> Option<Bytes> {
        // A body that says it is too long is not held up first.
        if self.size_hint().lower() > limit as u64 {
            return None;
        }
        let deadline = Instant::now() + patience;
        while self.end.is_none() {
            if self.seen_bytes > limit as u64 {
                return None;
            }
            let next = poll_fn(|cx| Pin::new(&mut self.rest).poll_frame(cx));
            match timeout_at(deadline, next).await.ok()? {
                Some(Ok(frame)) => self.push(frame),
                Some(Err(error)) => self.end = Some(End::Broken(Some(error), false)),
                None => self.end = Some(End::Whole),
            }
        }
        let is_whole = matches!(self.end, Some(End::Whole)) && self.seen_bytes <= limit as u64;
        is_whole.then(|| self.content())
    }

    /// The trailers, if they are there already and nothing is before them. Waits for nothing.
    pub async fn trailers_at_once(&mut self) -> Option<&HeaderMap> {
        if self.seen.is_empty() && self.end.is_none() {
            let rest = &mut self.rest;
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut *rest).poll_frame(cx))).await {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(frame))) => self.push(frame),
                Poll::Ready(Some(Err(error))) => self.end = Some(End::Broken(Some(error), false)),
                Poll::Ready(None) => self.end = Some(End::Whole),
            }
        }
        self.seen.front().and_then(Frame::trailers_ref)
    }

    fn push(&mut self, frame: Frame<Bytes>) {
        self.seen_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        self.seen.push_back(frame);
    }

    fn content(&self) -> Bytes {
        let mut pieces = self.seen.iter().filter_map(Frame::data_ref);
        match (pieces.next(), pieces.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            (Some(first), Some(second)) => {
                let mut content = BytesMut::with_capacity(first.len() + second.len());
                content.extend_from_slice(first);
                content.extend_from_slice(second);
                pieces.for_each(|piece| content.extend_from_slice(piece));
                content.freeze()
            }
        }
    }

    /// The body, if nothing of it has been looked at.
    pub fn unseen(&mut self) -> Option<&mut B> {
        (self.seen.is_empty() && self.end.is_none()).then_some(&mut self.rest)
    }

    /// The body behind what has been looked at.
    pub const fn rest_mut(&mut self) -> &mut B {
        &mut self.rest
    }

    /// The same, for good. What has been looked at is lost.
    pub fn into_rest(self) -> B {
        self.rest
    }
}

impl<B> Body for Peekable<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(frame) = this.seen.pop_front() {
            this.seen_bytes -= frame.data_ref().map_or(0, |data| data.len() as u64);
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut this.end {
            None => Pin::new(&mut this.rest).poll_frame(cx),
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Broken(_, has_paused @ false)) => {
                // hyper drops what it has not yet written when a body breaks off, and here all of it came at once.
                *has_paused = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(End::Broken(error, true)) => Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_is_over = match &self.end {
            None => self.rest.is_end_stream(),
            Some(End::Whole) => true,
            Some(End::Broken(error, _)) => error.is_none(),
        };
        self.seen.is_empty() && rest_is_over
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound first: the lower must not be above it.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.seen_bytes);
        }
        hint.set_lower(rest.lower() + self.seen_bytes);
        hint
    }
}

impl<B: Body> std::fmt::Debug for Peekable<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peekable")
            .field("seen_bytes", &self.seen_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Told {
        Data(Vec<u8>),
        Trailers(HeaderMap),
        Broken(&'static str),
    }

    fn body(frames: &[Told]) -> impl Body<Data = Bytes, Error = &'static str> + Unpin + use<> {
        let frames: Vec<_> = frames
            .iter()
            .cloned()
            .map(|told| match told {
                Told::Data(data) => Ok(Frame::data(Bytes::from(data))),
                Told::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                Told::Broken(error) => Err(error),
            })
            .collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn told(body: &mut (impl Body<Data = Bytes, Error = &'static str> + Unpin)) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(frame) = body.frame().await {
            told.push(match frame {
                Err(error) => Told::Broken(error),
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Told::Data(data.to_vec()),
                    Err(frame) => Told::Trailers(frame.into_trailers().unwrap()),
                },
            });
        }
        told
    }

    fn frames() -> impl Strategy<Value = Vec<Told>> {
        let data = prop::collection::vec(any::<u8>(), 0..40).prop_map(Told::Data);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let end = prop_oneof![
            Just(None),
            Just(Some(Told::Trailers(trailers))),
            Just(Some(Told::Broken("broke off"))),
        ];
        (prop::collection::vec(data, 0..12), end).prop_map(|(mut frames, end)| {
            frames.extend(end);
            frames
        })
    }

    proptest! {
        #[test]
        fn whatever_was_looked_at_the_body_is_passed_on_frame_by_frame(
            frames in frames(),
            limit in 0_usize..200,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut peeked = Peekable::from(body(&frames));
                let content = peeked.peek(limit, Duration::from_secs(5)).await;
                let whole: Vec<u8> = frames
                    .iter()
                    .filter_map(|told| match told {
                        Told::Data(data) => Some(data.clone()),
                        Told::Trailers(_) | Told::Broken(_) => None,
                    })
                    .flatten()
                    .collect();
                let breaks = matches!(frames.last(), Some(Told::Broken(_)));
                let expected = (whole.len() <= limit && !breaks).then_some(whole);
                assert_eq!(content.map(|content| content.to_vec()), expected);
                assert_eq!(told(&mut peeked).await, frames);
                assert!(peeked.frame().await.is_none());
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_slowly_is_let_go_and_loses_nothing() {
        let stream = stream::unfold(0, |piece| async move {
            if piece > 0 {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            let frame = Frame::data(Bytes::from(vec![piece]));
            (piece < 5).then_some((Ok::<_, &'static str>(frame), piece + 1))
        });
        let mut peeked = Peekable::from(StreamBody::new(Box::pin(stream)));
        assert_eq!(peeked.peek(100, Duration::from_secs(7)).await, None);
        let all: Vec<_> = (0..5).map(|piece| Told::Data(vec![piece])).collect();
        assert_eq!(told(&mut peeked).await, all);
    }

    #[tokio::test]
    async fn a_declared_length_stays_declared() {
        let mut peeked = Peekable::from(http_body_util::Full::new(Bytes::from_static(b"12345")));
        assert_eq!(peeked.size_hint().exact(), Some(5));
        assert!(peeked.peek(10, Duration::from_secs(1)).await.is_some());
        assert_eq!(peeked.size_hint().exact(), Some(5));
        assert!(!peeked.is_end_stream());
        peeked.frame().await.unwrap().unwrap();
        assert!(peeked.is_end_stream());
        assert_eq!(peeked.size_hint().exact(), Some(0));
    }
}
