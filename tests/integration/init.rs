//! `pillion init`: what it writes is good as it is, and nothing that is there is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

use pillion::cli::init::{System, text};
use pillion::config;

use crate::stage::{Directory, pillion};

const SYSTEMS: [(&str, System, &str); 5] = [
    ("stitch", System::Stitch, "stitch"),
    ("forage", System::Forage, "forage-auth"),
    ("concierge", System::Concierge, "concierge-backend"),
    ("highnote", System::Highnote, "highnote-key"),
    ("oauth2", System::OAuth2, "example"),
];

fn init(folder: &Path, arguments: &[&str]) -> Output {
    let mut init = pillion();
    init.current_dir(folder).env_remove("PILLION_CONFIG");
    init.arg("init").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_written_for_each_system_passes_check_and_its_last_line_is_the_next_command() {
    for (name, _, provider) in SYSTEMS {
        let folder = Directory::new();
        let output = init(folder.path(), &[name]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let told = stdout(&output);
        let last = told.lines().last().unwrap();
        assert_eq!(
            last,
            format!("Next: pillion check, then pillion token {provider}")
        );
        let mut check = pillion();
        check
            .current_dir(folder.path())
            .env_remove("PILLION_CONFIG");
        let check = check.arg("check").output().unwrap();
        assert!(check.status.success(), "{name}: {}", stderr(&check));
        assert!(!stderr(&check).contains("warning"), "{}", stderr(&check));
    }
}

#[test]
fn everything_that_has_to_be_supplied_is_named_in_the_file_and_on_the_terminal() {
    for (name, system, _) in SYSTEMS {
        let folder = Directory::new();
        let told = stdout(&init(folder.path(), &[name]));
        let written = fs::read_to_string(folder.path().join("proxy.toml")).unwrap();
        assert_eq!(written, text(system));
        let (file, _) = config::read("proxy.toml", &written).unwrap();
        let head = written.split("[listen]").next().unwrap();
        let references = format!("{file:?}");
        let mut named = BTreeSet::new();
        for (start, what) in [("Env(\"", "environment variable"), ("File(\"", "file")] {
            for after in references.split(start).skip(1) {
                let line = format!("{what} {}", after.split('"').next().unwrap());
                assert!(head.contains(&line), "{name}: {line}\n{head}");
                assert!(told.contains(&line), "{name}: {line}\n{told}");
                named.insert(line);
            }
        }
        let listed = told.lines().filter(|line| line.starts_with("  ")).count();
        assert!(
            listed > 0 && listed == named.len(),
            "{name}: {named:?}\n{told}"
        );
    }
}

#[test]
fn a_file_that_is_there_is_kept_unless_it_is_forced() {
    let folder = Directory::new();
    let path = folder.path().join("proxy.toml");
    fs::write(&path, "mine").unwrap();
    let output = init(folder.path(), &["stitch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("proxy.toml is there already"));
    assert!(stderr(&output).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert!(init(folder.path(), &["stitch", "--force"]).status.success());
    assert_eq!(fs::read_to_string(&path).unwrap(), text(System::Stitch));
}

#[test]
fn another_file_is_named_in_the_next_command_and_has_the_schema_beside_it() {
    let folder = Directory::new();
    let output = init(folder.path(), &["forage", "my.toml"]);
    let told = stdout(&output);
    let last = told.lines().last().unwrap();
    let next =
        "Next: pillion check --config my.toml, then pillion token forage-auth --config my.toml";
    assert_eq!(last, next);
    let schema = fs::read_to_string(folder.path().join("proxy.schema.json")).unwrap();
    assert_eq!(schema, format!("{:#}\n", config::description::schema()));
    let written = fs::read_to_string(folder.path().join("my.toml")).unwrap();
    assert!(written.starts_with("#:schema ./proxy.schema.json\n"));
}

#[test]
fn without_a_system_and_without_a_terminal_it_says_what_to_type() {
    let folder = Directory::new();
    let output = init(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("stitch, forage, concierge, highnote, oauth2"),
        "{told}"
    );
    assert!(told.contains("pillion init stitch"), "{told}");
    assert!(!folder.path().join("proxy.toml").exists());
}
