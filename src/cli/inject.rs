//! `pillion inject`: manifests in, manifests with pillion out.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::USAGE;
use crate::kubernetes::manifest::inject;
use crate::kubernetes::sidecar::Sidecar;

/// Prints the manifests of these files with pillion in their pods; `-` is stdin.
#[must_use]
pub fn main(files: &[PathBuf], sidecar: &Sidecar) -> ExitCode {
    let mut text = String::new();
    let mut pods = 0;
    for path in files {
        let manifests = match read(path) {
            Ok(manifests) => manifests,
            Err(error) => {
                eprintln!("pillion: cannot read {}: {error}", path.display());
                return ExitCode::from(USAGE);
            }
        };
        match inject(&manifests, sidecar) {
            Ok(injected) => {
                pods += injected.pods;
                if !text.is_empty() {
                    text.push_str("---\n");
                }
                text.push_str(&injected.text);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            Err(error) => {
                eprintln!("pillion: {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    if pods == 0 {
        eprintln!("pillion: nothing here makes pods, or wants pillion in them");
    }
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pillion: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}
