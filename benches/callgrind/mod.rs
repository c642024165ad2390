//! Programs under valgrind's callgrind, what it has counted of them, and what was counted of pillion before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `program`, to be started under callgrind, which writes to `counts` when it ends. Counted are these functions with all
/// that they call, as callgrind is told of them; all of the program if there are none.
pub(crate) fn command(program: &Path, functions: &[&str], counts: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .args(functions.iter().map(|it| format!("--toggle-collect={it}")))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program);
    command
}

/// The instructions that are told of in the text of `counts`.
pub(crate) fn instructions(counts: &str) -> u64 {
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    total.unwrap().parse().unwrap()
}

/// `benches/instructions/counts.txt`: instructions by what they are for.
pub(crate) fn recorded() -> BTreeMap<String, u64> {
    let text = fs::read_to_string(RECORDED).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().split_once("  "));
    lines
        .map(|(count, name)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

pub(crate) const RECORDED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/counts.txt"
);
