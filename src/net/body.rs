//! The body of an upstream's answer, in whichever protocol it comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connect::Transport;
use super::pool::{Broken, UpstreamBody};
use super::stream::StreamBody;

/// A body, with the connection or the stream that it comes on. `B` is the request's.
#[derive(Debug)]
pub enum EitherBody<B: Body + 'static> {
    /// On a connection of HTTP/1.1, which it has for itself.
    Http1(UpstreamBody<B>),
    /// On a stream of HTTP/2.
    Http2(Box<StreamBody<B>>),
}

/// How a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// With its connection of HTTP/1.1.
    #[error(transparent)]
    Http1(Broken),
    /// With its stream of HTTP/2.
    #[error(transparent)]
    Http2(h2::Error),
}

impl<B> EitherBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// Lets the rest of the request body flow in a task of its own.
    ///
    /// For an answer that began before the request had ended: the caller may not read the one before it has sent the other.
    /// An upstream that takes nothing for `idle` is given up.
    pub fn detach(&mut self, idle: Duration) {
        match self {
            Self::Http1(body) => body.detach(idle),
            Self::Http2(body) => body.detach(idle),
        }
    }

    /// The whole body, if it has come with its head.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(body) => body.take_whole(),
            Self::Http2(_) => None,
        }
    }

    /// The connection itself, and what has been received behind the head, if the answer has switched protocols.
    #[must_use]
    pub fn into_tunnel(self) -> Option<(Transport, Bytes)> {
        match self {
            Self::Http1(body) => body.into_tunnel(),
            Self::Http2(_) => None,
        }
    }
}

impl<B> Body for EitherBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::Http1))),
            Self::Http2(body) => Pin::new(body.as_mut())
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::Http2))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
