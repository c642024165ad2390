//! The proxy at the border of a network: it lets connections out by CONNECT, and hears all that is said.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::locked::Locked;
use super::server::Requests;
use super::{FakeError, Received, Server};

/// An HTTP proxy that does CONNECT and nothing else (RFC 9110 §9.3.6), strictly. It resolves the
/// names that it has been told, and no others.
#[derive(Debug)]
pub struct EgressProxy {
    state: Arc<State>,
    server: Server,
}

/// What a proxy does instead of opening a tunnel.
#[derive(Debug, Clone)]
pub enum Obstacle {
    /// It answers these bytes, and closes the connection.
    Says(&'static str),
    /// It answers these bytes for ever.
    Repeats(&'static str),
    /// It never answers.
    Hangs,
    /// It opens the tunnel, but in these words.
    Grants(&'static str),
}

#[derive(Default)]
struct State {
    /// `name:password`, if it asks.
    user: Locked<Option<String>>,
    /// By `host:port`.
    names: Locked<HashMap<String, SocketAddr>>,
    obstacle: Locked<Option<Obstacle>>,
    requests: Locked<Vec<Received>>,
    mistakes: Locked<Vec<String>>,
    heard: Locked<Vec<u8>>,
}

impl EgressProxy {
    /// Starts one that lets everybody out, to no name yet.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub async fn start() -> Result<Self, FakeError> {
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        let server = Server::talking(move |stream, requests| {
            let state = Arc::clone(&own);
            async move {
                // However it ends, there is nobody to tell.
                let _ended = serve(stream, &state, &requests).await;
            }
        });
        Ok(Self {
            state,
            server: server.await?,
        })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The server, to count its connections or to take it away.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// From now on `authority`, a host and a port, is found at `address`.
    pub fn resolve(&self, authority: &str, address: SocketAddr) {
        let mut names = self.state.names.lock();
        names.insert(authority.to_owned(), address);
    }

    /// From now on it lets only this user out.
    pub fn admit(&self, username: &str, password: &str) {
        *self.state.user.lock() = Some(format!("{username}:{password}"));
    }

    /// From now on it does this; with none, what it should.
    pub fn obstruct(&self, obstacle: Option<Obstacle>) {
        *self.state.obstacle.lock() = obstacle;
    }

    /// What it was asked for so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.state.requests.lock().clone()
    }

    /// For which targets it was asked so far.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        let requests = self.state.requests.lock();
        requests.iter().map(|it| it.target.clone()).collect()
    }

    /// What was wrong with what it was asked, in words.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        self.state.mistakes.lock().clone()
    }

    /// Everything that went through its tunnels, both ways.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.state.heard.lock().clone()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// One connection: a CONNECT, and what goes through the tunnel.
async fn serve(stream: TcpStream, state: &State, requests: &Requests) -> io::Result<()> {
    let head = read_head(&stream).await?;
    requests.count();
    let obstacle = state.obstacle.lock().clone();
    let granted = match obstacle {
        None => "HTTP/1.1 200 Connection established\r\nVia: 1.1 fake\r\n\r\n",
        Some(Obstacle::Grants(bytes)) => bytes,
        Some(Obstacle::Says(bytes)) => return write(&stream, bytes.as_bytes()).await,
        Some(Obstacle::Repeats(bytes)) => loop {
            write(&stream, bytes.as_bytes()).await?;
        },
        Some(Obstacle::Hangs) => return std::future::pending().await,
    };
    let target = match admit(&head, state) {
        Ok(target) => target,
        Err(answer) => {
            return write(&stream, format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
        }
    };
    let known = state.names.lock().get(&target).copied();
    let Some(address) = known.or_else(|| target.parse().ok()) else {
        return write(&stream, b"HTTP/1.1 503 Unknown Host\r\n\r\n").await;
    };
    let Ok(upstream) = TcpStream::connect(address).await else {
        return write(&stream, b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    upstream.set_nodelay(true)?;
    write(&stream, granted.as_bytes()).await?;
    let (inside, outside) = (stream.into_split(), upstream.into_split());
    let out = pass(inside.0, outside.1, state);
    let back = pass(outside.0, inside.1, state);
    tokio::try_join!(out, back)?;
    Ok(())
}

/// Whether this is a CONNECT to be granted, and where to; otherwise the status of the refusal.
fn admit(head: &str, state: &State) -> Result<String, &'static str> {
    let mistake = |mistake: &str| {
        state.mistakes.lock().push(mistake.to_owned());
        "400 Bad Request"
    };
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let request_line = lines.next().unwrap_or_default();
    let fields: Option<Vec<_>> = lines.map(field).collect();
    let fields = fields.ok_or_else(|| mistake("a field line is none"))?;
    let parts: Vec<&str> = request_line.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(mistake("the request line does not have three parts"));
    };
    let request = Received {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| mistake("no method"))?,
        target: target.to_owned(),
        fields,
        body: Bytes::new(),
        trailers: Vec::new(),
        at: Instant::now(),
    };
    state.requests.lock().push(request.clone());
    if request.method != Method::CONNECT {
        return Err(mistake("the method is not CONNECT"));
    }
    if version != "HTTP/1.1" {
        return Err(mistake("the version is not HTTP/1.1"));
    }
    let port = target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) || target.contains(['/', '@', '?']) {
        return Err(mistake("the target is not a host and a port"));
    }
    if request.field("host") != Some(target) {
        return Err(mistake("Host is not the target"));
    }
    let allowed = ["host", "proxy-authorization"];
    if request
        .fields
        .iter()
        .any(|(name, _)| !allowed.contains(&name.as_str()))
    {
        return Err(mistake("a field is none of the proxy's business"));
    }
    let wanted = state
        .user
        .lock()
        .as_ref()
        .map(|user| format!("Basic {}", STANDARD.encode(user)));
    if wanted.is_some() && request.field("proxy-authorization") != wanted.as_deref() {
        return Err("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"out\"");
    }
    Ok(request.target)
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// Up to the empty line. The client says nothing more before it is answered.
async fn read_head(stream: &TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.readable().await?;
        let mut bytes = [0; 4096];
        match stream.try_read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => head.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One direction of a tunnel, to its end, which is passed on.
async fn pass(from: OwnedReadHalf, to: OwnedWriteHalf, state: &State) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut bytes = [0; 4096];
        let count = match from.try_read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let bytes = bytes.get(..count).unwrap_or_default();
        state.heard.lock().extend_from_slice(bytes);
        write(to.as_ref(), bytes).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::answer;
    use super::*;

    async fn ask(proxy: &EgressProxy, head: &str) -> String {
        let mut stream = TcpStream::connect(proxy.server().address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn it_grants_a_connect_of_those_whom_it_admits_and_nothing_else() {
        let upstream = Server::start(None, async |_| Ok(answer::empty(http::StatusCode::OK)));
        let upstream = upstream.await.unwrap();
        let proxy = EgressProxy::start().await.unwrap();
        proxy.resolve("api.example:443", upstream.address());
        proxy.admit("Aladdin", "open sesame");
        let known = "proxy-authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        for (line, host, field, status) in [
            (
                "CONNECT api.example:443 HTTP/1.1",
                "api.example:443",
                known,
                "200",
            ),
            (
                "CONNECT api.example:443 HTTP/1.1",
                "api.example:443",
                "",
                "407",
            ),
            (
                "CONNECT other.example:443 HTTP/1.1",
                "other.example:443",
                known,
                "503",
            ),
            ("CONNECT 127.0.0.1:1 HTTP/1.1", "127.0.0.1:1", known, "502"),
            (
                "CONNECT api.example:443 HTTP/1.1",
                "api.example",
                known,
                "400",
            ),
            ("CONNECT api.example HTTP/1.1", "api.example", known, "400"),
            (
                "CONNECT api.example:443 HTTP/1.0",
                "api.example:443",
                known,
                "400",
            ),
            (
                "GET http://api.example:443/ HTTP/1.1",
                "api.example:443",
                known,
                "400",
            ),
            (
                "CONNECT api.example:443 HTTP/1.1",
                "api.example:443",
                "authorization: Bearer x",
                "400",
            ),
        ] {
            let field = if field.is_empty() {
                String::new()
            } else {
                format!("{field}\r\n")
            };
            let head = format!("{line}\r\nHost: {host}\r\n{field}\r\n");
            let answer = ask(&proxy, &head).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{head} {answer}"
            );
        }
        assert_eq!(proxy.mistakes().len(), 5);
    }
}
