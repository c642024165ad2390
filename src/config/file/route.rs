//! `[[route]]`: which requests, which token, where to.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderName, Method, Uri};

use super::TlsFile;
use crate::config::span::Spanned;
use crate::provider::template::Template;

/// One route.
#[derive(Clone, Debug)]
pub struct RouteFile {
    /// The head of the table, to point at the route as a whole.
    pub span: Range<usize>,
    /// What it is called in metrics and logs; unique.
    pub name: Option<Spanned<String>>,
    /// The beginning of the path that it takes.
    pub path: Spanned<PathPattern>,
    /// Host names that it takes, in lower case; any if empty.
    pub hosts: Vec<Spanned<String>>,
    /// Methods that it takes; any if empty.
    pub methods: Vec<Spanned<Method>>,
    /// Where the request goes: scheme, authority and base path, no query.
    pub upstream: Spanned<Uri>,
    /// Whose token it carries.
    pub provider: Spanned<String>,
    /// What the provider's inputs are for a request. `Path`, `Header` and `Query` in them.
    pub inputs: Vec<(Spanned<String>, Spanned<Template>)>,
    /// Fields that are set, `Authorization = "Bearer {token}"` among them where it is the default. `Token` and `Input` in them.
    pub headers: Vec<(Spanned<HeaderName>, Spanned<Template>)>,
    /// What happens to a field of that name that the app sent itself.
    pub on_conflict: OnConflict,
    /// Fields that are removed from the request.
    pub remove: Vec<Spanned<HeaderName>>,
    /// Body kept for a replay; 0 keeps none, so that only requests without a body are replayed.
    pub replay_limit_bytes: usize,
    /// When a request is sent a second time.
    pub replay: Replay,
    /// How long the upstream may take.
    pub timeouts: TimeoutsFile,
    /// The token may go over `http://` to another machine.
    pub allow_plaintext: bool,
    /// How to connect to the upstream.
    pub tls: Option<TlsFile>,
    /// Replaces the provider's scope.
    pub scope: Option<Spanned<Vec<Spanned<String>>>>,
}

/// A path in whole segments; what follows it is appended to the upstream's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathPattern {
    /// None for `/`, which takes everything.
    pub segments: Vec<PathSegment>,
}

/// One segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathSegment {
    /// This text, decoded.
    Literal(String),
    /// `{name}`: any one segment that is not empty.
    Capture(String),
}

/// What happens to a field that the app sent itself and that the route would set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnConflict {
    /// The route's replaces it.
    Overwrite,
    /// The app's stays.
    Keep,
    /// The request is refused.
    Reject,
}

/// When a request is sent a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// `"401"`: after a 401, with a renewed token.
    Unauthorized,
    /// `"never"`
    Never,
}

/// `timeouts = { connect, response, idle }`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeoutsFile {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until there is the head of an answer.
    pub response: Duration,
    /// While a body stands still.
    pub idle: Duration,
}
