//! pillion.
