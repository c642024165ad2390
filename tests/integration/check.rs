//! Every mistake in `golden/check/NAME.toml` is told as `NAME.stderr` says, and none shows a secret.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the `.stderr` files anew.

use std::fs;
use std::path::{Path, PathBuf};

use pillion::config;

#[test]
fn every_mistake_is_told_as_in_its_golden_file() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in goldens() {
        let told = tell(&path, &fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("stderr");
        if update {
            fs::write(&golden, &told).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            wrong.push(format!("{}:\n{told}", golden.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes these:\n\n{}",
        wrong.join("\n")
    );
}

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut goldens: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    goldens.sort();
    goldens
}

fn tell(path: &Path, text: &str) -> String {
    let label = path.file_name().unwrap().to_str().unwrap();
    match config::read(label, text) {
        Ok((_, report)) | Err(report) => report.to_plain(),
    }
}
