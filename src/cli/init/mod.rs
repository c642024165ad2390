//! `pillion init`: writes a commented file for one system, and says what it wants.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{USAGE, written};

/// What a file can be written for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum System {
    /// Payments over GraphQL, with a secret or a certificate
    Stitch,
    /// EBT payments, with a session for each merchant
    Forage,
    /// The Concierge service, with tokens for its customers
    Concierge,
    /// Cards and accounts over GraphQL, with client tokens for one thing each
    Highnote,
    /// Any other OAuth 2.0 authorization server
    #[value(name = "oauth2")]
    OAuth2,
}

/// The file of all four systems: what is written for one is a part of it, so that the demo shows it at work.
const ALL: &str = include_str!("../../../proxy.toml");
const OAUTH2: &str = include_str!("oauth2.toml");

/// Writes the file, and the schema beside it.
#[must_use]
pub fn main(system: Option<System>, path: &Path, force: bool) -> ExitCode {
    let Some(system) = system.or_else(ask) else {
        let names = names().join(", ");
        eprintln!("pillion: init wants to know for which system: {names}");
        eprintln!("type something like `pillion init stitch`");
        return ExitCode::from(USAGE);
    };
    let text = text(system);
    if let Err(error) = write(path, &text, force) {
        return refuse(path, &error);
    }
    let schema = path.with_file_name("proxy.schema.json");
    match write(&schema, &written::schema_text(), force) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return refuse(&schema, &error);
        }
        Ok(()) | Err(_) => {}
    }
    println!("{} is written, for {}", path.display(), title(system));
    println!("{} tells editors what can be in it", schema.display());
    println!("It wants, and does not hold:");
    for wanted in wanted(&text) {
        println!("  {wanted}");
    }
    let config = if path == Path::new("proxy.toml") {
        String::new()
    } else {
        format!(" --config {}", path.display())
    };
    let provider = first_provider(&text);
    println!("Next: pillion check{config}, then pillion token {provider}{config}");
    ExitCode::SUCCESS
}

fn refuse(path: &Path, error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::AlreadyExists {
        eprintln!("pillion: {} is there already", path.display());
        eprintln!("type --force to write over it, or another FILE");
    } else {
        eprintln!("pillion: cannot write {}: {error}", path.display());
    }
    ExitCode::FAILURE
}

fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

/// Asks a person, if there is one.
fn ask() -> Option<System> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    println!("For which system?");
    for system in System::value_variants() {
        let value = system.to_possible_value()?;
        let help = value.get_help().map(ToString::to_string);
        println!("  {:10} {}", value.get_name(), help.unwrap_or_default());
    }
    print!("> ");
    io::stdout().flush().ok()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    System::from_str(answer.trim(), true).ok()
}

fn names() -> Vec<String> {
    let values = System::value_variants().iter();
    values
        .filter_map(|system| Some(system.to_possible_value()?.get_name().to_owned()))
        .collect()
}

/// The whole file for a system.
#[must_use]
pub fn text(system: System) -> String {
    let section = match system {
        System::OAuth2 => OAUTH2,
        System::Stitch | System::Forage | System::Concierge | System::Highnote => {
            section(ALL, title(system))
        }
    };
    let process = ALL.find("[listen]").and_then(|at| ALL.get(at..));
    let process = process.and_then(|text| text.split(RULE).next());
    let mut text = format!(
        "\
#:schema ./proxy.schema.json
# pillion's configuration for {}. `pillion check` tells every mistake in it.
#
# A provider says where a token comes from; a route says which requests carry it, and where to. Secrets are references,
# read when they are used: a rotated file is picked up by the next fetch. These are wanted:
#
",
        title(system)
    );
    for wanted in wanted(section) {
        text.push_str(&format!("#   {wanted}\n"));
    }
    text.push('\n');
    text.push_str(process.unwrap_or_default());
    text.push_str(section.trim_end());
    text.push('\n');
    text
}

/// What the headings of sections begin with.
const RULE: &str = "# ----";

const fn title(system: System) -> &'static str {
    match system {
        System::Stitch => "Stitch",
        System::Forage => "Forage",
        System::Concierge => "the Concierge service",
        System::Highnote => "Highnote",
        System::OAuth2 => "OAuth 2.0",
    }
}

/// A section of a file, with its heading.
fn section<'a>(text: &'a str, title: &str) -> &'a str {
    let is_heading = |line: &str| line.starts_with(RULE) && line.trim_end().ends_with(title);
    let start = text
        .lines()
        .find(|line| is_heading(line))
        .and_then(|line| text.find(line));
    let from = start
        .and_then(|start| text.get(start..))
        .unwrap_or_default();
    let end = from
        .match_indices(RULE)
        .nth(1)
        .map_or(from.len(), |(at, _)| at);
    from.get(..end).unwrap_or_default()
}

/// What the references of a text name, each once.
fn wanted(text: &str) -> Vec<String> {
    let mut wanted = Vec::new();
    let without_comments = text.lines().map(|line| line.split('#').next());
    for line in without_comments.flatten() {
        for (start, what) in [
            ("{ env = \"", "environment variable"),
            ("{ file = \"", "file"),
        ] {
            for after in line.split(start).skip(1) {
                let name = after.split('"').next().unwrap_or_default();
                let reference = format!("{what} {name}");
                if !wanted.contains(&reference) {
                    wanted.push(reference);
                }
            }
        }
    }
    wanted
}

fn first_provider(text: &str) -> &str {
    let mut heads = text
        .lines()
        .filter_map(|line| line.strip_prefix("[provider."));
    heads
        .find_map(|head| head.strip_suffix(']'))
        .unwrap_or_default()
}
