//! A piece of an answer, on its way to the app.

use std::fmt;

use bytes::{Buf, Bytes};

/// Some bytes, and perhaps a room that they are in.
pub struct Piece {
    bytes: Bytes,
    /// Whether they may be a part of a room that is much longer, which is not to be held while they wait.
    has_room: bool,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.bytes.len())
    }
}

impl Piece {
    /// One of which what is not taken at once is copied out of its room.
    pub(super) const fn in_room(bytes: Bytes) -> Self {
        Self {
            has_room: bytes.len() >= LARGE_BYTES,
            bytes,
        }
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            has_room: false,
        }
    }
}

impl From<Piece> for Bytes {
    fn from(piece: Piece) -> Self {
        piece.bytes
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    // The app has taken a part and wants no more for now: what is left may wait for long.
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
        let mut piece = Piece::in_room(room.slice(..48 * 1024));
        assert!(!room.is_unique());
        piece.advance(1);
        assert!(room.is_unique());
        assert_eq!(piece.chunk(), &room[..48 * 1024 - 1]);
        piece.advance(48 * 1024 - 1);
        assert!(!piece.has_remaining());
    }
}
