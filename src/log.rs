//! Where log lines go, how they look, and how many there are: which can change while the process runs.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

/// How a line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people on a terminal, for programs elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs: JSON.
    Json,
}

/// The levels that there are, by their names.
pub const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// The name of a level.
#[must_use]
pub fn name(level: Level) -> &'static str {
    let mut levels = LEVELS.iter();
    let found = levels.find(|(_, known)| *known == level);
    found.map_or("trace", |(name, _)| name)
}

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Logs to stderr from now on. Only pillion's own lines: those of its libraries may hold headers.
pub fn init(level: Level, format: LogFormat) {
    let terminal = std::io::stderr().is_terminal();
    let is_json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if is_json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines
            .with_ansi(terminal)
            .with_target(false)
            .with_filter(filter)
            .boxed()
    };
    // Another subscriber is there already only in a test.
    if tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .is_ok()
    {
        FILTER.set(handle).ok();
    }
}

/// What is worth a line now. None where nothing is logged at all.
#[must_use]
pub fn level() -> Option<Level> {
    let level = |filter: &Targets| {
        let mut own = filter.iter().filter(|(target, _)| *target == OWN);
        own.next().and_then(|(_, level)| level.into_level())
    };
    FILTER.get()?.with_current(level).ok()?
}

/// Changes what is worth a line, at once. Without effect where nothing is logged at all.
pub fn set_level(level: Level) {
    if let Some(handle) = FILTER.get() {
        // It fails only when the subscriber is gone, and with it the log.
        handle.reload(filter(level)).ok();
    }
}

fn filter(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::ERROR)
        .with_target(OWN, level)
        .with_targets(LIBRARIES.map(|library| (library, LevelFilter::OFF)))
}

const OWN: &str = "pillion";
/// What these log may hold headers.
const LIBRARIES: [&str; 4] = ["h2", "hyper", "hyper_util", "rustls"];
