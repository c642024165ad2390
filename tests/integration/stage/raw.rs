//! A server that says exactly the bytes that a test wants said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A server whose every connection is in the hands of a function. Dropping it ends them all.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// One connection of a [`Raw`] server.
pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    heads: Arc<AtomicUsize>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Raw {
    pub(crate) async fn start<F>(talk: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(None, talk).await
    }

    pub(crate) async fn start_with<F>(
        tls: Option<TlsAcceptor>,
        talk: impl Fn(Peer) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heads, closed) = <(Arc<_>, Arc<_>, Arc<AtomicUsize>)>::default();
        let (count, counted) = (Arc::clone(&connections), Arc::clone(&heads));
        let gone = Arc::clone(&closed);
        let accepting = tokio::spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                AtomicUsize::fetch_add(&count, 1, Ordering::Relaxed);
                let stream: Box<dyn Stream> = match &tls {
                    None => Box::new(tcp),
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(tls) => Box::new(tls),
                        Err(_) => continue,
                    },
                };
                let heads = Arc::clone(&counted);
                let talk = talk(Peer { stream, heads });
                let gone = Arc::clone(&gone);
                talks.spawn(async move {
                    talk.await;
                    gone.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            connections,
            heads,
            closed,
            accepting,
        }
    }

    /// One that answers every request with these bytes, and reads no body.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while peer.read_head().await.is_some() {
                peer.write(answer).await;
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections that it has closed.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Heads that have been read.
    pub(crate) fn requests(&self) -> usize {
        self.heads.load(Ordering::Relaxed)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Peer {
    /// The next head, unless the connection ends first.
    pub(crate) async fn read_head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        self.heads.fetch_add(1, Ordering::Relaxed);
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    /// Heads that its server has read so far, from everybody.
    pub(crate) fn heads(&self) -> usize {
        self.heads.load(Ordering::Relaxed)
    }

    pub(crate) async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Reads so many bytes, or all that there are, and forgets them.
    pub(crate) async fn discard(&mut self, count: usize) {
        let mut rest = (&mut self.stream).take(count as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink())
            .await
            .ok();
    }

    async fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// The content that belongs to a head, without its framing; trailers are passed over.
    pub(crate) async fn read_content(&mut self, head: &str) -> Vec<u8> {
        let head = head.to_lowercase();
        if !head.contains("transfer-encoding: chunked") {
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|it| it.lines().next()?.parse().ok());
            return self.read_bytes(length.unwrap_or(0)).await;
        }
        let mut content = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.read_line().await, 16).unwrap();
            if length == 0 {
                while !self.read_line().await.is_empty() {}
                return content;
            }
            content.extend(self.read_bytes(length).await);
            self.read_line().await;
        }
    }

    /// Waits for the other side to close.
    pub(crate) async fn read_to_end(&mut self) {
        self.discard(usize::MAX).await;
    }

    /// Says that there is nothing more to come; over TLS, with `close_notify`.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.ok();
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.ok();
        self.stream.flush().await.ok();
    }
}
