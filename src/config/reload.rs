//! Follows the configuration file: what is good replaces the plan whole, what is bad changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use super::compile::route::route_name;
use super::compile::{Surroundings, compile};
use super::file::File;
use super::report::Report;
use super::secrets;
use crate::log;
use crate::metrics::events::EventKind;
use crate::net::unreadable::why;
use crate::proxy::{Plan, Proxy};

/// A configuration file, and what it means to this process.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    surroundings: Surroundings,
    state: Mutex<State>,
    reload: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The text that was looked at last, good or bad.
    text: String,
    /// What cannot change while the process runs.
    fixed: Option<Fixed>,
    /// What is wrong with the text, if anything.
    error: Option<String>,
}

/// Settings that take effect at the next start.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Fixed {
    listen: Vec<std::net::SocketAddr>,
    sockets: Vec<PathBuf>,
    admin: std::net::SocketAddr,
    workers: Option<std::num::NonZeroUsize>,
    connections: usize,
    replay_budget_bytes: usize,
    trace: Option<(http::Uri, u64, String)>,
}

impl Fixed {
    fn of(file: &File) -> Self {
        Self {
            sockets: file
                .listen
                .sockets
                .iter()
                .map(|path| path.value.clone())
                .collect(),
            listen: file
                .listen
                .addresses
                .iter()
                .map(|address| address.value)
                .collect(),
            admin: file.admin.address.value,
            workers: file.listen.workers.as_ref().map(|workers| workers.value),
            connections: file.limits.connections,
            replay_budget_bytes: file.limits.replay_budget_bytes,
            trace: file.trace.as_ref().map(|trace| {
                let sample = trace.sample.to_bits();
                (trace.otlp.value.clone(), sample, trace.service.clone())
            }),
        }
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {path}: {}", why(*.kind))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// It holds mistakes.
    #[error("{}", .0.summary())]
    Mistakes(Box<Report>),
}

/// Reads and checks a file. Also gives the text that it was read from.
///
/// # Errors
///
/// When it cannot be read or holds mistakes.
pub fn read(path: &Path) -> Result<(File, Report, String), LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable {
        path: path.to_owned(),
        kind: error.kind(),
    })?;
    let label = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let (file, report) =
        super::read(&label, &text).map_err(|report| LoadError::Mistakes(Box::new(report)))?;
    Ok((file, report, text))
}

impl ConfigFile {
    /// The file at `path`, compiled for `surroundings` for the first time.
    ///
    /// # Errors
    ///
    /// When it holds mistakes that show only now: a certificate that is not there.
    pub fn first(
        path: PathBuf,
        (file, report, text): (&File, Report, String),
        surroundings: Surroundings,
    ) -> Result<(Self, Plan), LoadError> {
        let plan = compile(file, report, &surroundings, None)
            .map_err(|report| LoadError::Mistakes(Box::new(report)))?;
        secrets::look_at(file, &plan, &surroundings.secrets);
        let state = State {
            text,
            fixed: Some(Fixed::of(file)),
            error: None,
        };
        let this = Self {
            path,
            surroundings,
            state: Mutex::new(state),
            reload: Notify::new(),
        };
        Ok((this, plan))
    }

    /// Asks for a look at the file, now, whether it seems to have changed or not.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// What is wrong with the file on disk, if it is not the one in use.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// Keeps `proxy` on what the file says, for ever.
    ///
    /// The directory is watched, not the file: editors and ConfigMaps replace it. And it is looked at now and then,
    /// because a watch can miss (zot issue 4384).
    pub async fn follow(&self, proxy: &Proxy) {
        let changed = Arc::new(Notify::new());
        let _watcher = watch(&self.path, Arc::clone(&changed));
        loop {
            let forced = tokio::select! {
                () = changed.notified() => {
                    // One change comes as several events, and perhaps somebody asks for it besides: one look is for all.
                    tokio::time::sleep(SETTLE_TIME).await;
                    self.reload.notified().now_or_never().is_some()
                }
                () = tokio::time::sleep(POLL_INTERVAL) => false,
                () = self.reload.notified() => true,
            };
            self.look(proxy, forced);
            refresh_certificate(proxy);
        }
    }

    fn look(&self, proxy: &Proxy, forced: bool) {
        let read = read(&self.path);
        let text = match &read {
            Ok((_, _, text)) => text.clone(),
            // The text of a bad file is not at hand; its report is as good.
            Err(error) => told(error),
        };
        if !forced && self.lock().text == text {
            return;
        }
        let loaded = read.and_then(|(file, report, _)| {
            let previous = proxy.plan();
            let plan = compile(&file, report, &self.surroundings, Some(&previous))
                .map_err(|report| LoadError::Mistakes(Box::new(report)))?;
            Ok((file, previous, plan))
        });
        let metrics = &self.surroundings.metrics;
        metrics.reloaded(loaded.is_ok());
        let events = metrics.events();
        let mut state = self.lock();
        state.text = text;
        match loaded {
            Err(error) => {
                let told = told(&error);
                let summary = format!("refused, the one before stays in use: {error}");
                events.happened(EventKind::ReloadFailed, summary);
                tracing::error!(
                    "the configuration is not loaded, the one before stays in use\n{told}"
                );
                state.error = Some(told);
            }
            Ok((file, previous, plan)) => {
                if state.fixed.as_ref() != Some(&Fixed::of(&file)) {
                    tracing::warn!(
                        "addresses, workers, `connections`, `replay_budget` and [trace] change at the next start only"
                    );
                }
                state.error = None;
                // Also one that was set by hand in the meantime.
                log::set_level(file.log.level);
                log::set_format(file.log.format);
                let told = format!("loaded: {}", file.contents());
                events.happened(EventKind::Reload, told);
                self.adopt(&file, &previous, plan, proxy);
            }
        }
    }

    fn adopt(&self, file: &File, previous: &Plan, plan: Plan, proxy: &Proxy) {
        let is_provider = |name: &str| file.providers.iter().any(|provider| *provider.name == name);
        let gone: Vec<String> = previous
            .providers
            .iter()
            .map(|tokens| tokens.provider().name.as_ref().to_owned())
            .filter(|name| !is_provider(name))
            .collect();
        for tokens in &plan.providers {
            let is_new = !previous
                .providers
                .iter()
                .any(|old| Arc::ptr_eq(old, tokens));
            if is_new && tokens.provider().policy.warm {
                tokens.keep_warm();
            }
        }
        let names: Vec<String> = file.routes.iter().map(route_name).collect();
        proxy.reload(plan);
        self.surroundings.metrics.retain(
            |name| name == crate::proxy::UNMATCHED || names.iter().any(|route| route == name),
            &gone,
        );
        tracing::info!(
            providers = file.providers.len(),
            routes = file.routes.len(),
            "configuration loaded"
        );
        secrets::look_at(file, &proxy.plan(), &self.surroundings.secrets);
    }

    // A std mutex: held for assignments, by the one task that follows the file and by who looks at the status.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The listener's certificate is rotated in its files, while this one stays as it is.
fn refresh_certificate(proxy: &Proxy) {
    let Some(tls) = proxy.plan().tls.clone() else {
        return;
    };
    match tls.refresh() {
        Ok(false) => {}
        Ok(true) => tracing::info!("the listener's new certificate is in use"),
        Err(error) => {
            tracing::error!(%error, "the listener's new certificate cannot be used, the one before stays in use");
        }
    }
}

fn told(error: &LoadError) -> String {
    match error {
        LoadError::Unreadable { .. } => error.to_string(),
        LoadError::Mistakes(report) => report.to_plain(),
    }
}

// Without a watch the poll still finds the change: seconds later.
fn watch(path: &Path, changed: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let told = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    });
    let watching = told.and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "cannot watch the configuration's directory: changes are found by looking every 5 s");
            None
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_secs(5);
const SETTLE_TIME: Duration = Duration::from_millis(50);
