//! What Python runs.

use std::path::Path;
use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");

/// A program of the packages of this folder.
pub(crate) fn program(name: &str) -> Command {
    let path = Path::new(FOLDER).join("venv/bin").join(name);
    assert!(
        path.exists(),
        "its packages are missing: python3 -m venv tests/interop/venv && \
         tests/interop/venv/bin/pip install -r tests/interop/requirements.txt"
    );
    Command::new(path)
}

/// A script of this folder.
pub(crate) fn script(name: &str) -> Command {
    let mut command = program("python");
    command.arg(Path::new(FOLDER).join(name));
    command
}
