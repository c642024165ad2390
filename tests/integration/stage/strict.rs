//! An upstream that reads requests by itself, in one spelling and without mercy.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answers every request with its target, and remembers what is wrong with what it reads.
pub(crate) struct StrictUpstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Result<Arrived, String>>>>,
    accepting: JoinHandle<()>,
}

/// A whole request.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) target: String,
    pub(crate) body: String,
}

impl StrictUpstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let all = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&all);
                tokio::spawn(async move { serve(stream, address, &seen).await });
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// What has come since it was last asked.
    pub(crate) fn take(&self) -> Result<Vec<Arrived>, String> {
        self.seen.lock().unwrap().drain(..).collect()
    }
}

impl Drop for StrictUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    seen: &Mutex<Vec<Result<Arrived, String>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let (arrived, length) = match read_request(&bytes, address) {
            Ok(Some(whole)) => whole,
            Ok(None) => match stream.read_buf(&mut bytes).await {
                Ok(1..) => continue,
                _ => return,
            },
            Err(error) => {
                let text = String::from_utf8_lossy(&bytes);
                seen.lock().unwrap().push(Err(format!("{error}: {text:?}")));
                return;
            }
        };
        bytes.drain(..length);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
            arrived.target.len(),
            arrived.target
        );
        seen.lock().unwrap().push(Ok(arrived));
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The request that `bytes` begin with, if it is whole, and its length.
fn read_request(bytes: &[u8], address: SocketAddr) -> Result<Option<(Arrived, usize)>, String> {
    let Some(head_length) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head: String = bytes[..head_length]
        .iter()
        .map(|it| char::from(*it))
        .collect();
    let mut lines = head.split("\r\n");
    let request_line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = request_line[..] else {
        return Err("the request line".to_owned());
    };
    let is_visible = |text: &str| text.bytes().all(|it| it.is_ascii_graphic());
    if !is_token(method) || !target.starts_with('/') || !is_visible(target) {
        return Err("the request line".to_owned());
    }
    let mut once = BTreeSet::new();
    let (mut length, mut is_chunked) = (0, false);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a field line")?;
        let has_control = value.chars().any(|it| it.is_ascii_control() && it != '\t');
        if !is_token(name) || has_control || value.trim_matches([' ', '\t']) != value {
            return Err(format!("the field {name:?}"));
        }
        let name = name.to_ascii_lowercase();
        match &*name {
            "host" if value != address.to_string() => return Err("the host".to_owned()),
            "authorization" if !value.starts_with("Bearer ") || value.contains("evil") => {
                return Err("the token".to_owned());
            }
            "content-length" => length = value.parse().map_err(|_| "the length")?,
            "transfer-encoding" if value != "chunked" => return Err("the coding".to_owned()),
            "transfer-encoding" => is_chunked = true,
            // What the app says about trailers is as true of us.
            "te" if value == "trailers" => {}
            "connection" if value == "te" => {}
            "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "upgrade"
            | "http2-settings"
            | "proxy-authorization" => {
                return Err(format!("{name}, which belongs to one connection"));
            }
            _ => {}
        }
        let is_single = [
            "host",
            "authorization",
            "content-length",
            "transfer-encoding",
        ];
        if is_single.contains(&&*name) && !once.insert(name.clone()) {
            return Err(format!("{name} twice"));
        }
    }
    if !once.contains("host") || !once.contains("authorization") {
        return Err("no host, or no token".to_owned());
    }
    if is_chunked && once.contains("content-length") {
        return Err("a length and chunks".to_owned());
    }
    let rest = &bytes[head_length + 4..];
    let (body, body_length) = if is_chunked {
        match read_chunks(rest)? {
            Some(read) => read,
            None => return Ok(None),
        }
    } else {
        match rest.get(..length) {
            Some(body) => (body.to_vec(), length),
            None => return Ok(None),
        }
    };
    let arrived = Arrived {
        target: target.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    Ok(Some((arrived, head_length + 4 + body_length)))
}

/// The content of a chunked body, if it is whole, and the length of all of it.
fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut content, mut at) = (Vec::new(), 0);
    let line = |at: usize| {
        let length = bytes[at..].windows(2).position(|it| it == b"\r\n")?;
        let line: String = bytes[at..at + length]
            .iter()
            .map(|it| char::from(*it))
            .collect();
        Some((line, at + length + 2))
    };
    loop {
        let Some((size, next)) = line(at) else {
            return Ok(None);
        };
        let is_size = size.bytes().all(|it| it.is_ascii_hexdigit());
        let size = usize::from_str_radix(&size, 16).ok().filter(|_| is_size);
        let size = size.ok_or("a chunk size")?;
        at = next;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        content.extend(chunk.strip_suffix(b"\r\n").ok_or("the end of a chunk")?);
        at += size + 2;
    }
    loop {
        let Some((trailer, next)) = line(at) else {
            return Ok(None);
        };
        at = next;
        let trailer = trailer.to_ascii_lowercase();
        if trailer
            .chars()
            .any(|it| it.is_ascii_control() && it != '\t')
        {
            return Err(format!("the trailer {trailer:?}"));
        }
        if trailer.is_empty() {
            return Ok(Some((content, at)));
        }
        let name = trailer.split(": ").next().unwrap_or_default();
        let frames = [
            "authorization",
            "host",
            "content-length",
            "transfer-encoding",
        ];
        if !is_token(name) || frames.contains(&name) {
            return Err(format!("the trailer {name:?}"));
        }
    }
}

fn is_token(text: &str) -> bool {
    let is_mark = |it: u8| b"!#$%&'*+-.^_`|~".contains(&it);
    !text.is_empty()
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || is_mark(it))
}

#[test]
fn the_reader_has_no_mercy() {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let read = |text: &str| read_request(text.as_bytes(), address);
    let head = "POST /x HTTP/1.1\r\nhost: 127.0.0.1:80\r\nauthorization: Bearer a\r\n";
    let good = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET");
    let (arrived, length) = read(&good).unwrap().unwrap();
    assert_eq!((&*arrived.target, &*arrived.body), ("/x", "hello"));
    assert_eq!(&good[length..], "GET");
    assert!(read(&good[..length - 1]).unwrap().is_none());
    for bad in [
        good.replace("POST ", "POST  "),
        good.replace("HTTP/1.1", "HTTP/1.0"),
        good.replace("host: 127.0.0.1:80", "host: evil"),
        good.replace("Bearer a", "Bearer evil"),
        good.replace("Bearer a", "Bearer a\r\nauthorization: Bearer a"),
        good.replace("Bearer a", "Bearer a\r\ncontent-length: 5"),
        good.replace("Bearer a", "Bearer a\r\nte: gzip"),
        good.replace("Bearer a", "Bearer a\u{1}"),
        good.replace("5\r\nh", "+5\r\nh"),
        good.replace("5\r\nh", "5;x\r\nh"),
        good.replace("hello", "hello!"),
        good.replace("0\r\n\r\n", "0\r\nhost: evil\r\n\r\n"),
    ] {
        assert!(read(&bad).is_err(), "{bad:?}");
    }
}
