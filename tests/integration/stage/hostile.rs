//! A token endpoint that answers in one wrong way, until it is healed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

/// One way to answer a token request wrongly. What it says is sent to the letter: no framing is added, and none is corrected.
#[derive(Clone)]
pub(crate) enum Wrong {
    /// Says this, made anew for each request, and closes the connection.
    Says(Arc<dyn Fn() -> Vec<u8> + Send + Sync>),
    /// Says this before it has read anything, and closes the connection: where TLS is expected, no handshake.
    Greets(&'static [u8]),
    /// Says `first`, and then `again` for ever, with this pause before each.
    Endless {
        /// Said once.
        first: Vec<u8>,
        /// Said again and again.
        again: Vec<u8>,
        /// Nought floods.
        pause: Duration,
    },
    /// Reads the request and says nothing.
    Silent,
    /// Reads the request and resets the connection.
    Resets,
}

impl Wrong {
    /// Says this to everybody.
    pub(crate) fn says(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::Says(Arc::new(move || answer.clone()))
    }
}

/// An attempt to get a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// When its connection was accepted: pillion opens one for each.
    pub(crate) at: Instant,
    /// It met an endpoint that was well.
    pub(crate) healed: bool,
}

/// A token endpoint in ill health, with its own log. Dropping it closes its socket and all its connections.
pub(crate) struct Hostile {
    address: SocketAddr,
    site: Arc<Site>,
    accepting: JoinHandle<()>,
}

struct Site {
    wrong: Wrong,
    good: Vec<u8>,
    tls: Option<TlsAcceptor>,
    healed: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
    bytes: AtomicUsize,
}

impl Hostile {
    /// Starts one that is `wrong`, and once it is healed gives `token` for an hour; with `tls`, it speaks nothing else.
    pub(crate) async fn start(tls: Option<Arc<ServerConfig>>, wrong: Wrong, token: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let document =
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
        let site = Arc::new(Site {
            wrong,
            good: good_answer(&document),
            tls: tls.map(TlsAcceptor::from),
            healed: AtomicBool::new(false),
            attempts: Mutex::default(),
            bytes: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(Arc::clone(&site).accept(listener));
        Self {
            address,
            site,
            accepting,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever connects from now on gets a good answer.
    pub(crate) fn heal(&self) {
        self.site.healed.store(true, Ordering::SeqCst);
    }

    /// Every attempt so far, in order.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.site.attempts.lock().unwrap().clone()
    }

    /// How many bytes of wrong answers have been taken from it.
    pub(crate) fn bytes(&self) -> usize {
        self.site.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort(); // and with it the set of its connections
    }
}

/// An answer as it should be.
fn good_answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Site {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    let healed = self.healed.load(Ordering::SeqCst);
                    self.attempts.lock().unwrap().push(Attempt { at: Instant::now(), healed });
                    connections.spawn(Arc::clone(&self).meet(stream, healed));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    // However it ends, there is nobody to tell.
    async fn meet(self: Arc<Self>, mut stream: TcpStream, healed: bool) {
        if let (Wrong::Greets(greeting), false) = (&self.wrong, healed) {
            self.say(&mut stream, greeting).await.ok();
            stream.shutdown().await.ok();
            // Reads what the other side says: else the greeting would be lost in a reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink())
                .await
                .ok();
            return;
        }
        if let (Wrong::Resets, false) = (&self.wrong, healed) {
            read_request(&mut stream).await;
            stream.set_zero_linger().ok();
            return;
        }
        match &self.tls {
            None => self.talk(stream, healed).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.talk(stream, healed).await;
                }
            }
        }
    }

    async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, healed: bool) {
        read_request(&mut stream).await;
        if healed {
            stream.write_all(&self.good).await.ok();
        } else {
            self.do_wrong(&mut stream).await;
        }
        stream.shutdown().await.ok();
    }

    async fn do_wrong(&self, stream: &mut (impl AsyncWrite + Unpin)) {
        match &self.wrong {
            Wrong::Says(answer) => {
                self.say(stream, &answer()).await.ok();
            }
            Wrong::Endless {
                first,
                again,
                pause,
            } => {
                let mut said = self.say(stream, first).await;
                while said.is_ok() {
                    sleep(*pause).await;
                    said = self.say(stream, again).await;
                }
            }
            Wrong::Silent | Wrong::Greets(_) | Wrong::Resets => std::future::pending().await,
        }
    }

    async fn say(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> std::io::Result<()> {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a request with a declared length, or what there is of it.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut content = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut content).await.ok();
}
