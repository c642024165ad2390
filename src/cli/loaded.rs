//! A configuration, compiled for a command that serves nobody.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Handle;

use super::run::{Overlay, StartError};
use super::{USAGE, check};
use crate::config::compile::{Surroundings, compile};
use crate::config::file::File;
use crate::config::reload::{self, LoadError};
use crate::metrics::Metrics;
use crate::proxy::Plan;

/// A file, and what it means.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) file: File,
    /// What it was read from.
    pub(super) text: String,
    pub(super) plan: Plan,
}

impl Loaded {
    /// Reads the file at `path`, and compiles what `change` makes of it for the current runtime.
    pub(super) fn read(
        path: &Path,
        overlay: Overlay,
        change: impl FnOnce(File) -> File,
    ) -> Result<Self, StartError> {
        let (file, report, text) = reload::read(path)?;
        let surroundings = Surroundings {
            metrics: Metrics::new(1)?,
            runtime: Handle::current(),
            secrets: overlay.secrets,
            resolve: overlay.resolve.into_iter().collect::<HashMap<_, _>>(),
            trust: overlay.trust,
        };
        let file = change(file);
        let plan = compile(&file, report, &surroundings, None)
            .map_err(|report| LoadError::Mistakes(Box::new(report)))?;
        Ok(Self { file, text, plan })
    }
}

/// Tells why a command cannot begin.
pub(super) fn refuse(error: &StartError) -> ExitCode {
    match error {
        StartError::Config(error) => {
            check::fail(error);
        }
        error => eprintln!("pillion: {error}"),
    }
    ExitCode::from(USAGE)
}
