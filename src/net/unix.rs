//! Listens on a Unix socket: cheaper than TCP, and the system tells whose process calls.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::listen::{BACKLOG, Trouble, admit};
use super::socket::Accepted;
use super::workers::Workers;

/// A Unix socket, listening. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixDoor {
    unix: UnixListener,
    path: PathBuf,
    owner: u32,
    peers: Vec<u32>,
}

impl UnixDoor {
    /// Makes the socket at `path`, for processes of our own user, of root, and of `peers`: with mode 0600 where there are
    /// no others. What a process that is gone has left there is removed.
    ///
    /// # Errors
    ///
    /// When somebody listens there, something else is there, or the directory does not allow it.
    pub fn bind(path: &Path, peers: Vec<u32>) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let mode = if peers.is_empty() { 0o600 } else { 0o666 };
        // Before it listens, so that nobody connects in between.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            unix: UnixListener::from_std(socket.into())?,
            path: path.to_owned(),
            owner: fs::metadata(path)?.uid(),
            peers,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deals every connection to the workers, for ever, as [`Listener::deal`](super::listen::Listener::deal) does.
    pub async fn deal(&self, workers: &Workers, limit: usize, refusal: &[u8]) {
        let mut trouble = Trouble::default();
        loop {
            match self.unix.accept().await {
                Ok((unix, _)) if self.may_call(&unix) => {
                    if let Ok(unix) = unix.into_std() {
                        trouble = Trouble::default();
                        admit(Accepted::Unix(unix), workers, limit, refusal);
                    }
                }
                Ok(_) => tracing::warn!("another user's process has connected to the Unix socket"),
                Err(error) => trouble.pass(&error).await,
            }
        }
    }

    // SO_PEERCRED (unix(7)): whatever the mode of the socket and of its directories. Root is kept out nowhere.
    fn may_call(&self, unix: &tokio::net::UnixStream) -> bool {
        let may = |uid| uid == self.owner || uid == 0 || self.peers.contains(&uid);
        unix.peer_cred().is_ok_and(|peer| may(peer.uid()))
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    Ok(())
}
