//! `pillion check`: every mistake in the configuration, at once, without the network unless asked for.

pub mod format;
pub mod online;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;

use self::format::Format;
use self::online::{OnlineError, online};
use super::run::{Overlay, StartError};
use super::{USAGE, colour, loaded};
use crate::config::reload::{self, LoadError};
use crate::config::report::Report;

/// Checks the file at `path`; with `ask`, also whether its providers give tokens.
#[must_use]
pub fn main(path: &Path, format: Format, ask: bool) -> ExitCode {
    match reload::read(path) {
        Ok((_, report, _)) if format != Format::Text => {
            println!("{}", format.document(path, &report));
            ExitCode::SUCCESS
        }
        Err(LoadError::Mistakes(report)) if format != Format::Text => {
            println!("{}", format.document(path, &report));
            ExitCode::FAILURE
        }
        Ok((_, report, _)) if ask => {
            if !report.is_empty() {
                tell(&report);
            }
            ask_all(path)
        }
        Ok((file, report, _)) => {
            if !report.is_empty() {
                tell(&report);
            }
            println!("{}: good ({})", path.display(), file.contents());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn ask_all(path: &Path) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return loaded::refuse(&StartError::Machine(error)),
    };
    match runtime.block_on(online(path, Overlay::default(), &mut io::stdout())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(OnlineError::Start(StartError::Config(error))) => fail(&error),
        Err(error) => {
            eprintln!("pillion: {error}");
            ExitCode::FAILURE
        }
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
                "hint: name another file with `--config FILE`; `pillion init` writes {}",
                path.display()
            );
            ExitCode::from(USAGE)
        }
    }
}

pub(super) fn tell(report: &Report) {
    if colour::is_wanted(io::stderr().is_terminal()) {
        eprintln!("{}", report.to_coloured().trim_end());
    } else {
        eprintln!("{}", report.to_plain().trim_end());
    }
}
