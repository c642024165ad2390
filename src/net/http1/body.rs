//! The body of an answer, without its framing (RFC 9112 §6, §7).

use bytes::{Buf as _, Bytes};
use http_body::Frame;

use super::answer::{BadAnswer, MAX_HEAD_BYTES, parse_trailers};

/// How the rest of a body is delimited.
pub(super) enum Decoder {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks, and then perhaps trailers.
    Chunked(Chunked),
    /// Everything until the other side closes.
    UntilClose,
}

/// A place in a chunked body.
pub(super) struct Chunked {
    step: Step,
    /// Of all extensions so far: nobody knows any, so only an attacker sends many.
    extension_bytes: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// In the size of a chunk, behind so many of its digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In the blanks behind the size.
    Blank {
        size: u64,
    },
    /// In what follows the size and a semicolon.
    Extension {
        size: u64,
    },
    /// Before the line feed behind the size.
    SizeEnd {
        size: u64,
    },
    /// In the data, or before the carriage return behind it.
    Data {
        left: u64,
    },
    /// Before the line feed behind the data.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Over,
    Broken(BadAnswer),
}

impl Decoder {
    pub(super) const EMPTY: Self = Self::Length(0);

    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunked {
            step: Step::Size { size: 0, digits: 0 },
            extension_bytes: 0,
            trailers: Vec::new(),
        })
    }

    /// Whether it ends before the connection does.
    pub(super) const fn knows_its_end(&self) -> bool {
        !matches!(self, Self::UntilClose)
    }

    pub(super) const fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => matches!(chunked.step, Step::Over),
            Self::UntilClose => false,
        }
    }

    pub(super) const fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    pub(super) fn end(&mut self) -> Result<(), BadAnswer> {
        if self.knows_its_end() && !self.is_over() {
            return Err(BadAnswer("its body ends before its end"));
        }
        *self = Self::EMPTY;
        Ok(())
    }

    /// Whether `received` is what is left of it, neither more nor less.
    pub(super) fn is_whole(&self, received: &[u8]) -> bool {
        matches!(self, Self::Length(left) if *left == received.len() as u64)
    }

    /// The next piece that is at the beginning of `received`, and is taken off it.
    pub(super) fn decode(
        &mut self,
        received: &mut Bytes,
    ) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        let data = match self {
            Self::Chunked(chunked) => return chunked.decode(received),
            Self::Length(left) => take(received, left),
            Self::UntilClose => std::mem::take(received),
        };
        Ok((!data.is_empty()).then(|| Frame::data(data)))
    }
}

impl Chunked {
    fn decode(&mut self, received: &mut Bytes) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        self.skip_framing(received);
        match &mut self.step {
            Step::Broken(error) => Err(*error),
            Step::Data { left } if !received.is_empty() => {
                let data = take(received, left);
                // So that whoever has the last piece is told at once that it is the last.
                self.skip_framing(received);
                Ok(Some(Frame::data(data)))
            }
            Step::Trailers => self.take_trailers(received),
            _ => Ok(None),
        }
    }

    /// Goes on to data, to the end, or to the end of what has been received.
    fn skip_framing(&mut self, received: &mut Bytes) {
        let mut passed = 0;
        for byte in &**received {
            if let Step::Data { left: 1.. } | Step::Trailers | Step::Over | Step::Broken(_) =
                self.step
            {
                break;
            }
            passed += 1;
            self.step = self.pass(*byte).unwrap_or_else(Step::Broken);
        }
        received.advance(passed);
        // Nearly every section of trailers is an empty line, and that is no frame.
        if matches!(self.step, Step::Trailers)
            && self.trailers.is_empty()
            && received.starts_with(b"\r\n")
        {
            received.advance(2);
            self.step = Step::Over;
        }
    }

    fn pass(&mut self, byte: u8) -> Result<Step, BadAnswer> {
        Ok(match (self.step, byte) {
            (Step::Data { left: 0 }, b'\r') => Step::DataEnd,
            (Step::DataEnd, b'\n') => Step::Size { size: 0, digits: 0 },
            (Step::Size { digits: 0, .. }, byte) if !byte.is_ascii_hexdigit() => {
                return Err(BAD_SIZE);
            }
            (Step::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map(u64::from);
                let size = size.checked_mul(16).zip(digit);
                match size {
                    Some((size, digit)) if digits < MAX_DIGITS => Step::Size {
                        size: size + digit,
                        digits: digits + 1,
                    },
                    _ => return Err(BAD_SIZE),
                }
            }
            (Step::Size { size, .. } | Step::Blank { size } | Step::Extension { size }, b'\r') => {
                Step::SizeEnd { size }
            }
            (Step::Size { size, .. } | Step::Blank { size }, b' ' | b'\t') => Step::Blank { size },
            (Step::Size { size, .. } | Step::Blank { size }, b';') => Step::Extension { size },
            (Step::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > MAX_EXTENSION_BYTES {
                    return Err(BadAnswer("the extensions of its chunks are too long"));
                }
                Step::Extension { size }
            }
            (Step::SizeEnd { size: 0 }, b'\n') => Step::Trailers,
            (Step::SizeEnd { size }, b'\n') => Step::Data { left: size },
            (Step::Data { .. } | Step::DataEnd, _) => {
                return Err(BadAnswer("a chunk of it is longer than it says"));
            }
            _ => return Err(BAD_SIZE),
        })
    }

    fn take_trailers(&mut self, received: &mut Bytes) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        while !received.is_empty() {
            let line = memchr::memchr(b'\n', received).map_or(received.len(), |at| at + 1);
            self.trailers.extend_from_slice(&received.split_to(line));
            if !self.trailers.ends_with(b"\n") {
                break;
            }
            let is_strict = self.trailers.ends_with(b"\r\n");
            if !is_strict || self.trailers.len() > MAX_HEAD_BYTES {
                return Err(self.break_off(BadAnswer("a trailer of it is broken")));
            }
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                let trailers = parse_trailers(&self.trailers);
                let trailers = trailers.map_err(|error| self.break_off(error))?;
                self.trailers = Vec::new();
                self.step = Step::Over;
                return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
            }
        }
        if self.trailers.len() > MAX_HEAD_BYTES {
            return Err(self.break_off(BadAnswer("its trailers are longer than 64 KiB")));
        }
        Ok(None)
    }

    const fn break_off(&mut self, error: BadAnswer) -> BadAnswer {
        self.step = Step::Broken(error);
        error
    }
}

/// What there is of the `left` bytes that are wanted.
fn take(received: &mut Bytes, left: &mut u64) -> Bytes {
    let there = usize::try_from(*left).map_or(received.len(), |left| left.min(received.len()));
    *left -= there as u64;
    if there == received.len() {
        return std::mem::take(received);
    }
    received.split_to(there)
}

const BAD_SIZE: BadAnswer = BadAnswer("the size of a chunk of it is broken");
/// Of the largest length that there can be.
const MAX_DIGITS: u8 = 16;
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
