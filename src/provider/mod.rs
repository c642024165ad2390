//! Where tokens come from: one [`Source`] per kind, each in its own file.
//!
//! An exchange is a [`request`] with values placed in it, and a [`reading`] of the answer; [`http`] and [`graphql`] are
//! made of both. A provider is a function from inputs to a token. It neither keeps tokens nor tries again: [`crate::token`] does.

pub mod advice;
pub mod assertion;
pub mod client_auth;
pub mod egress;
pub mod exchange;
pub mod expiry;
pub mod extract;
pub mod grant_type;
pub mod graphql;
pub mod http;
pub mod inputs;
pub mod json;
pub mod jwt;
pub mod oauth2;
pub mod pointer;
pub mod reading;
pub mod request;
pub mod rotation;
pub mod secret;
pub mod signing;
pub mod static_key;
pub mod template;

use std::fmt;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use self::graphql::GraphQl;
use self::http::Http;
use self::inputs::{InputCheck, InputFault};
use self::jwt::JwtSource;
use self::oauth2::OAuth2;
use self::reading::SingleUse;
use self::secret::{Secret, SecretError, SecretRef};
use self::static_key::StaticKey;
use self::template::FilterError;
use crate::clock::Moment;
use crate::metrics::FetchOutcome;

/// One `[provider.NAME]`, compiled. Immutable.
#[derive(Debug)]
pub struct Provider {
    /// As written in the configuration: for logs and metrics.
    pub name: Arc<str>,
    /// Of the whole definition: an unchanged provider keeps its tokens across a reload.
    pub fingerprint: u64,
    /// Names of the inputs it needs; their values, in this order, are the [`Subject`].
    pub inputs: Vec<String>,
    /// What it needs of their values.
    pub checks: Vec<InputCheck>,
    /// Where its tokens come from.
    pub source: Source,
    /// How its tokens are kept.
    pub policy: Policy,
}

/// How the tokens of a provider are fetched and kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Policy {
    /// Time for one fetch.
    pub timeout: Duration,
    /// Time that a request waits for a token.
    pub token_wait: Duration,
    /// Requests that may wait for one token at the same time.
    pub max_waiters: usize,
    /// Fetches that may be under way at the same time, for all its subjects.
    pub max_fetches: usize,
    /// Subjects whose tokens are kept; so many are fetched in a second, at the most.
    pub max_entries: usize,
    /// A subject unused for this long is forgotten.
    pub max_idle: Duration,
    /// No token is used for longer than this, whatever its answer says.
    pub max_lifetime: Option<Duration>,
    /// Fetched at start; readiness waits for it.
    pub warm: bool,
    /// No token is used for longer than its parent's.
    pub within_parent: bool,
}

/// The kinds of provider. Closed: the configuration can name these and no others.
#[derive(Debug)]
pub enum Source {
    /// An OAuth 2.0 token endpoint (RFC 6749).
    OAuth2(OAuth2),
    /// A long-lived key.
    Static(StaticKey),
    /// Any HTTP exchange.
    Http(Http),
    /// A GraphQL operation.
    GraphQl(GraphQl),
    /// A JWT, signed here.
    Jwt(JwtSource),
}

impl Provider {
    /// One fetch: no cache, no retry, no time limit.
    ///
    /// # Errors
    ///
    /// When the source gives no usable token.
    pub async fn fetch(&self, call: &Call<'_>) -> Result<Grant, Failed> {
        match &self.source {
            Source::OAuth2(source) => source.fetch(call).await,
            Source::Static(source) => Ok(source.fetch()?),
            Source::Jwt(source) => Ok(source.fetch(call)?),
            Source::Http(source) => source.fetch(call).await,
            Source::GraphQl(source) => source.fetch(call).await,
        }
    }

    /// Whether the inputs of a request can be used at all. To be asked before anything is fetched.
    ///
    /// # Errors
    ///
    /// The first fault: the app's, not the provider's. It names the input, never its value.
    pub fn check_inputs(&self, subject: &Subject) -> Result<(), InputFault> {
        inputs::check(&self.checks, subject, &self.inputs)
    }

    /// Whether it can give tokens that are good for one use only.
    #[must_use]
    pub const fn single_use(&self) -> &SingleUse {
        match &self.source {
            Source::OAuth2(_) | Source::Static(_) | Source::Jwt(_) => &SingleUse::No,
            Source::Http(source) | Source::GraphQl(GraphQl(source)) => &source.reading.single_use,
        }
    }

    /// Whether its tokens are made from a secret alone, and nobody is asked.
    #[must_use]
    pub const fn is_made_here(&self) -> bool {
        match &self.source {
            Source::Static(_) | Source::Jwt(_) => true,
            Source::OAuth2(_) | Source::Http(_) | Source::GraphQl(_) => false,
        }
    }

    /// Its kind, as the configuration names it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.source {
            Source::OAuth2(_) => "oauth2",
            Source::Static(_) => "static",
            Source::Http(_) => "http",
            Source::GraphQl(_) => "graphql",
            Source::Jwt(_) => "jwt",
        }
    }

    /// The host that is asked for its tokens, if anybody is.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        let endpoint = match &self.source {
            Source::OAuth2(source) => &source.token_endpoint.endpoint,
            Source::Http(source) | Source::GraphQl(GraphQl(source)) => &source.request.endpoint,
            Source::Static(_) | Source::Jwt(_) => return None,
        };
        Some(&endpoint.settings().host)
    }

    /// The scope that its tokens are asked for with, if it has one.
    #[must_use]
    pub fn scope(&self) -> &[String] {
        match &self.source {
            Source::OAuth2(source) => &source.scope,
            Source::Static(_) | Source::Http(_) | Source::GraphQl(_) | Source::Jwt(_) => &[],
        }
    }

    /// Whether it has a request of its own for refresh tokens.
    #[must_use]
    pub const fn refreshes(&self) -> bool {
        match &self.source {
            Source::OAuth2(_) | Source::Static(_) | Source::Jwt(_) => false,
            Source::Http(source) | Source::GraphQl(GraphQl(source)) => source.refresh.is_some(),
        }
    }

    /// Where each of its secrets is kept.
    #[must_use]
    pub fn references(&self) -> Vec<&SecretRef> {
        match &self.source {
            Source::OAuth2(source) => {
                let of_client = source.client_auth.references();
                of_client.chain(source.grant.references()).collect()
            }
            Source::Static(source) => vec![&source.secret],
            Source::Http(source) | Source::GraphQl(GraphQl(source)) => {
                source.references.iter().collect()
            }
            Source::Jwt(source) => vec![&source.jwt.key],
        }
    }

    /// Each of its secrets as it is now.
    fn secrets(&self) -> impl Iterator<Item = Result<Secret, SecretError>> {
        let secrets = match &self.source {
            Source::OAuth2(source) => &source.secrets,
            Source::Static(source) => &source.secrets,
            Source::Http(source) | Source::GraphQl(GraphQl(source)) => &source.secrets,
            Source::Jwt(source) => &source.secrets,
        };
        let references = self.references().into_iter();
        references.map(|reference| secrets.read(reference))
    }

    /// A hash of its secrets as they are now, with a key of this process: it tells that one has changed, and no more.
    #[must_use]
    pub fn secrets_digest(&self, key: &RandomState) -> u64 {
        let mut hasher = key.build_hasher();
        for secret in self.secrets() {
            secret.ok().as_ref().map(Secret::reveal).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What a fetch is made from, besides the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Whose token is wanted.
    pub subject: &'a Subject,
    /// The token of the provider's parent, if it has one.
    pub parent: Option<&'a Secret>,
    /// The refresh token of its last answer, if there is one and it is to be used.
    pub refresh_token: Option<&'a Secret>,
}

impl<'a> Call<'a> {
    /// A call without a parent and without a refresh token.
    #[must_use]
    pub const fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            parent: None,
            refresh_token: None,
        }
    }
}

/// Whose token it is: the values of the provider's inputs, in their order. Empty for the process itself.
///
/// Typed, never concatenated: `["a", "bc"]` is not `["ab", "c"]`. Each value is there as its length and kind, and then its text.
/// Where all of them are short, as a UUID is, they take no memory of their own: the slots are found by what is in their table.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Subject(SmallVec<[u8; SHORT_BYTES]>);

/// The value of an input.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Input<'a> {
    /// Text, as it is.
    Text(&'a str),
    /// Another JSON value, in its one canonical form.
    Json(&'a str),
}

impl<'a> Input<'a> {
    /// The value as text: what stands in a URL, a form or a field.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        match self {
            Self::Text(text) | Self::Json(text) => text,
        }
    }
}

/// Inputs are people's numbers and names: not even a log of everything shows one.
impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[input]")
    }
}

impl Subject {
    /// A subject of these input values.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = Input<'a>>) -> Self {
        let mut subject = Self::default();
        values.into_iter().for_each(|value| subject.push(value));
        subject
    }

    /// Adds the value of one more input.
    pub fn push(&mut self, value: Input<'_>) {
        let (text, is_json) = match value {
            Input::Text(text) => (text, 0),
            Input::Json(text) => (text, 1),
        };
        // What could be longer than 2 GiB has long been refused.
        let [a, b, c, d, ..] = (text.len() << 1 | is_json).to_le_bytes();
        self.0.extend_from_slice(&[a, b, c, d]);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The subject that these of its inputs are, in this order.
    #[must_use]
    pub fn of(&self, indices: &[usize]) -> Self {
        let pieces = indices.iter().filter_map(|index| self.pieces().nth(*index));
        pieces.fold(Self::default(), |mut subject, piece| {
            subject.0.extend_from_slice(piece);
            subject
        })
    }

    /// The value of the provider's `index`th input.
    #[must_use]
    pub fn input(&self, index: usize) -> &str {
        self.inputs().nth(index).map_or("", Input::as_str)
    }

    /// All values, in order.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> + Clone {
        self.pieces().filter_map(|piece| {
            let (prefix, text) = piece.split_first_chunk()?;
            let text = str::from_utf8(text).ok()?;
            Some(match u32::from_le_bytes(*prefix) & 1 {
                0 => Input::Text(text),
                _ => Input::Json(text),
            })
        })
    }

    /// Each value as it is kept.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = self.0.as_slice();
        iter::from_fn(move || {
            let prefix = rest.first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*prefix) >> 1).ok()?;
            let (piece, after) = rest.split_at_checked(prefix.len() + length)?;
            rest = after;
            Some(piece)
        })
    }
}

/// Subjects are people's: not even a log of everything shows one.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({} inputs)", self.pieces().count())
    }
}

/// A UUID and what is before it.
const SHORT_BYTES: usize = 40;

/// What a source answers.
pub struct Grant {
    /// The token. Visible ASCII, so it fits a field value.
    pub token: Secret,
    /// How long it lives, counted from when it was asked for.
    pub lifetime: Lifetime,
    /// When that was, if it was later than the fetch began: a parent's token may have been waited for.
    pub asked_at: Option<Moment>,
    /// Further members of the answer, by the names that the configuration gives them.
    pub fields: Vec<(String, serde_json::Value)>,
    /// It is good for one use only.
    pub single_use: bool,
    /// When the next one is to be fetched, if the answer says so, counted like the lifetime.
    pub renew_after: Option<Duration>,
    /// What the next one can be asked for with, if the answer has it.
    pub refresh: Option<RefreshGrant>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lifetime", &self.lifetime)
            .field("single_use", &self.single_use)
            .finish_non_exhaustive()
    }
}

/// A refresh token (RFC 6749 §1.5).
#[derive(Clone, Debug)]
pub struct RefreshGrant {
    /// The token.
    pub token: Secret,
    /// How long it lives, if the answer says.
    pub lifetime: Option<Duration>,
}

impl Grant {
    /// A token and its lifetime, and nothing else.
    #[must_use]
    pub const fn new(token: Secret, lifetime: Lifetime) -> Self {
        Self {
            token,
            lifetime,
            asked_at: None,
            fields: Vec::new(),
            single_use: false,
            renew_after: None,
            refresh: None,
        }
    }
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// For this long.
    For(Duration),
    /// For this long by a value that made no sense and was replaced.
    Clamped(Duration),
    /// Until it is changed; to be looked at again after this time.
    Unlimited {
        /// When to look again.
        look_again: Duration,
    },
}

impl Lifetime {
    /// The same, but not longer than this.
    #[must_use]
    pub fn at_most(self, most: Duration) -> Self {
        match self {
            Self::For(length) => Self::For(length.min(most)),
            Self::Clamped(length) => Self::Clamped(length.min(most)),
            Self::Unlimited { .. } => Self::For(most),
        }
    }
}

/// Why one attempt failed: for whoever waits, for whoever can do something about it, and for the log.
#[derive(Debug)]
pub struct Failed {
    /// The failure.
    pub error: FetchError,
    /// The provider did not accept what the request was authenticated with: it may be the parent's token.
    pub unauthorized: bool,
    /// What the provider said about it: for the log only, never for the app.
    pub said: Option<String>,
}

impl Failed {
    /// The same, with what the provider said unless that is known already.
    #[must_use]
    pub fn with_said(mut self, said: Option<String>) -> Self {
        self.said = self.said.or(said);
        self
    }

    /// The same, with what the provider said in other words.
    #[must_use]
    pub fn map_said(mut self, map: impl FnOnce(&str) -> String) -> Self {
        self.said = self.said.map(|said| map(&said));
        self
    }

    /// What the provider said, as a line of a log can have it.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let said = self.said.as_ref()?.chars();
        let line = said.map(|c| if c.is_control() { ' ' } else { c });
        Some(line.take(SAID_MOST).collect())
    }
}

/// The longest text of a provider that a line of a log has.
const SAID_MOST: usize = 300;

impl<E: Into<FetchError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            unauthorized: false,
            said: None,
        }
    }
}

/// Why a source gave no token. Cloned to every request that waited for the same fetch. Holds nothing of a secret.
///
/// Its `Display` goes to the app: it is in our words. [`report`](Self::report) is for logs, and says more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FetchError {
    /// The provider does not want us (RFC 6749 §5.2): a configuration fault.
    #[error("the provider refused: {error}")]
    Refused {
        /// `invalid_client`, `invalid_scope`, ...: a word of the registry, whatever the provider wrote.
        error: Arc<str>,
    },
    /// A secret is not where the configuration says.
    #[error("{0}")]
    Secret(SecretError),
    /// The provider wants fewer requests.
    #[error("the provider is throttling us")]
    Throttled {
        /// What it asks for.
        retry_after: Option<Duration>,
    },
    /// The provider cannot be reached, or the connection broke before there was an answer.
    #[error("the provider cannot be reached: {reason}")]
    Unreachable {
        /// What went wrong, in our words.
        reason: Arc<str>,
        /// What the system, TLS or the other side said about it: for logs, never for the app.
        detail: Arc<str>,
    },
    /// The provider failed.
    #[error("the provider failed: {reason}")]
    Unavailable {
        /// Its status.
        reason: Arc<str>,
        /// What it asks for.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("no token within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// An answer without a usable token in it.
    #[error("the provider's answer is not usable: {reason}")]
    Malformed {
        /// What is wrong with it; never a part of it.
        reason: Arc<str>,
    },
}

impl FetchError {
    /// An answer that cannot be used, and why.
    #[must_use]
    pub fn malformed(reason: impl Into<Arc<str>>) -> Self {
        Self::Malformed {
            reason: reason.into(),
        }
    }

    /// A provider that failed in a way that may pass, and how.
    #[must_use]
    pub fn unavailable(reason: impl Into<Arc<str>>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// The error in one line, for logs: what `Display` says, and what others said about it.
    #[must_use]
    pub fn report(&self) -> String {
        match self {
            Self::Unreachable { reason, detail } => {
                let more = detail.strip_prefix(&**reason).unwrap_or(detail);
                format!("{self}: {}", more.trim_start_matches([':', ' ']))
            }
            Self::Refused { .. }
            | Self::Secret(_)
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. } => self.to_string(),
        }
    }

    /// Whether trying again changes nothing until somebody changes a secret or the configuration.
    #[must_use]
    pub const fn is_configuration_fault(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Secret(_) => true,
            Self::Throttled { .. }
            | Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. } => false,
        }
    }

    /// As the metrics count it.
    #[must_use]
    pub const fn outcome(&self) -> FetchOutcome {
        match self {
            Self::Refused { .. } | Self::Secret(_) => FetchOutcome::Refused,
            Self::Throttled { .. } => FetchOutcome::Throttled,
            Self::Unreachable { .. } | Self::Unavailable { .. } => FetchOutcome::Unavailable,
            Self::Timeout { .. } => FetchOutcome::Timeout,
            Self::Malformed { .. } => FetchOutcome::Malformed,
        }
    }

    /// How long the provider asks us to stay away, as far as that is obeyed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => {
                retry_after.map(|asked| asked.min(RETRY_AFTER_MOST))
            }
            Self::Refused { .. }
            | Self::Secret(_)
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. } => None,
        }
    }
}

/// What a provider asks for beyond this is a mistake.
const RETRY_AFTER_MOST: Duration = Duration::from_hours(1);

impl From<SecretError> for FetchError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl From<FilterError> for FetchError {
    fn from(error: FilterError) -> Self {
        Self::malformed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_subject_tells_its_values_as_they_were_and_is_that_of_no_others(
            one in values(),
            other in values(),
        ) {
            let subject = subject_of(&one);
            let told: Vec<_> = subject.inputs().map(owned).collect();
            prop_assert_eq!(&told, &one);
            prop_assert_eq!(subject == subject_of(&other), one == other);
            let backwards: Vec<_> = (0..one.len()).rev().collect();
            let reversed: Vec<_> = one.into_iter().rev().collect();
            prop_assert!(subject.of(&backwards) == subject_of(&reversed));
        }
    }

    /// Short and long ones, and such as look like what is between two.
    fn values() -> impl Strategy<Value = Vec<(bool, String)>> {
        let text = prop_oneof!["[ab]{0,3}", "[\\x00-\\x04é]{0,5}", "[ -~]{30,300}"];
        prop::collection::vec((any::<bool>(), text), 0..4)
    }

    fn subject_of(values: &[(bool, String)]) -> Subject {
        Subject::new(values.iter().map(|(is_json, text)| match is_json {
            true => Input::Json(text),
            false => Input::Text(text),
        }))
    }

    fn owned(input: Input<'_>) -> (bool, String) {
        (matches!(input, Input::Json(_)), input.as_str().to_owned())
    }
}
