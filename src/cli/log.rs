//! Where log lines go, and how they look.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::file::{LogFile, LogFormat};

/// Logs to stderr as the configuration says. Only pillion's own lines: those of its libraries may hold headers.
pub fn init(log: &LogFile) {
    let own = Targets::new()
        .with_target("pillion", log.level)
        .with_default(Level::ERROR);
    let own = own
        .with_target("hyper", tracing::level_filters::LevelFilter::OFF)
        .with_target("rustls", tracing::level_filters::LevelFilter::OFF);
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !terminal,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    // Another subscriber is there already only in a test.
    if json {
        registry
            .with(lines.json().flatten_event(true).with_filter(own))
            .try_init()
            .ok();
    } else {
        registry
            .with(
                lines
                    .with_ansi(terminal)
                    .with_target(false)
                    .with_filter(own),
            )
            .try_init()
            .ok();
    }
}
