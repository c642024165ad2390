//! `pillion demo`: the real proxy against stand-ins of the systems that proxy.toml names.

use std::path::Path;
use std::process::ExitCode;

/// Runs the tour.
#[must_use]
pub fn main(_path: &Path, _once: bool) -> ExitCode {
    ExitCode::FAILURE
}
