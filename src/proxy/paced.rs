//! An answer's body, no faster than its app takes it: one who reads nothing costs a piece of it, not all that fits a buffer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::answer::{AnswerBody, AnswerError};
use crate::net::inbound::Inbound;

/// The body of an answer on its way to the app at the other end of `inbound`.
pub(super) struct Paced {
    body: AnswerBody,
    inbound: Inbound,
}

/// A piece of it.
pub(super) struct Piece {
    bytes: Bytes,
    /// Whether it may be a part of a room that is much longer.
    has_room: bool,
}

impl Paced {
    pub(super) fn new(body: AnswerBody, inbound: &Inbound) -> Self {
        Self {
            body,
            inbound: inbound.clone(),
        }
    }
}

impl Body for Paced {
    type Data = Piece;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnswerError>>> {
        let this = self.get_mut();
        ready!(this.inbound.poll_taken());
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let hand = |bytes: Bytes| {
            this.inbound.hand(bytes.len());
            Piece::new(bytes)
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hand))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Piece {
    fn new(bytes: Bytes) -> Self {
        Self {
            has_room: bytes.len() >= LARGE_BYTES,
            bytes,
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    // The app has taken a part and wants no more for now: what is left may wait for long, and need not hold all of the room.
    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.has_room {
            self.has_room = false;
            self.bytes = Bytes::copy_from_slice(&self.bytes);
        }
    }
}

/// What is smaller has been copied out of its room already.
const LARGE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_is_taken_in_part_lets_go_of_the_room_that_it_came_in() {
        let room = Bytes::from(vec![7; 64 * 1024]);
        let mut piece = Piece::new(room.slice(..48 * 1024));
        assert!(!room.is_unique());
        piece.advance(1);
        assert!(room.is_unique());
        assert_eq!(piece.chunk(), &room[..48 * 1024 - 1]);
        piece.advance(48 * 1024 - 1);
        assert!(!piece.has_remaining());
    }
}
