//! The command line: one file per command. The only place that prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "data on stdout, the rest on stderr: this is where people are spoken to"
)]

pub mod check;
pub mod demo;
pub mod log;
pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A sidecar proxy that carries an application's API tokens.
#[derive(Debug, Parser)]
#[command(name = "pillion", version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration file [default: $PILLION_CONFIG, else proxy.toml here]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Run,
    /// Check the configuration without the network, and tell every mistake in it
    Check {
        /// The configuration file; the same as --config
        file: Option<PathBuf>,
    },
    /// Run proxy.toml against stand-ins of the systems it names, and tell what happens
    Demo {
        /// Stop after the tour; the exit code tells whether every step went as told
        #[arg(long)]
        once: bool,
    },
}

const EXIT_CODES: &str = "\
Exit codes: 0 asked to stop, or nothing wrong; 1 a mistake in the configuration, or a failure; 2 wrong arguments, or no \
such file.";

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let path = arguments.config.config.clone().unwrap_or_else(default_path);
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => run::main(&path),
        Command::Check { file } => check::main(&file.unwrap_or(path)),
        Command::Demo { once } => demo::main(&path, once),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line may read the environment"
)]
fn default_path() -> PathBuf {
    std::env::var_os("PILLION_CONFIG").map_or_else(|| PathBuf::from("proxy.toml"), PathBuf::from)
}

/// The exit code of wrong arguments, clap's own too.
const USAGE: u8 = 2;
