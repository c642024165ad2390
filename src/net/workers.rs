//! Workers: one current-thread runtime per core. A connection stays with the worker that it was dealt to.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::socket::Accepted;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The workers, to be dealt connections. Dropping it (and its clones) lets them finish.
#[derive(Clone, Debug)]
pub struct Workers {
    desks: Arc<[Desk]>,
}

#[derive(Debug)]
struct Desk {
    connections: Arc<AtomicUsize>,
    post: UnboundedSender<Dealt>,
}

/// A connection on its way to a worker, counted there from the moment it is dealt.
#[derive(Debug)]
pub struct Dealt {
    /// The connection, non-blocking.
    pub socket: Accepted,
    /// To be dropped with the connection.
    pub counted: Counted,
}

/// One connection, counted for as long as this lives.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads. `work` is called on each with the worker's number and its connections, and is the worker.
    ///
    /// # Errors
    ///
    /// When a thread or its runtime cannot be made.
    pub fn start<W, F>(count: usize, work: W) -> io::Result<(Self, Vec<JoinHandle<()>>)>
    where
        W: Fn(usize, UnboundedReceiver<Dealt>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut desks = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (post, mail) = unbounded_channel();
            let work = work.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    // The runtime is made here because it cannot leave its thread.
                    match Builder::new_current_thread()
                        .enable_all()
                        .build_local(LocalOptions::default())
                    {
                        Ok(runtime) => runtime.block_on(work(number, mail)),
                        Err(error) => tracing::error!(%error, "worker without a runtime"),
                    }
                })?;
            desks.push(Desk {
                connections: Arc::default(),
                post,
            });
            threads.push(thread);
        }
        let desks = desks.into();
        Ok((Self { desks }, threads))
    }

    /// Deals a connection to the worker that has the fewest.
    pub fn deal(&self, socket: Accepted) {
        let Some(desk) = self
            .desks
            .iter()
            .min_by_key(|desk| desk.connections.load(Ordering::Relaxed))
        else {
            return;
        };
        desk.connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&desk.connections));
        // A worker that is gone has dropped its mail: so is the connection.
        desk.post.send(Dealt { socket, counted }).ok();
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.desks
            .iter()
            .map(|desk| desk.connections.load(Ordering::Relaxed))
            .sum()
    }
}

/// How many workers this machine, or the cgroup we are in, can keep busy.
#[must_use]
pub fn default_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
