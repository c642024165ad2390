//! `pillion webhook`: the server that puts pillion into the pods of a cluster.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::kubernetes::admin;
use crate::kubernetes::sidecar::Sidecar;
use crate::kubernetes::webhook::{Webhook, serve};
use crate::log::{self, LogFormat};
use crate::metrics::reviews::Reviews;
use crate::net::listen::Listener;
use crate::net::tls_listen::{TlsListenError, TlsListener};

/// Where it listens, and as whom.
#[derive(Debug)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// The address for probes and scrapers.
    pub admin: SocketAddr,
    /// Its certificate and those above it, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// How long it goes on accepting when it is asked to stop.
    pub drain_delay: Duration,
}

/// Serves until asked to stop.
#[must_use]
pub fn main(place: &Place, defaults: Sidecar) -> ExitCode {
    let served = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WebhookError::Machine)
        .and_then(|runtime| runtime.block_on(run(place, defaults)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pillion: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(place: &Place, defaults: Sidecar) -> Result<(), WebhookError> {
    log::init(tracing::Level::INFO, LogFormat::Auto);
    let mut terminate = signal(SignalKind::terminate()).map_err(WebhookError::Machine)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(WebhookError::Machine)?;
    let listener = TlsListener::bind(place.address, &place.cert, &place.key)?;
    let admin = Listener::bind_all(place.admin).map_err(|source| TlsListenError::Address {
        address: place.admin,
        source,
    })?;
    tracing::info!(listening = %listener.address(), admin = %admin.address(), "ready");
    let reviews = Reviews::new()?;
    tokio::spawn(admin::serve(admin, reviews.clone()));
    let (stop, stopping) = watch::channel(false);
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: reviews under way are finished first");
        sleep(place.drain_delay).await;
        stop.send(true).ok();
    };
    let webhook = Webhook { defaults, reviews };
    tokio::join!(serve(listener, webhook, stopping), stopped);
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum WebhookError {
    #[error(transparent)]
    Listen(#[from] TlsListenError),
    #[error("cannot start: {0}")]
    Machine(#[source] io::Error),
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}
