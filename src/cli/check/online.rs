//! `pillion check --online`: one token of each provider that needs no input, and the client certificates.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cli::loaded::Loaded;
use crate::cli::run::{Overlay, StartError};
use crate::cli::sheet::Sheet;
use crate::cli::token::advice::advice;
use crate::cli::token::told::{date, good_for, scope, span};
use crate::cli::token::{spends, steps};
use crate::clock::Moment;
use crate::config::file::{File, SourceFile};
use crate::net::tls;
use crate::provider::Subject;
use crate::token::Tokens;

/// Why it cannot be told whether all is well.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The configuration or the machine.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nobody listens to what is told.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Asks every provider of the file at `path`, and tells to `out` what came of it. Whether all is well.
///
/// # Errors
///
/// When there is nothing to ask.
pub async fn online(
    path: &Path,
    overlay: Overlay,
    out: &mut impl Write,
) -> Result<bool, OnlineError> {
    let Loaded { file, plan, .. } = Loaded::read(path, overlay, |file| file)?;
    let mut all_good = true;
    for tokens in &plan.providers {
        let found = provider(tokens).await;
        all_good &= found.label != FAILED;
        found.tell(out)?;
    }
    for path in client_certificates(&file) {
        let found = certificate(path, SystemTime::now());
        all_good &= found.label != FAILED;
        found.tell(out)?;
    }
    Ok(all_good)
}

/// What came of one question.
struct Found {
    label: &'static str,
    lines: Vec<String>,
}

impl Found {
    fn of(label: &'static str, lines: impl Into<Vec<String>>) -> Self {
        let lines = lines.into();
        Self { label, lines }
    }

    fn tell(self, out: &mut impl Write) -> io::Result<()> {
        let mut sheet = Sheet::default();
        sheet.section(self.label, self.lines);
        out.write_all(sheet.into_text().as_bytes())
    }
}

const OK: &str = "ok";
const FAILED: &str = "failed";
const SKIPPED: &str = "skipped";

async fn provider(tokens: &Tokens) -> Found {
    let (name, inputs) = (&tokens.provider().name, &tokens.provider().inputs);
    if !inputs.is_empty() {
        let values: Vec<_> = inputs.iter().map(|input| format!(" {input}=...")).collect();
        let line = format!(
            "{name}: it needs inputs, try `pillion token {name}{}`",
            values.concat()
        );
        return Found::of(SKIPPED, [line]);
    }
    if let Some(spent) = spends(tokens) {
        let line = format!("{name}: the refresh token of {spent} may be good for one use");
        return Found::of(SKIPPED, [line]);
    }
    let (mut followed, guard) = steps::follow();
    let fetched = tokens.get(&Subject::default(), Moment::now()).await;
    drop(guard);
    let (mut last, mut granted) = (None, None);
    while let Ok(step) = followed.try_recv() {
        match step.message.as_str() {
            "fetching" => (last, granted) = (None, None),
            "granted" => granted = Some(step),
            "token fetched" | "token fetch failed" => {}
            _ => last = Some(step.message),
        }
    }
    match fetched {
        Ok(token) => {
            let mut lines = vec![format!("{name}: {}", good_for(&token))];
            let scope = scope(tokens, granted.as_ref());
            lines.extend(scope.map(|scope| format!("  scope {scope}")));
            Found::of(OK, lines)
        }
        Err(error) => {
            let hint = format!("  hint: {}", advice(&error, last.as_deref()));
            Found::of(FAILED, [format!("{name}: {error}"), hint])
        }
    }
}

/// The certificates that pillion shows to providers and upstreams, each once.
fn client_certificates(file: &File) -> BTreeSet<&PathBuf> {
    let providers = file
        .providers
        .iter()
        .map(|provider| match &provider.source {
            SourceFile::OAuth2(source) => source.tls.as_ref(),
            SourceFile::Http(source) | SourceFile::GraphQl(source) => source.tls.as_ref(),
            SourceFile::Static(_) | SourceFile::Jwt(_) => None,
        });
    let routes = file.routes.iter().map(|route| route.tls.as_ref());
    let all = providers.chain(routes).flatten();
    all.filter_map(|tls| Some(&tls.client.as_ref()?.cert.value))
        .collect()
}

fn certificate(path: &Path, now: SystemTime) -> Found {
    let shown = path.display();
    let read = tls::certificates(path).map_err(|error| error.to_string());
    let ends = read.and_then(|chain| {
        let end = chain.first().and_then(tls::expiration);
        end.ok_or_else(|| format!("{shown} holds no certificate"))
    });
    let ends = match ends {
        Ok(ends) => ends,
        Err(error) => return Found::of(FAILED, [error]),
    };
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let until = date(ends);
    match ends.checked_sub(now) {
        Some(left) if left >= WORRY => {
            let days = left.as_secs() / DAY.as_secs();
            Found::of(
                OK,
                [format!("{shown}: good for {days} days, until {until}")],
            )
        }
        Some(left) => {
            let left = span(left);
            Found::of(
                OK,
                [format!(
                    "{shown}: good for {left} only, until {until}: renew it"
                )],
            )
        }
        None => Found::of(FAILED, [format!("{shown}: it has ended, {until}")]),
    }
}

const DAY: Duration = Duration::from_hours(24);
/// A certificate that ends sooner is pointed out.
const WORRY: Duration = Duration::from_hours(14 * 24);
