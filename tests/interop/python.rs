//! A script that Python runs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::stage::within;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");

/// A program that is among the packages of this folder.
pub(crate) fn installed(program: &str) -> PathBuf {
    let path = Path::new(FOLDER).join("venv/bin").join(program);
    assert!(
        path.exists(),
        "Python's packages are missing: main.rs says where they come from"
    );
    path
}

/// A script of this folder that is running. Dropping it ends it.
pub(crate) struct Script {
    process: Child,
    said: oneshot::Receiver<String>,
}

impl Script {
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(installed("python"))
            .arg(Path::new(FOLDER).join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python: {error}"));
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let (say, said) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            say.send(line).ok();
        });
        Self { process, said }
    }

    /// The line that it says.
    pub(crate) async fn said(&mut self) -> Value {
        let line = within(&mut self.said).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
