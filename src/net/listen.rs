//! Accepts connections, and deals them to the workers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::socket::Accepted;
use super::workers::Workers;

/// A bound address, listening.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address` on the current runtime.
    ///
    /// # Errors
    ///
    /// When the address is in use, or not one of this machine.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let tcp = TcpListener::from_std(socket.into())?;
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
        })
    }

    /// Where it listens; the real port where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Errors of a connection are passed over; where the process has no descriptor left, it waits.
    pub async fn accept(&self) -> std::net::TcpStream {
        let mut trouble = Trouble::default();
        loop {
            match self.tcp.accept().await {
                // Given up by this runtime, to be taken by the worker's.
                Ok((tcp, _)) => match tcp.into_std() {
                    Ok(tcp) => return tcp,
                    Err(error) => tracing::debug!(%error, "connection lost at once"),
                },
                Err(error) => trouble.pass(&error).await,
            }
        }
    }

    /// Deals every connection to the workers, for ever. Above `limit` open connections a new one is told so and closed.
    pub async fn deal(&self, workers: &Workers, limit: usize, refusal: &[u8]) {
        loop {
            admit(Accepted::Tcp(self.accept().await), workers, limit, refusal);
        }
    }
}

pub(super) fn admit(accepted: Accepted, workers: &Workers, limit: usize, refusal: &[u8]) {
    if workers.open_connections() < limit {
        workers.deal(accepted);
    } else {
        accepted.refuse(refusal);
    }
}

/// What keeps us from accepting: mostly that the process has no descriptor left.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    is_told: bool,
}

impl Trouble {
    /// Goes on after an error of `accept`; where it is about more than one connection, not at once.
    pub(super) async fn pass(&mut self, error: &io::Error) {
        if is_about_one_connection(error) {
            return;
        }
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%error, "cannot accept connections");
        }
        tokio::time::sleep(ACCEPT_BACKOFF).await;
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Connections that the kernel may hold for us: a pod that starts with a thousand requests at once loses none.
pub(super) const BACKLOG: i32 = 4096;
/// Without descriptors, accepting again at once would only spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
