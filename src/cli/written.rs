//! `pillion schema`, `pillion completions` and `pillion man`: what is written by the description of the file, and by the
//! definition of the command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::config::description;

/// The schema of the file, as `pillion schema` prints it and `init` writes it.
pub(super) fn schema_text() -> String {
    format!("{:#}\n", description::schema())
}

/// Prints the schema of the file.
pub(super) fn schema() -> ExitCode {
    print(schema_text().as_bytes())
}

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "pillion", &mut script);
    print(&script)
}

/// Prints the manual page: of pillion, and after it of each command.
pub(super) fn man(mut command: Command) -> ExitCode {
    command.build();
    let mut page = Vec::new();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    for command in commands.filter(|command| command.get_name() != "help") {
        // Into memory it can be written.
        Man::new(command.clone()).render(&mut page).ok();
    }
    print(&page)
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pillion: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
