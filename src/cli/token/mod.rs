//! `pillion token`: one fetch of a token, told step by step.

pub(super) mod advice;
pub(super) mod steps;
pub(super) mod told;

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::Builder;

use self::told::Story;
use super::USAGE;
use super::loaded::{self, Loaded};
use super::run::{Overlay, StartError};
use crate::clock::Moment;
use crate::config::suggest::did_you_mean;
use crate::provider::grant_type::GrantType;
use crate::provider::{Input, Source, Subject};
use crate::proxy::Plan;
use crate::token::Tokens;

/// Which token is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of which provider.
    pub provider: String,
    /// `NAME=TEXT` or `NAME:=JSON`, for each of its inputs.
    pub inputs: Vec<String>,
    /// The token itself is shown: to be asked for only where a person reads.
    pub show: bool,
    /// A refresh token that may be good once is used for it.
    pub spend: bool,
}

/// Why nothing is fetched.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// The configuration or the machine.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What was typed.
    #[error("{message}")]
    Wanted {
        /// What is wrong with it.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// Nobody listens to what is told.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl TokenRefusal {
    fn wanted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Wanted {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Fetches a token as the file at `path` says.
#[must_use]
pub fn main(path: &Path, wanted: &Wanted) -> ExitCode {
    if wanted.show && !io::stdout().is_terminal() {
        eprintln!("pillion: a token is shown on a terminal only");
        eprintln!(
            "hint: for a program there are `hand_out` routes; leave `--show` out to see all but the token"
        );
        return ExitCode::from(USAGE);
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return loaded::refuse(&StartError::Machine(error)),
    };
    let told = runtime.block_on(tell(path, Overlay::default(), wanted, &mut io::stdout()));
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(TokenRefusal::Start(error)) => loaded::refuse(&error),
        Err(TokenRefusal::Wanted { message, hint }) => {
            eprintln!("pillion: {message}");
            eprintln!("hint: {hint}");
            ExitCode::from(USAGE)
        }
        Err(error @ TokenRefusal::Output(_)) => {
            eprintln!("pillion: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Fetches a token on the current thread, and tells to `out` how it goes. Whether there is one.
///
/// # Errors
///
/// When there is nothing to fetch.
pub async fn tell(
    path: &Path,
    overlay: Overlay,
    wanted: &Wanted,
    out: &mut impl Write,
) -> Result<bool, TokenRefusal> {
    let Loaded { plan, .. } = Loaded::read(path, overlay, |file| file)?;
    let tokens = find(&plan, &wanted.provider)?;
    let subject = subject(&tokens, &wanted.inputs)?;
    if let Some(name) = spends(&tokens)
        && !wanted.spend
    {
        return Err(TokenRefusal::wanted(
            format!("the refresh token of `{name}` may be good for one use, and this would be it"),
            "`--spend` uses it; what replaces it is lost when this command ends",
        ));
    }
    let (mut steps, guard) = steps::follow();
    let mut story = Story::begin(out, &tokens, Moment::now());
    let fetched = {
        let mut fetching = std::pin::pin!(tokens.get(&subject, Moment::now()));
        loop {
            tokio::select! {
                biased;
                Some(step) = steps.recv() => story.step(step)?,
                fetched = &mut fetching => break fetched,
            }
        }
    };
    drop(guard);
    while let Ok(step) = steps.try_recv() {
        story.step(step)?;
    }
    match fetched {
        Ok(token) => story.good(&token, wanted.show)?,
        Err(error) => {
            story.bad(&error)?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn find(plan: &Plan, name: &str) -> Result<Arc<Tokens>, TokenRefusal> {
    let mut providers = plan.providers.iter();
    let found = providers.find(|tokens| &*tokens.provider().name == name);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = plan
            .providers
            .iter()
            .map(|it| &*it.provider().name)
            .collect();
        let hint = match did_you_mean(name, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        TokenRefusal::wanted(format!("there is no provider `{name}`"), hint)
    })
}

fn subject(tokens: &Tokens, given: &[String]) -> Result<Subject, TokenRefusal> {
    let names = &tokens.provider().inputs;
    let usage = || {
        let inputs: Vec<_> = names.iter().map(|name| format!(" {name}=...")).collect();
        format!(
            "write `pillion token {}{}`; `name:=...` for JSON",
            tokens.provider().name,
            inputs.concat()
        )
    };
    let refuse = |message: String| TokenRefusal::wanted(message, usage());
    let mut values: Vec<Option<Value>> = vec![None; names.len()];
    for input in given {
        let Some((name, value)) = input.split_once('=') else {
            return Err(refuse("an input is written NAME=VALUE".to_owned()));
        };
        let (name, is_json) = name
            .strip_suffix(':')
            .map_or((name, false), |name| (name, true));
        let Some(index) = names.iter().position(|known| known == name) else {
            return Err(refuse(format!("it has no input `{name}`")));
        };
        let value = if is_json {
            serde_json::from_str(value).ok()
        } else {
            Some(Value::from(value))
        };
        let value = value.ok_or_else(|| refuse(format!("the input `{name}` is not JSON")))?;
        if values
            .get_mut(index)
            .and_then(|place| place.replace(value))
            .is_some()
        {
            return Err(refuse(format!("the input `{name}` is given twice")));
        }
    }
    let missing = names.iter().zip(&values).find(|(_, value)| value.is_none());
    if let Some((name, _)) = missing {
        return Err(refuse(format!("it needs the input `{name}`")));
    }
    let mut subject = Subject::default();
    for value in values.iter().flatten() {
        match value {
            Value::String(text) => subject.push(Input::Text(text)),
            other => subject.push(Input::Json(&other.to_string())),
        }
    }
    tokens
        .check_inputs(&subject)
        .map_err(|fault| refuse(fault.to_string()))?;
    Ok(subject)
}

/// The provider whose refresh token a fetch would use up: it, or one that it is made from.
pub(super) fn spends(tokens: &Tokens) -> Option<&str> {
    let provider = tokens.provider();
    match &provider.source {
        Source::OAuth2(source) if matches!(source.grant, GrantType::RefreshToken(_)) => {
            Some(&provider.name)
        }
        _ => tokens.parent().and_then(|parent| spends(parent)),
    }
}
