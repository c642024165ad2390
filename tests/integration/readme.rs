//! README.md says only what is true: its TOML can be read, and its commands say what it says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use pillion::cli::token::{Wanted, tell};
use pillion::config;
use pillion::fake::Systems;
use pillion::metrics::Metrics;

use crate::four_systems::overlay;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A fenced block: what stands behind the fence, its text, and its first line in the file.
struct Block {
    kind: String,
    text: String,
    line: usize,
}

fn blocks() -> Vec<Block> {
    let readme = readme();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in readme.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block {
                    kind: kind.to_owned(),
                    text: String::new(),
                    line: number + 2,
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn every_toml_block_is_a_configuration_without_a_mistake() {
    let blocks = blocks();
    let toml: Vec<_> = blocks.iter().filter(|it| it.kind == "toml").collect();
    assert!(toml.len() >= 2);
    for block in toml {
        let (Ok((_, report)) | Err(report)) = config::read("README.md", &block.text);
        assert!(
            report.is_empty(),
            "line {}:\n{}",
            block.line,
            report.to_plain()
        );
    }
}

#[test]
fn the_first_configuration_has_twelve_lines() {
    let first = blocks().into_iter().find(|it| it.kind == "toml").unwrap();
    assert_eq!(first.text.lines().count(), 12);
}

#[test]
fn every_command_does_what_its_console_block_shows() {
    let blocks = blocks();
    let consoles: Vec<_> = blocks
        .iter()
        .filter(|block| block.kind != STAND_INS)
        .filter_map(|block| Some((block, block.kind.strip_prefix("console")?)))
        .collect();
    assert!(!consoles.is_empty());
    for (block, options) in consoles {
        let code = options.trim().strip_prefix("exit=").unwrap_or("0");
        let (command, shown) = block.text.split_once('\n').unwrap();
        let Some(arguments) = command.strip_prefix("$ pillion ") else {
            panic!(
                "line {}: only pillion can be run here: {command}",
                block.line
            );
        };
        let output = run(arguments);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code().unwrap().to_string(), code, "{told}");
        let shown: Vec<&str> = shown.lines().collect();
        let told_lines: Vec<&str> = told.lines().collect();
        assert!(
            all_match(&shown, &told_lines),
            "line {}: `{command}` says\n{told}",
            block.line
        );
    }
}

/// Of a block in which a token is fetched: here it comes from a stand-in.
const STAND_INS: &str = "console stand-ins";

#[tokio::test]
async fn a_fetch_is_told_as_its_console_block_shows() {
    let systems = Systems::start().await.unwrap();
    let blocks = blocks();
    let mut fetches = blocks
        .iter()
        .filter(|block| block.kind == STAND_INS)
        .peekable();
    assert!(fetches.peek().is_some());
    for block in fetches {
        let (command, shown) = block.text.split_once('\n').unwrap();
        let mut words = command.split(' ').map(str::to_owned);
        assert!(
            ["$", "pillion", "token"]
                .into_iter()
                .eq(words.by_ref().take(3))
        );
        let wanted = Wanted {
            provider: words.next().unwrap(),
            inputs: words.collect(),
            ..Wanted::default()
        };
        let (overlay, mut told) = (overlay(&systems, None), Vec::new());
        let path = Path::new(ROOT).join("proxy.toml");
        assert!(tell(&path, overlay, &wanted, &mut told).await.unwrap());
        let told = text(&told);
        let (shown, lines): (Vec<_>, Vec<_>) = (shown.lines().collect(), told.lines().collect());
        assert!(
            all_match(&shown, &lines),
            "line {}: it says\n{told}",
            block.line
        );
    }
}

const COMMANDS: [&str; 9] = [
    "run",
    "init",
    "check",
    "explain",
    "token",
    "demo",
    "schema",
    "completions",
    "man",
];

#[test]
fn every_command_of_the_table_is_one_and_its_help_has_examples_on_lines_of_a_terminal() {
    for command in COMMANDS {
        assert!(
            readme().contains(&format!("`pillion {command}")),
            "{command}"
        );
        let help = run(&format!("{command} --help"));
        assert!(help.status.success(), "{command}");
        let help = text(&help.stdout);
        assert!(
            help.contains("Examples:") && help.contains("Exit codes:"),
            "{command}"
        );
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{help}");
    }
}

#[test]
fn completions_and_the_manual_page_know_every_command() {
    for written in ["bash", "zsh", "fish", "elvish", "powershell"]
        .map(|shell| format!("completions {shell}"))
        .iter()
        .map(String::as_str)
        .chain(["man"])
    {
        let output = run(written);
        assert!(output.status.success(), "{written}");
        let told = text(&output.stdout).replace("\\-", "-");
        for word in COMMANDS.into_iter().chain(["online", "spend", "once"]) {
            assert!(told.contains(word), "{written} does not know {word}");
        }
    }
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    for (arguments, code) in [
        ("check proxy.toml", 0),
        ("check tests/golden/check/syntax-json.toml", 1),
        ("--config tests/golden/check/syntax-json.toml", 1),
        (
            "demo --once --config tests/golden/check/syntax-json.toml",
            1,
        ),
        ("check no/such/file.toml", 2),
        ("run --config no/such/file.toml", 2),
        ("demo --config no/such/file.toml", 2),
        ("explain GET /stitch", 0),
        ("explain GET /nowhere", 1),
        ("explain GET nowhere", 2),
        ("explain GET / -c tests/golden/check/syntax-json.toml", 2),
        ("explain GET / -c no/such/file.toml", 2),
        ("token stich", 2),
        ("token stitch -c no/such/file.toml", 2),
        ("completions no-such-shell", 2),
        ("check --wrong", 2),
        ("no-such-command", 2),
    ] {
        assert_eq!(run(arguments).status.code(), Some(code), "{arguments}");
    }
}

#[test]
fn the_table_of_metrics_is_complete_and_names_no_other() {
    let metrics = Metrics::new(1).unwrap();
    let _series = (metrics.route("r"), metrics.provider("p"));
    let rendered = metrics.render();
    let served: BTreeSet<&str> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("pillion_"))
        .collect();
    let readme = readme();
    let listed: BTreeSet<&str> = readme
        .split('`')
        .filter(|quoted| quoted.starts_with("pillion_"))
        .collect();
    assert_eq!(listed, served);
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

fn run(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(arguments.split_whitespace())
        .current_dir(ROOT)
        .env_remove("PILLION_CONFIG")
        .env_remove("HIGHNOTE_API_KEY")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A line of `...` stands for any lines, `...` within a line for any text.
fn all_match(shown: &[&str], told: &[&str]) -> bool {
    match (shown, told) {
        ([], []) => true,
        (["...", rest @ ..], _) => {
            (0..=told.len()).any(|skipped| all_match(rest, &told[skipped..]))
        }
        ([first, shown @ ..], [line, told @ ..]) => {
            line_matches(first, line) && all_match(shown, told)
        }
        _ => false,
    }
}

fn line_matches(shown: &str, told: &str) -> bool {
    match shown.split_once("...") {
        None => shown == told,
        Some((before, rest)) => told.strip_prefix(before).is_some_and(|told| {
            told.char_indices()
                .map(|(start, _)| start)
                .chain([told.len()])
                .any(|start| line_matches(rest, &told[start..]))
        }),
    }
}

#[test]
fn dots_stand_for_what_is_left_out() {
    assert!(all_match(&["a", "...", "c"], &["a", "b", "b", "c"]));
    assert!(all_match(&["a ... c...", "..."], &["a b c"]));
    assert!(!all_match(&["a", "c"], &["a", "b", "c"]));
    assert!(!all_match(&["a ... c"], &["a b"]));
}
