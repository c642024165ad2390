//! `pillion check`: every mistake in the configuration, at once, without the network.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use super::USAGE;
use crate::config::reload::{self, LoadError};
use crate::config::report::Report;

/// Checks the file at `path`.
#[must_use]
pub fn main(path: &Path) -> ExitCode {
    match reload::read(path) {
        Ok((file, report, _)) => {
            if !report.is_empty() {
                tell(&report);
            }
            println!(
                "{}: good ({} providers, {} routes)",
                path.display(),
                file.providers.len(),
                file.routes.len()
            );
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Tells why a configuration cannot be used.
pub(super) fn fail(error: &LoadError) -> ExitCode {
    match error {
        LoadError::Mistakes(report) => {
            tell(report);
            ExitCode::FAILURE
        }
        LoadError::Unreadable { path, .. } => {
            eprintln!("pillion: {error}");
            eprintln!(
                "hint: name another file with `--config FILE`, or write {}",
                path.display()
            );
            ExitCode::from(USAGE)
        }
    }
}

pub(super) fn tell(report: &Report) {
    if std::io::stderr().is_terminal() {
        eprintln!("{}", report.to_coloured().trim_end());
    } else {
        eprintln!("{}", report.to_plain().trim_end());
    }
}
