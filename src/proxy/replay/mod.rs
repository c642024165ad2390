//! Request bodies: streamed to the upstream, and kept while they are small enough to be sent again.
//!
//! Every byte is taken from the app once and given out once an attempt, in order: what has been kept first, then what
//! is still to come. There is one reader at a time; an older one gets nothing more.

use std::cell::RefCell;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::net::content::AppBody;

/// What all kept bodies of the process may take together.
#[derive(Clone, Debug)]
pub struct Budget {
    free_bytes: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            free_bytes: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    /// What is left.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free_bytes.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: usize) -> bool {
        self.free_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }

    fn release(&self, bytes: usize) {
        self.free_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The body of one request, for as many attempts as it takes. `B` is the app's.
pub struct Upload<B = AppBody>(Option<Rc<RefCell<Source<B>>>>);

/// One attempt's view of an [`Upload`].
pub struct RequestBody<B = AppBody> {
    source: Option<Rc<RefCell<Source<B>>>>,
    attempt: u32,
}

/// `F` sees trailers before anybody else.
struct Source<B, F: ?Sized = dyn Fn(&mut HeaderMap)> {
    app: B,
    /// Of the whole body, if the app declared it.
    length: Option<u64>,
    kept: Kept,
    keeping: bool,
    limit: usize,
    budget: Budget,
    trailers: Option<HeaderMap>,
    ended: bool,
    failed: Option<UploadError>,
    attempt: u32,
    /// How many of the kept bytes have been given out.
    next: usize,
    given_bytes: u64,
    trailers_given: bool,
    moved_at: Instant,
    idle: Duration,
    idle_timer: Option<Pin<Box<Sleep>>>,
    filter: F,
}

/// What could be given out again.
enum Kept {
    /// Nearly every body comes in one piece.
    Whole(Bytes),
    /// Copied, because a piece is part of a buffer that may be thousands of times as long.
    Copied(Vec<u8>),
}

impl Kept {
    fn add(&mut self, piece: &Bytes, is_whole: bool) {
        match self {
            Self::Copied(copied) if is_whole && copied.is_empty() => {
                *self = Self::Whole(piece.clone());
            }
            Self::Copied(copied) => copied.extend_from_slice(piece),
            // There is no more of it.
            Self::Whole(_) => {}
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::Copied(Vec::new())
    }
}

/// Why the app's body came to no end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UploadError {
    /// It broke off, or its framing is broken.
    #[error("the request body broke off")]
    BrokeOff,
    /// It stood still for too long.
    #[error("the request body stood still")]
    Idle,
    /// This attempt is over: another one reads now.
    #[error("this attempt is over")]
    Superseded,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Takes over the app's body. At most `limit` bytes are kept; `filter` sees trailers before anybody else.
    pub fn new(
        app: B,
        limit: Option<usize>,
        budget: &Budget,
        idle: Duration,
        filter: impl Fn(&mut HeaderMap) + 'static,
    ) -> Self {
        if app.is_end_stream() {
            return Self(None);
        }
        let length = app.size_hint().exact();
        Self(Some(Rc::new(RefCell::new(Source {
            // A body that says it is too long is not kept to its limit first.
            keeping: limit.is_some_and(|limit| length.is_none_or(|length| length <= limit as u64)),
            limit: limit.unwrap_or(0),
            app,
            length,
            kept: Kept::default(),
            budget: budget.clone(),
            trailers: None,
            ended: false,
            failed: None,
            attempt: 0,
            next: 0,
            given_bytes: 0,
            trailers_given: false,
            moved_at: Instant::now(),
            idle,
            idle_timer: None,
            filter,
        }))))
    }

    /// The body for the next attempt, from its first byte. The one before gets nothing more.
    pub fn attempt(&self) -> RequestBody<B> {
        let Some(source) = &self.0 else {
            return RequestBody {
                source: None,
                attempt: 0,
            };
        };
        let mut state = source.borrow_mut();
        state.attempt += 1;
        state.next = 0;
        state.given_bytes = 0;
        state.trailers_given = false;
        RequestBody {
            source: Some(Rc::clone(source)),
            attempt: state.attempt,
        }
    }

    /// The attempt before gets nothing more from now on: whatever still polls it would take what belongs to the next.
    pub fn supersede(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().attempt += 1;
        }
    }

    /// Whether everything taken from the app so far could be given out again.
    pub fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = source.borrow();
            source.failed.is_none() && (source.keeping || source.is_untouched())
        })
    }

    /// No attempt will follow: what has been given out need not be kept.
    pub fn release(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().stop_keeping();
        }
    }

    /// Whether the last attempt has been given the whole body.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = source.borrow();
            source.is_given() || source.ended && source.next >= source.kept.len()
        })
    }

    /// When the last piece was given out; now, while the app is waited for.
    pub fn moved_at(&self) -> Option<Instant> {
        let source = self.0.as_ref()?.borrow();
        Some(match source.idle_timer {
            Some(_) => Instant::now(),
            None => source.moved_at,
        })
    }

    /// Why the app's body will not end, if it will not.
    pub fn failure(&self) -> Option<UploadError> {
        self.0.as_ref().and_then(|source| source.borrow().failed)
    }
}

impl<B> Source<B> {
    fn is_untouched(&self) -> bool {
        self.given_bytes == 0 && self.kept.bytes().is_empty() && !self.ended
    }

    fn keep(&mut self, piece: &Bytes) {
        if !self.keeping {
            return;
        }
        let fits = self.kept.len() + piece.len() <= self.limit;
        if fits && self.budget.reserve(piece.len()) {
            self.kept
                .add(piece, self.length == Some(piece.len() as u64));
            self.next = self.kept.len();
        } else {
            self.stop_keeping();
        }
    }

    fn stop_keeping(&mut self) {
        self.keeping = false;
        let rest = self.kept.bytes().get(self.next..).unwrap_or_default();
        self.kept = Kept::Copied(rest.to_vec());
        self.budget.release(self.next);
        self.next = 0;
    }
}

impl<B, F: ?Sized> Drop for Source<B, F> {
    fn drop(&mut self) {
        self.budget.release(self.kept.len());
    }
}

impl<B> Source<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let rest = self.kept.bytes().get(self.next..);
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            let rest = Bytes::copy_from_slice(rest);
            self.next = self.kept.len();
            return Poll::Ready(Some(Ok(self.give(rest))));
        }
        if let Some(error) = self.failed {
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            return Poll::Ready(self.give_trailers());
        }
        match ready!(self.poll_app(cx)) {
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.failed = Some(error);
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    self.keep(&piece);
                    Poll::Ready(Some(Ok(self.give(piece))))
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    (self.filter)(&mut trailers);
                    self.ended = true;
                    self.trailers = Some(trailers);
                    Poll::Ready(self.give_trailers())
                }
            },
        }
    }

    /// Whether it is clear that nothing follows what has been given: nobody asks for the end of such a body.
    fn is_given(&self) -> bool {
        let is_marked = self.next >= self.kept.len()
            && self.trailers.is_none()
            && self.failed.is_none()
            && self.app.is_end_stream();
        self.length == Some(self.given_bytes) || is_marked
    }

    fn poll_app(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.app).poll_frame(cx) {
            self.idle_timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| UploadError::BrokeOff)));
        }
        let idle = self.idle;
        let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(UploadError::Idle)))
    }

    fn give(&mut self, piece: Bytes) -> Frame<Bytes> {
        self.given_bytes += piece.len() as u64;
        self.moved_at = Instant::now();
        Frame::data(piece)
    }

    fn give_trailers(&mut self) -> Option<Result<Frame<Bytes>, UploadError>> {
        if std::mem::replace(&mut self.trailers_given, true) {
            return None;
        }
        self.trailers
            .clone()
            .map(|trailers| Ok(Frame::trailers(trailers)))
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(source) = &self.source else {
            return Poll::Ready(None);
        };
        let mut source = source.borrow_mut();
        if source.attempt != self.attempt {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        source.poll_piece(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.borrow().is_given())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        let source = source.borrow();
        source.length.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(length - source.given_bytes)
        })
    }
}

impl<B> fmt::Debug for Upload<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
