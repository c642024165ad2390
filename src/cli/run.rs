//! `pillion run`: puts everything together, and takes it apart again.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::check;
use crate::admin::Admin;
use crate::admin::status::Identity;
use crate::config::compile::{self, Surroundings};
use crate::config::file::ListenFile;
use crate::config::reload::{self, ConfigFile, LoadError};
use crate::log;
use crate::metrics::Metrics;
use crate::metrics::spans::Spans;
use crate::net::listen::Listener;
use crate::net::unix::UnixDoor;
use crate::net::workers::{self, Workers};
use crate::otlp::Exporter;
use crate::provider::secret::Secrets;
use crate::proxy::serve::work;
use crate::proxy::{Proxy, problem};

/// What is laid over a configuration file, so that the demo and the tests can run it unmodified.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Supplies secrets in place of the file's.
    pub secrets: Secrets,
    /// Connects elsewhere: host in lower case and port, and where to instead.
    pub resolve: Vec<((String, u16), SocketAddr)>,
    /// Trusted besides the system's roots.
    pub trust: Vec<CertificateDer<'static>>,
    /// Listens on free ports of 127.0.0.1, whatever the file says.
    pub free_ports: bool,
    /// Serves the admin listener on all addresses of the machine, here, whatever the file says.
    pub admin_port: Option<u16>,
    /// Goes on accepting for this long when asked to stop, whatever the file says.
    pub drain_delay: Option<Duration>,
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// Where the app calls.
    pub addresses: Vec<SocketAddr>,
    /// The Unix sockets where the app calls.
    pub sockets: Vec<PathBuf>,
    /// Where the SRE looks.
    pub admin: SocketAddr,
    /// The proxy itself.
    pub proxy: Arc<Proxy>,
    /// What it counts.
    pub metrics: Metrics,
    /// Where its plan comes from.
    pub config: Arc<ConfigFile>,
    /// Told when the admin listener is asked to quit.
    pub quit: Arc<Notify>,
    drain_delay: Duration,
    drain_timeout: Duration,
    accepting: JoinSet<()>,
    helping: JoinSet<()>,
    exporting: JoinSet<()>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// An address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        /// Where it would be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The machine.
    #[error("cannot start: {0}")]
    Machine(#[source] io::Error),
    /// The metrics contradict each other.
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Serves until asked to stop.
#[must_use]
pub fn main(path: &Path, overlay: Overlay) -> ExitCode {
    // The control thread: accepting, fetching, admin, reload. Requests are served by the workers.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pillion: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match serve(path, overlay).await {
            Ok(code) => code,
            Err(StartError::Config(error)) => check::fail(&error),
            Err(error) => {
                eprintln!("pillion: {error}");
                if let StartError::Listen { .. } | StartError::Socket { .. } = error {
                    eprintln!("hint: another process may listen there; set `address` under [listen] or [admin]");
                }
                ExitCode::FAILURE
            }
        }
    })
}

async fn serve(path: &Path, overlay: Overlay) -> Result<ExitCode, StartError> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hang_up = on(SignalKind::hangup())?;
    let running = start(path, overlay, true)?;
    tracing::info!(listening = ?running.addresses, sockets = ?running.sockets, admin = %running.admin, "ready");
    loop {
        tokio::select! {
            _ = hang_up.recv() => running.config.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = running.quit.notified() => break,
        }
    }
    tracing::info!("stopping: requests under way are finished first");
    tokio::select! {
        () = running.drain() => {}
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(ExitCode::SUCCESS)
}

fn on(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(StartError::Machine)
}

/// Starts a proxy on the current runtime, which becomes its control thread.
///
/// # Errors
///
/// When the configuration, an address or the machine does not allow it.
pub fn start(path: &Path, overlay: Overlay, logging: bool) -> Result<Running, StartError> {
    let (file, mut report, text) = reload::read(path)?;
    if logging {
        log::init(file.log.level, file.log.format);
        if !report.is_empty() {
            tracing::warn!("{}", report.to_plain());
        }
    }
    let count = file
        .listen
        .workers
        .as_ref()
        .map_or_else(workers::default_count, |count| count.get());
    let connections = affordable(file.limits.connections, count);
    let metrics = Metrics::new(count)?;
    let surroundings = Surroundings {
        metrics: metrics.clone(),
        runtime: Handle::current(),
        secrets: overlay.secrets,
        resolve: overlay.resolve.into_iter().collect::<HashMap<_, _>>(),
        trust: overlay.trust,
    };
    let collector = compile::collector(&file, &mut report, &surroundings);
    let tracing = file
        .trace
        .as_ref()
        .zip(collector)
        .map(|(trace, collector)| {
            let (spans, waiting) = Spans::new(trace.sample);
            metrics.trace_to(spans);
            let exporter = Exporter {
                collector,
                service: trace.service.clone(),
                metrics: metrics.clone(),
            };
            (exporter, waiting)
        });
    let (config, plan) =
        ConfigFile::first(PathBuf::from(path), (&file, report, text), surroundings)?;
    let config = Arc::new(config);
    let listeners = listen(&file.listen, overlay.free_ports)?;
    let doors = open_doors(&file.listen)?;
    let admin_listeners = match overlay.admin_port {
        Some(port) => everywhere(port)?,
        None => vec![bind(file.admin.address.value, overlay.free_ports)?],
    };
    let proxy = Arc::new(Proxy::new(plan, &metrics, file.limits.replay_budget_bytes));
    let (stop, stopped) = watch::channel(false);
    let mut exporting = JoinSet::new();
    if let Some((exporter, waiting)) = tracing {
        exporting.spawn(exporter.run(waiting, stopped.clone()));
    }
    let (workers, threads) = {
        let proxy = Arc::clone(&proxy);
        Workers::start(count, move |number, mail| {
            work(Arc::clone(&proxy), number, mail, stopped.clone())
        })
        .map_err(StartError::Machine)?
    };
    for tokens in &proxy.plan().providers {
        if tokens.provider().policy.warm {
            tokens.keep_warm();
        }
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
    let admin_address = admin_listeners
        .first()
        .map_or(file.admin.address.value, Listener::address);
    let quit = Arc::new(Notify::new());
    let admin = Arc::new(Admin {
        proxy: Arc::clone(&proxy),
        metrics: metrics.clone(),
        config: Arc::clone(&config),
        identity: Identity::new(addresses.clone(), &metrics),
        quit: Arc::clone(&quit),
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (workers, limit) = (workers.clone(), connections);
        // A caller that waits for a handshake could not read it.
        let refusal = match file.listen.tls {
            None => problem::overload_bytes(),
            Some(_) => Vec::new(),
        };
        accepting.spawn(async move { listener.deal(&workers, limit, &refusal).await });
    }
    let sockets = doors.iter().map(|door| door.path().to_owned()).collect();
    for door in doors {
        let (workers, limit) = (workers.clone(), connections);
        accepting.spawn(async move {
            door.deal(&workers, limit, &problem::overload_bytes()).await;
        });
    }
    let mut helping = JoinSet::new();
    for listener in admin_listeners {
        helping.spawn(Arc::clone(&admin).serve(listener));
    }
    helping.spawn(async move { admin.identity.recent.follow().await });
    helping.spawn({
        let (config, proxy) = (Arc::clone(&config), Arc::clone(&proxy));
        async move { config.follow(&proxy).await }
    });
    Ok(Running {
        addresses,
        sockets,
        admin: admin_address,
        proxy,
        metrics,
        config,
        quit,
        drain_delay: overlay.drain_delay.unwrap_or(file.listen.drain_delay),
        drain_timeout: file.listen.drain_timeout,
        accepting,
        helping,
        exporting,
        stop,
        workers: threads,
    })
}

impl Running {
    /// Stops: new requests are still taken while the app may not know, and what is under way is finished, within
    /// `drain_timeout`.
    pub async fn drain(mut self) {
        let began = Instant::now();
        self.proxy.drain();
        let deadline = began + self.drain_timeout;
        sleep(self.drain_delay.min(self.drain_timeout)).await;
        while self.metrics.requests_in_flight() > 0 && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        self.accepting.shutdown().await;
        self.stop.send(true).ok();
        while self.workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        // The last spans: a collector that does not take them at once does not keep us.
        timeout(FLUSH_TIME, self.exporting.join_next()).await.ok();
        self.helping.shutdown().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send(true).ok();
    }
}

fn listen(listen: &ListenFile, free_ports: bool) -> Result<Vec<Listener>, StartError> {
    if free_ports {
        return Ok(vec![bind(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            true,
        )?]);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for address in &listen.addresses {
        match bind(address.value, false) {
            Ok(listener) => listeners.push(listener),
            // Nobody asked for it by name, and many a container has no IPv6.
            Err(error) if listen.defaulted && address.is_ipv6() => {
                tracing::info!(%error, "listening on IPv4 only");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

// A pod has an IPv4 address, an IPv6 address, or both.
fn everywhere(port: u16) -> Result<Vec<Listener>, StartError> {
    let mut listeners = vec![bind((Ipv4Addr::UNSPECIFIED, port).into(), false)?];
    let port = listeners.first().map_or(port, |it| it.address().port());
    match bind((Ipv6Addr::UNSPECIFIED, port).into(), false) {
        Ok(listener) => listeners.push(listener),
        Err(error) => tracing::info!(%error, "the admin listener is on IPv4 only"),
    }
    Ok(listeners)
}

fn open_doors(listen: &ListenFile) -> Result<Vec<UnixDoor>, StartError> {
    let paths = listen.sockets.iter().map(|path| &path.value);
    let peers: Vec<u32> = listen.peer_uids.iter().map(|uid| uid.value).collect();
    paths
        .map(|path| {
            UnixDoor::bind(path, peers.clone()).map_err(|source| StartError::Socket {
                path: path.clone(),
                source,
            })
        })
        .collect()
}

fn bind(address: SocketAddr, free_port: bool) -> Result<Listener, StartError> {
    let address = if free_port {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    } else {
        address
    };
    Listener::bind(address).map_err(|source| StartError::Listen { address, source })
}

/// How many of `connections` there can be at once: each may need a descriptor for its upstream, too.
fn affordable(connections: usize, workers: usize) -> usize {
    let descriptors = match raise_file_limit() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            return connections;
        }
    };
    let own = OWN_DESCRIPTORS + workers * DESCRIPTORS_PER_WORKER;
    let affordable = (descriptors.saturating_sub(own) / 2).max(1);
    if affordable < connections {
        tracing::warn!(
            descriptors,
            "the limit of open files allows {affordable} connections at once"
        );
    }
    affordable.min(connections)
}

// As many as the administrator lets us have; the soft limit is often 1,024, which 500 connections use up.
fn raise_file_limit() -> nix::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Time for the spans that are left at the end.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// Listeners, probes, token fetches, the files that are read.
const OWN_DESCRIPTORS: usize = 24;
/// What a runtime is made of.
const DESCRIPTORS_PER_WORKER: usize = 4;
const DRAIN_POLL: Duration = Duration::from_millis(5);
