//! Where log lines go, how they look, and how many there are: which can change while the process runs.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
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

/// What can change while lines are written.
struct Log {
    filter: reload::Handle<Targets, Registry>,
    is_json: Arc<AtomicBool>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Logs to stderr from now on. Only pillion's own lines: those of its libraries may hold headers.
pub fn init(level: Level, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let is_json = Arc::new(AtomicBool::new(is_json(format)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Lines {
            is_json: Arc::clone(&is_json),
            text: format::format().with_target(false),
            json: format::format().json().flatten_event(true),
        });
    // On a terminal it is for NO_COLOR to say.
    let lines = if std::io::stderr().is_terminal() {
        lines
    } else {
        lines.with_ansi(false)
    };
    // Another subscriber is there already only in a test.
    if tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .is_ok()
    {
        let filter = handle;
        LOG.set(Log { filter, is_json }).ok();
    }
}

/// A line for people or for programs, as is asked for when it is written.
struct Lines {
    is_json: Arc<AtomicBool>,
    text: Format<Full>,
    json: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_json.load(Ordering::Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    }
}

/// What is worth a line now. None where nothing is logged at all.
#[must_use]
pub fn level() -> Option<Level> {
    let level = |filter: &Targets| {
        let mut own = filter.iter().filter(|(target, _)| *target == OWN);
        own.next().and_then(|(_, level)| level.into_level())
    };
    LOG.get()?.filter.with_current(level).ok()?
}

/// Changes what is worth a line, at once. Without effect where nothing is logged at all.
pub fn set_level(level: Level) {
    if let Some(log) = LOG.get() {
        // It fails only when the subscriber is gone, and with it the log.
        log.filter.reload(filter(level)).ok();
    }
}

/// Changes how lines look, from the next one on.
pub fn set_format(format: LogFormat) {
    if let Some(log) = LOG.get() {
        log.is_json.store(is_json(format), Ordering::Relaxed);
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
