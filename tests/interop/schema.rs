//! The schema, judged by taplo: what editors make of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn lint(schema: &[&str], files: &[PathBuf]) -> Output {
    let taplo = Path::new(ROOT).join("tests/interop/node_modules/.bin/taplo");
    let mut lint = Command::new(taplo);
    lint.current_dir(ROOT).args(["lint", "--no-auto-config"]);
    lint.args(schema).args(files).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn proxy_toml_names_its_schema_and_passes() {
    let output = lint(&[], &[PathBuf::from("proxy.toml")]);
    assert!(output.status.success(), "{}", told(&output));
    let first = std::fs::read_to_string(Path::new(ROOT).join("proxy.toml")).unwrap();
    assert!(first.starts_with("#:schema ./proxy.schema.json\n"));
}

#[test]
fn every_example_passes() {
    let folder = Path::new(ROOT).join("examples");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("proxy.toml"))
        .filter(|file| file.exists())
        .collect();
    assert!(files.len() >= 14);
    let output = lint(&of_this_checkout(), &files);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn unknown_keys_wrong_types_and_unknown_words_are_refused_and_what_is_right_is_not() {
    let folder = Path::new(ROOT).join("tests/golden/check");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|it| it == "toml"))
        .collect();
    let output = lint(&of_this_checkout(), &files);
    let told = told(&output);
    let mut wrong = Vec::new();
    let mut refused = 0;
    for file in &files {
        let mistakes = std::fs::read_to_string(file.with_extension("stderr")).unwrap();
        let knows = |words: &[&str]| words.iter().any(|words| mistakes.contains(words));
        let is_refused = told.contains(&format!("path={file:?}"));
        let must_be = knows(&["unknown key", ", found ", "unknown value"]);
        if is_refused {
            refused += 1;
        }
        if (must_be && !is_refused) || (!knows(&["error: "]) && is_refused) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{told}");
    assert!(refused > 50);
}

fn of_this_checkout() -> [&'static str; 2] {
    let schema = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/proxy.schema.json");
    ["--schema", schema]
}
