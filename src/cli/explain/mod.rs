//! `pillion explain`: what becomes of a request, without the network and without a secret.

pub mod ask;
mod told;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;

use self::ask::Ask;
use self::told::Told;
use super::USAGE;
use super::loaded::{self, Loaded};
use super::run::{Overlay, StartError};
use crate::config::file::File;

/// Explains a request by the file at `path`.
#[must_use]
pub fn main(
    path: &Path,
    method: &str,
    url: &str,
    fields: &[String],
    body: Option<&str>,
) -> ExitCode {
    let ask = match Ask::parse(method, url, fields, body) {
        Ok(ask) => ask,
        Err(error) => {
            eprintln!("pillion: {error}");
            eprintln!("hint: {}", error.hint());
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return loaded::refuse(&StartError::Machine(error));
        }
    };
    match runtime.block_on(explain(path, &ask)) {
        Ok((text, code)) => {
            // Who has stopped reading knows enough.
            io::stdout().write_all(text.as_bytes()).ok();
            code
        }
        Err(error) => loaded::refuse(&error),
    }
}

async fn explain(path: &Path, ask: &Ask) -> Result<(String, ExitCode), StartError> {
    let Loaded { file, text, plan } =
        Loaded::read(path, Overlay::default(), File::without_certificates)?;
    let listen: Vec<_> = file.listen.addresses.iter().map(|it| it.value).collect();
    let explanation = ask
        .explain(&plan, &listen, file.limits.replay_budget_bytes)
        .await;
    let told = Told {
        ask,
        explanation: &explanation,
        plan: &plan,
        file: &file,
        path,
        text: &text,
    };
    let code = if explanation.course.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    Ok((told.text(), code))
}
