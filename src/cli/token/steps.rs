//! The steps of a fetch, as the trace tells them.

use std::fmt;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::clock::Moment;

/// Something that has happened.
#[derive(Debug)]
pub(in crate::cli) struct Step {
    pub(in crate::cli) at: Moment,
    /// What.
    pub(in crate::cli) message: String,
    /// What else is said about it.
    fields: Vec<(&'static str, String)>,
}

impl Step {
    /// One of its fields.
    pub(in crate::cli) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The values of all its fields.
    pub(in crate::cli) fn values(&self) -> String {
        let values: Vec<&str> = self
            .fields
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        values.join(" ")
    }
}

/// Follows what this thread does, until the guard is dropped.
pub(in crate::cli) fn follow() -> (UnboundedReceiver<Step>, DefaultGuard) {
    let (sender, steps) = unbounded_channel();
    let subscriber = tracing_subscriber::registry().with(Steps(sender));
    (steps, tracing::subscriber::set_default(subscriber))
}

struct Steps(UnboundedSender<Step>);

impl<S: Subscriber> Layer<S> for Steps {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("pillion") {
            return;
        }
        let mut step = Step {
            at: Moment::now(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut step);
        self.0.send(step).ok();
    }
}

impl Step {
    // Others may have written it: a terminal is told no more than text.
    fn add(&mut self, field: &Field, text: &str) {
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let line = line.take(MOST_CHARS).collect();
        if field.name() == "message" {
            self.message = line;
        } else {
            self.fields.push((field.name(), line));
        }
    }
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

const MOST_CHARS: usize = 500;
