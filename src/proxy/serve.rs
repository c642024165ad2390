//! A worker: serves the connections that it is dealt, one task each, and keeps connections to upstreams for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::replay::RequestBody;
use super::{Proxy, problem};
use crate::net::inbound::{Bounds, Inbound, Scratch};
use crate::net::pool::Pool;
use crate::net::socket::Socket;
use crate::net::workers::Dealt;

/// What the requests of one worker share. Never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    pool: Rc<Pool<RequestBody>>,
    scratch: Scratch,
}

impl Worker {
    /// Its number, from 0.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    pub(super) const fn pool(&self) -> &Rc<Pool<RequestBody>> {
        &self.pool
    }
}

/// Serves what comes by `mail` until `stop` says so; then ends each connection after the request it is serving.
pub async fn work(
    proxy: Arc<Proxy>,
    number: usize,
    mut mail: UnboundedReceiver<Dealt>,
    mut stop: watch::Receiver<bool>,
) {
    let worker = Rc::new(Worker {
        number,
        pool: Rc::new(Pool::new(proxy.plan().pool)),
        scratch: Scratch::default(),
    });
    let stopping = Rc::new(Stopping::default());
    let mut connections = JoinSet::new();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            dealt = mail.recv() => {
                let Some(dealt) = dealt else { break };
                let (proxy, worker) = (Arc::clone(&proxy), Rc::clone(&worker));
                connections.spawn_local(serve(proxy, worker, dealt, Rc::clone(&stopping)));
            }
            Some(_ended) = connections.join_next() => {}
            _ = sweep.tick() => {
                worker.pool.configure(proxy.plan().pool);
                worker.pool.sweep();
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // What was dealt before the listeners closed is served, too.
    while let Ok(dealt) = mail.try_recv() {
        let (proxy, worker) = (Arc::clone(&proxy), Rc::clone(&worker));
        connections.spawn_local(serve(proxy, worker, dealt, Rc::clone(&stopping)));
    }
    stopping.begin();
    while connections.join_next().await.is_some() {}
}

async fn serve(proxy: Arc<Proxy>, worker: Rc<Worker>, dealt: Dealt, stopping: Rc<Stopping>) {
    let Dealt {
        socket,
        counted: _counted,
    } = dealt;
    let limits = proxy.plan().limits;
    let bounds = Bounds {
        head_time: limits.head_time,
        idle: limits.body_idle,
        refusal: problem::refusal_bytes,
    };
    let inbound = Socket::new(socket).and_then(|socket| Inbound::new(socket, bounds));
    let Ok(inbound) = inbound else {
        return;
    };
    let stream = inbound.stream(&worker.scratch);
    let service = service_fn(move |request| {
        let (proxy, worker, inbound) = (Arc::clone(&proxy), Rc::clone(&worker), inbound.clone());
        async move { Ok::<_, Infallible>(proxy.handle(&worker, &inbound, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream keeps the time itself, without a timer for every request.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.max(LEAST_BUFFER_BYTES))
        .max_header_size(limits.head_bytes)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let mut sleeper = stopping.sleeper();
    let ended = poll_fn(|cx| {
        if sleeper.is_woken(cx) {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "connection broke off");
    }
}

/// Wakes every connection of a worker, once. A channel would be asked, under its lock, at every turn of every connection.
#[derive(Debug, Default)]
struct Stopping {
    begun: Cell<bool>,
    next: Cell<u64>,
    asleep: RefCell<HashMap<u64, Waker>>,
}

/// One connection's place in [`Stopping`].
struct Sleeper<'a> {
    stopping: &'a Stopping,
    number: u64,
    state: Sleep,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sleep {
    Unregistered,
    Asleep,
    Woken,
}

impl Stopping {
    fn begin(&self) {
        self.begun.set(true);
        for (_, waker) in self.asleep.borrow_mut().drain() {
            waker.wake();
        }
    }

    fn sleeper(&self) -> Sleeper<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        Sleeper {
            stopping: self,
            number,
            state: Sleep::Unregistered,
        }
    }
}

impl Sleeper<'_> {
    /// Whether it is time to stop: said once.
    fn is_woken(&mut self, cx: &Context<'_>) -> bool {
        if self.state == Sleep::Woken {
            return false;
        }
        if self.stopping.begun.get() {
            self.state = Sleep::Woken;
            return true;
        }
        if self.state == Sleep::Unregistered {
            // A task's waker stays good for as long as the task lives.
            let waker = cx.waker().clone();
            self.stopping.asleep.borrow_mut().insert(self.number, waker);
            self.state = Sleep::Asleep;
        }
        false
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.stopping.asleep.borrow_mut().remove(&self.number);
    }
}

/// How often idle connections to upstreams are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// hyper wants no smaller buffer.
const LEAST_BUFFER_BYTES: usize = 8192;
