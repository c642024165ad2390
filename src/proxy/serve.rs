//! A worker: serves the connections that it is dealt, and keeps connections to upstreams for them.
//!
//! A connection is a task. One of HTTP/2 has another task for each of its streams. One of HTTP/1.1 whose app has nothing to
//! ask for a while, or is slow to ask it, costs little more than its socket: hyper is there only while it talks.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::replay::RequestBody;
use super::roll::{Place, Roll};
use super::upgrade::Upgraded;
use super::{InFlight, Limits, Proxy, answer, problem};
use crate::net::content::AppBody;
use crate::net::inbound::{Bounds, Inbound, InboundStream, Protocol, Scratch};
use crate::net::multiplex::Multiplex;
use crate::net::pool::Pool;
use crate::net::relay::Relay;
use crate::net::socket::{Accepted, Socket};
use crate::net::streams::{AppStream, Interim, Streams};
use crate::net::tls::ServerTls;
use crate::net::workers::Dealt;

/// What the requests of one worker share. Never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    pool: Rc<Pool<RequestBody>>,
    multiplex: Rc<Multiplex>,
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

    pub(super) const fn multiplex(&self) -> &Rc<Multiplex> {
        &self.multiplex
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
        multiplex: Rc::new(Multiplex::new(proxy.plan().pool)),
        scratch: Scratch::default(),
    });
    let roll = Rc::new(Roll::default());
    let mut connections = JoinSet::new();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            dealt = mail.recv() => {
                let Some(dealt) = dealt else { break };
                let (proxy, worker) = (Arc::clone(&proxy), Rc::clone(&worker));
                connections.spawn_local(serve(proxy, worker, dealt, Rc::clone(&roll)));
            }
            Some(_ended) = connections.join_next() => {}
            _ = sweep.tick() => {
                worker.pool.configure(proxy.plan().pool);
                worker.pool.sweep();
                worker.multiplex.configure(proxy.plan().pool);
                worker.multiplex.sweep();
                roll.call();
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // What was dealt before the listeners closed is served, too.
    while let Ok(dealt) = mail.try_recv() {
        let (proxy, worker) = (Arc::clone(&proxy), Rc::clone(&worker));
        connections.spawn_local(serve(proxy, worker, dealt, Rc::clone(&roll)));
    }
    roll.stop();
    while connections.join_next().await.is_some() {}
}

async fn serve(proxy: Arc<Proxy>, worker: Rc<Worker>, dealt: Dealt, roll: Rc<Roll>) {
    let Dealt {
        socket,
        counted: _counted,
    } = dealt;
    let (limits, tls) = {
        let plan = proxy.plan();
        (plan.limits, plan.tls.clone())
    };
    let Ok(socket) = open(socket, tls, limits.head_time).await else {
        return;
    };
    let bounds = Bounds {
        head_time: limits.head_time,
        idle: limits.body_idle,
        refusal: problem::refusal_bytes,
    };
    let Ok(inbound) = Inbound::new(socket, bounds) else {
        return;
    };
    let mut place = roll.place();
    match begun(&inbound, &worker.scratch, &mut place).await {
        Some(Protocol::Http1) => {
            serve_http1(&proxy, &worker, inbound, limits, &roll, place).await;
        }
        // In a box, so that the task of the usual connection is no larger for it.
        Some(Protocol::Http2) => {
            drop(place);
            Box::pin(serve_http2(proxy, worker, inbound, Rc::clone(&roll))).await;
        }
        None => {}
    }
}

/// A dealt connection, of this worker from now on; encrypted, if the plan wants that and it comes over TCP.
async fn open(
    accepted: Accepted,
    tls: Option<Arc<ServerTls>>,
    patience: Duration,
) -> io::Result<Socket> {
    match (Socket::new(accepted)?, tls) {
        (Socket::Tcp(tcp), Some(tls)) => Box::pin(timeout(patience, tls.accept(tcp))).await?,
        (socket, _) => Ok(socket),
    }
}

/// What an app speaks that has something for hyper. None if that does not come, or it is time to stop and nothing has come.
async fn begun(inbound: &Inbound, scratch: &Scratch, place: &mut Place<'_>) -> Option<Protocol> {
    let begun = poll_fn(|cx| match inbound.poll_begun(scratch, cx) {
        // hyper takes the rest of a head that has begun, and nothing after it.
        Poll::Pending if place.is_stopping(cx) => {
            Poll::Ready(Ok(inbound.has_begun().then_some(Protocol::Http1)))
        }
        polled => polled.map_ok(Some),
    });
    match begun.await {
        Ok(protocol) => protocol,
        Err(error) => {
            tracing::debug!(%error, "connection said nothing");
            None
        }
    }
}

async fn serve_http1(
    proxy: &Proxy,
    worker: &Worker,
    inbound: Inbound,
    limits: Limits,
    roll: &Roll,
    mut place: Place<'_>,
) {
    loop {
        place.begin_talk();
        // In a box, which goes with hyper's buffers while the app has nothing to ask.
        match Box::pin(talk(proxy, worker, &inbound, limits, &mut place)).await {
            Talked::Over => return,
            Talked::Upgraded(stream, read, upgraded, _in_flight) => {
                drop(inbound);
                if let Some(app) = stream.into_socket() {
                    // In a box, so that the task of the usual connection is no larger for it.
                    Box::pin(relay((app, read), *upgraded, worker, roll)).await;
                }
                return;
            }
            Talked::Idle => {}
        }
        if begun(&inbound, &worker.scratch, &mut place).await.is_none() {
            return shut_down(inbound.stream(&worker.scratch)).await;
        }
    }
}

/// How it went on between an app and hyper.
enum Talked {
    Over,
    /// The connection speaks something else now; this much of it was read already.
    Upgraded(InboundStream, Bytes, Box<Upgraded>, InFlight),
    /// The app has asked for nothing for a while.
    Idle,
}

async fn talk(
    proxy: &Proxy,
    worker: &Worker,
    inbound: &Inbound,
    limits: Limits,
    place: &mut Place<'_>,
) -> Talked {
    let stream = inbound.stream(&worker.scratch);
    let upgraded = Cell::new(None);
    let tell = |answer| inbound.send_interim(&answer::interim_bytes(&answer));
    let service = service_fn(|request: Request<Incoming>| async {
        let request = request.map(AppBody::Left);
        let mut response = proxy.handle(worker, inbound, &tell, request).await;
        if let Some(to) = response.body_mut().take_upgraded() {
            upgraded.set(Some((to, InFlight::begin(proxy, worker))));
        }
        response.body_mut().pace(inbound);
        Ok::<_, Infallible>(response)
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream keeps the time itself, without a timer for every request.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.max(LEAST_BUFFER_BYTES))
        .max_header_size(limits.head_bytes)
        .serve_connection(stream, service);
    let ended = poll_fn(|cx| {
        let mut connection = Pin::new(&mut connection);
        if place.is_stopped(cx) {
            connection.as_mut().graceful_shutdown();
        }
        match connection.poll(cx) {
            Poll::Pending if place.ends_talk(|| inbound.idle_after()) => Poll::Ready(Ok(true)),
            polled => polled.map_ok(|()| false),
        }
    });
    let is_idle = match ended.await {
        Ok(is_idle) => is_idle,
        Err(error) => {
            tracing::debug!(%error, "connection broke off");
            return Talked::Over;
        }
    };
    let Parts { io, read_buf, .. } = connection.into_parts();
    if is_idle {
        tracing::trace!("connection is idle");
        inbound.take_back(&read_buf);
        return Talked::Idle;
    }
    if let Some((upgraded, in_flight)) = upgraded.take() {
        return Talked::Upgraded(io, read_buf, upgraded, in_flight);
    }
    // If an upgrade was asked for, hyper leaves this to us; if not, it is done already, and does no harm again.
    shut_down(io).await;
    Talked::Over
}

/// Closes a connection. Whoever is gone need not be told.
async fn shut_down(mut io: InboundStream) {
    poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await.ok();
}

/// Passes on what an app and an upstream have to say to each other, until it is time to stop.
async fn relay(app: (Socket, Bytes), upgraded: Upgraded, worker: &Worker, roll: &Roll) {
    let Upgraded {
        upstream,
        early,
        idle,
    } = upgraded;
    let mut relay = Relay::new(app, (upstream, early), idle);
    let mut place = roll.place();
    let ended = poll_fn(|cx| {
        if place.is_stopped(cx) {
            return Poll::Ready(Err(io::Error::other("it was time to stop")));
        }
        relay.poll(&worker.scratch, cx)
    });
    let ended = ended.await;
    let (sent, received) = relay.passed();
    match ended {
        Ok(()) => tracing::debug!(sent, received, "upgraded connection ended"),
        Err(error) => {
            tracing::debug!(%error, sent, received, "upgraded connection broke off");
            relay.reset();
        }
    }
}

async fn serve_http2(proxy: Arc<Proxy>, worker: Rc<Worker>, inbound: Inbound, roll: Rc<Roll>) {
    let stream = TokioIo::new(inbound.stream(&worker.scratch));
    let mut streams = match Streams::begin(stream).await {
        Ok(streams) => streams,
        Err(error) => return tracing::debug!(%error, "connection broke off"),
    };
    let mut place = roll.place();
    let mut is_leaving = false;
    let ended = poll_fn(|cx| {
        // It is told as soon as it is used while the proxy drains: no answer can ask it to go.
        if place.is_stopped(cx) || (proxy.is_draining() && !is_leaving) {
            is_leaving = true;
            streams.leave();
        }
        while let Some((request, stream)) = ready!(streams.poll_next(cx)?) {
            let (proxy, worker, inbound) =
                (Arc::clone(&proxy), Rc::clone(&worker), inbound.clone());
            let request = request.map(AppBody::Right);
            tokio::task::spawn_local(serve_stream(proxy, worker, inbound, request, stream));
        }
        Poll::Ready(Ok::<_, h2::Error>(()))
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "connection broke off");
    }
}

async fn serve_stream(
    proxy: Arc<Proxy>,
    worker: Rc<Worker>,
    inbound: Inbound,
    request: Request<AppBody>,
    mut stream: AppStream,
) {
    let interim = Interim::default();
    let tell = |answer| interim.push(answer);
    let answering = proxy.handle(&worker, &inbound, &tell, request);
    let answer = stream.wait(pin!(answering), &interim).await;
    let ended = match answer {
        Ok(answer) => stream.send(answer).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "stream broke off");
    }
}

/// How often idle connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// hyper wants no smaller buffer.
const LEAST_BUFFER_BYTES: usize = 8192;
