//! What a token endpoint refuses, and how.
