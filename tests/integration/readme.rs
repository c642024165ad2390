//! README.md and docs/ say only what is true: their TOML can be read, their commands say what they say, and their links
//! lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use pillion::cli::token::{Wanted, tell};
use pillion::config;
use pillion::fake::Systems;
use pillion::metrics::Metrics;
use pillion::metrics::reviews::Reviews;

use crate::four_systems::overlay;
use crate::stage::Directory;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The page whose commands need helm, kubectl and a cluster: `.ci/kubernetes` runs them.
pub(crate) const WITH_A_CLUSTER: &str = "docs/kubernetes.md";

/// A fenced block: what stands behind the fence, its text, and the place of its first line.
pub(crate) struct Block {
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) place: String,
}

/// README.md, and what is in docs/, by their paths.
fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let mut pages: Vec<String> = folder
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|page| page.ends_with(".md"))
        .collect();
    pages.push("README.md".to_owned());
    pages.sort();
    let read = |page: String| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(&page)).unwrap();
        (page, text)
    };
    pages.into_iter().map(read).collect()
}

pub(crate) fn blocks() -> Vec<Block> {
    let pages = pages();
    let blocks = pages.iter().flat_map(|(page, text)| blocks_of(page, text));
    blocks.collect()
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block {
                    kind: kind.to_owned(),
                    text: String::new(),
                    place: format!("{page}:{}", number + 2),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

#[test]
fn every_toml_block_is_a_configuration_without_a_mistake() {
    let blocks = blocks();
    let toml: Vec<_> = blocks.iter().filter(|it| it.kind == "toml").collect();
    assert!(toml.len() >= 2);
    for block in toml {
        let (Ok((_, report)) | Err(report)) = config::read(&block.place, &block.text);
        assert!(report.is_empty(), "{}", report.to_plain());
    }
}

#[test]
fn the_first_configuration_has_twelve_lines() {
    let blocks = blocks_of("README.md", &readme());
    let first = blocks.iter().find(|it| it.kind == "toml").unwrap();
    assert_eq!(first.text.lines().count(), 12);
}

#[test]
fn every_command_does_what_its_console_block_shows() {
    let mut consoles = 0;
    for (page, text) in pages() {
        if page == WITH_A_CLUSTER {
            continue;
        }
        // One for a whole page, so that a command finds what the ones before have written.
        let folder = Directory::new();
        for block in blocks_of(&page, &text) {
            let Some(options) = block.kind.strip_prefix("console") else {
                continue;
            };
            if block.kind == STAND_INS {
                continue;
            }
            let options: Vec<&str> = options.split_whitespace().collect();
            let folder = if options.contains(&"elsewhere") {
                folder.path()
            } else {
                Path::new(ROOT)
            };
            let code = options.iter().find_map(|it| it.strip_prefix("exit="));
            shows_what_it_says(&block, folder, code.unwrap_or("0"));
            consoles += 1;
        }
    }
    assert!(consoles > 5);
}

fn shows_what_it_says(block: &Block, folder: &Path, code: &str) {
    let place = &block.place;
    let (command, shown) = block.text.split_once('\n').unwrap();
    let Some(arguments) = command.strip_prefix("$ pillion ") else {
        panic!("{place}: only pillion can be run here: {command}");
    };
    let output = run_in(folder, arguments);
    let told = text(&output.stdout) + &text(&output.stderr);
    let exited = output.status.code().unwrap().to_string();
    assert_eq!(exited, code, "{place}: {told}");
    let shown: Vec<&str> = shown.lines().collect();
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        all_match(&shown, &lines),
        "{place}: `{command}` says\n{told}"
    );
}

#[test]
fn every_link_to_a_file_and_to_a_heading_leads_there() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        let folder = Path::new(ROOT).join(page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                Path::new(ROOT).join(page)
            } else {
                folder.join(file)
            };
            let headings = |text: String| text.lines().any(|line| anchor(line) == heading);
            let is_there = target.exists()
                && (heading.is_empty() || std::fs::read_to_string(&target).is_ok_and(headings));
            if !is_there {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_integration_test_that_a_page_names_is_there() {
    let mut pages = pages();
    let security = std::fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).unwrap();
    pages.push(("SECURITY.md".to_owned(), security));
    let mut named = 0;
    for (page, text) in &pages {
        let code = text.split('`').skip(1).step_by(2);
        let code = code.filter(|it| !it.contains("--lib"));
        for name in code.flat_map(str::split_whitespace) {
            let is_name = |it: &str| it.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
            let Some((file, function)) = name.split_once("::") else {
                continue;
            };
            if !is_name(file) || !is_name(function) {
                continue;
            }
            let of_file = Path::new(ROOT).join("tests/integration").join(file);
            let tests = [of_file.with_extension("rs"), of_file.join("mod.rs")]
                .iter()
                .find_map(|file| std::fs::read_to_string(file).ok());
            let begins = format!("fn {function}");
            let is_there = tests.is_some_and(|it| function.is_empty() || it.contains(&begins));
            assert!(is_there, "{page}: there is no test {name}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

/// What a heading is called in links.
fn anchor(line: &str) -> String {
    let Some(heading) = line
        .starts_with('#')
        .then(|| line.trim_start_matches('#').trim())
    else {
        return String::new();
    };
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
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
            "{}: it says\n{told}",
            block.place
        );
    }
}

const COMMANDS: [&str; 14] = [
    "run",
    "init",
    "wait",
    "healthcheck",
    "shutdown",
    "inject",
    "webhook",
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
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {output:?}");
    }
}

#[test]
fn the_table_of_metrics_is_complete_and_names_no_other() {
    let metrics = Metrics::new(1).unwrap();
    let _series = (metrics.route("r"), metrics.provider("p"));
    let rendered = metrics.render() + &Reviews::new().unwrap().render();
    let served: BTreeSet<&str> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("pillion_"))
        .collect();
    let pages = pages();
    let (_, operations) = pages
        .iter()
        .find(|(page, _)| page == "docs/operations.md")
        .unwrap();
    let listed: BTreeSet<&str> = operations
        .split('`')
        .filter(|quoted| quoted.starts_with("pillion_"))
        .collect();
    assert_eq!(listed, served);
    let alerts = blocks_of("docs/operations.md", operations);
    let alerts = alerts.iter().find(|block| block.kind == "yaml").unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = alerts.text.split(|c| !is_part(c));
    let named: Vec<_> = words.filter(|it| it.starts_with("pillion_")).collect();
    assert!(named.len() > 5);
    for metric in named {
        assert!(served.contains(metric), "{metric}");
    }
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

fn run(arguments: &str) -> Output {
    run_in(Path::new(ROOT), arguments)
}

pub(crate) fn run_in(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_remove("PILLION_CONFIG")
        .env_remove("HIGHNOTE_API_KEY")
        .env_remove("STITCH_CLIENT_ID")
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
            // What is left out at the beginning of a line may be of any width.
            let (first, line) = match first.trim_start() {
                open if open.starts_with("...") => (open, line.trim_start()),
                _ => (*first, *line),
            };
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
    assert!(all_match(&["  ... ms"], &["1234.5 ms"]));
    assert!(!all_match(&["a", "c"], &["a", "b", "c"]));
    assert!(!all_match(&["a ... c"], &["a b"]));
}
