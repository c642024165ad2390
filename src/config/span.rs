//! A value, and where in the file it was written.

use std::ops::{Deref, Range};

/// A value with its place: a range of bytes in the text of the file.
///
/// A default has the place of the table that could have set it, or an empty one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Range<usize>,
}

impl<T> Spanned<T> {
    /// A value at a place.
    #[must_use]
    pub const fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What was written, or the default.
pub(super) fn value_or<T>(written: Option<Spanned<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}
