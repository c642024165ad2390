//! What is read of answers, and what is written of requests.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::StreamBody;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// `tests/corpus/answers.toml`, which says what the fields mean.
#[derive(Deserialize)]
struct Corpus {
    answer: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    bytes: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    closes: bool,
    #[serde(default)]
    interim: Vec<u16>,
    status: Option<u16>,
    body: Option<String>,
    #[serde(default)]
    trailers: Vec<String>,
    again: Option<bool>,
    broken: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    interim: Vec<u16>,
    status: Option<u16>,
    body: Vec<u8>,
    trailers: Vec<String>,
    again: bool,
    /// In its head or in its body.
    broken: Option<&'static str>,
}

fn corpus() -> Vec<Case> {
    let text = include_str!("../../../tests/corpus/answers.toml");
    toml::from_str::<Corpus>(text).unwrap().answer
}

/// Reads an answer that comes in these pieces, as a connection does.
fn read(case: &Case, mut pieces: VecDeque<Bytes>) -> Read {
    let mut answers = Answers::new();
    let mut read = Read::default();
    let keeps_open = loop {
        match answers.next_head(case.to == "HEAD", &RefCell::default()) {
            Ok(Some(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                read.broken = Some("head");
                return read;
            }
            Ok(Some(head)) if head.status.is_informational() => {
                read.interim.push(head.status.as_u16());
            }
            Ok(Some(head)) => {
                read.status = Some(head.status.as_u16());
                break head.keeps_open;
            }
            Ok(None) => match pieces.pop_front() {
                Some(piece) => answers.push(piece),
                None => {
                    assert!(case.closes, "{}: it waits for more", case.name);
                    read.broken = Some("head");
                    return read;
                }
            },
            Err(_) => {
                read.broken = Some("head");
                return read;
            }
        }
    };
    loop {
        match answers.next_frame() {
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => read.body.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    let trailers = trailers
                        .iter()
                        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
                    read.trailers.extend(trailers);
                }
            },
            Ok(None) if answers.is_over() => break,
            Ok(None) => match pieces.pop_front() {
                Some(piece) => answers.push(piece),
                None => {
                    assert!(case.closes, "{}: it waits for more", case.name);
                    if answers.end().is_err() {
                        read.broken = Some("body");
                        return read;
                    }
                }
            },
            Err(_) => {
                read.broken = Some("body");
                return read;
            }
        }
    }
    read.again = keeps_open && answers.surplus().is_empty() && pieces.is_empty();
    read
}

fn whole(case: &Case) -> Read {
    let bytes = Bytes::from(case.bytes.clone().into_bytes());
    read(case, VecDeque::from([bytes]))
}

#[test]
fn a_body_is_taken_whole_if_it_is_all_that_has_come() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    for (body, whole) in [
        ("hello", Some("hello")),
        ("hell", None),
        ("hello, and what nobody asked for", None),
        ("", None),
    ] {
        let mut answers = Answers::new();
        answers.push(Bytes::from(format!("{HEAD}{body}")));
        answers
            .next_head(false, &RefCell::default())
            .unwrap()
            .unwrap();
        assert_eq!(answers.take_whole().as_deref(), whole.map(str::as_bytes));
        assert_eq!(answers.is_over(), whole.is_some(), "{body:?}");
        assert_eq!(
            answers.surplus().is_empty(),
            whole.is_some() || body.is_empty()
        );
    }
}

#[test]
fn every_answer_is_read_as_the_corpus_says_or_refused() {
    let corpus = corpus();
    assert!(corpus.len() > 60);
    for case in corpus {
        let name = &case.name;
        let read = whole(&case);
        assert_eq!(read.broken, case.broken.as_deref(), "{name}");
        if case.broken.is_none() {
            assert_eq!(read.interim, case.interim, "{name}");
            assert_eq!(read.status, case.status, "{name}");
            let body = String::from_utf8(read.body).unwrap();
            assert_eq!(Some(body), case.body, "{name}");
            assert_eq!(read.trailers, case.trailers, "{name}");
            assert_eq!(Some(read.again), case.again, "{name}");
        }
    }
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_the_same() {
    for case in corpus() {
        let bytes = case.bytes.bytes();
        let pieces = bytes.map(|byte| Bytes::from(vec![byte])).collect();
        assert_eq!(read(&case, pieces), whole(&case), "{}", case.name);
    }
}

proptest! {
    #[test]
    fn an_answer_is_the_same_wherever_it_comes_apart(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let corpus = corpus();
        let case = index.get(&corpus);
        let mut rest = Bytes::from(case.bytes.clone().into_bytes());
        let mut pieces = VecDeque::new();
        for cut in cuts {
            let piece = rest.split_to(cut.index(rest.len() + 1));
            if !piece.is_empty() {
                pieces.push_back(piece);
            }
        }
        if !rest.is_empty() {
            pieces.push_back(rest);
        }
        prop_assert_eq!(read(case, pieces), whole(case));
    }

    #[test]
    fn a_request_in_chunks_says_what_it_was_given(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..8),
        trailer in any::<bool>(),
        accepts in 1_usize..5000,
    ) {
        let mut frames: Vec<_> = pieces.iter().map(|piece| Frame::data(Bytes::from(piece.clone()))).collect();
        if trailer {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            frames.push(Frame::trailers(trailers));
        }
        let written = written(frames, accepts);
        let (head, body) = split(&written);
        prop_assert!(head.ends_with("\r\ntransfer-encoding: chunked"), "{}", head);
        // A body that is framed alike goes both ways, so what reads the one reads the other.
        let answer = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", body].concat();
        let case = Case { closes: true, ..corpus().swap_remove(0) };
        let read = read(&case, VecDeque::from([Bytes::from(answer)]));
        prop_assert_eq!(read.broken, None);
        prop_assert_eq!(read.body, pieces.concat());
        prop_assert_eq!(read.trailers.len(), usize::from(trailer));
        prop_assert!(read.again);
    }
}

fn split(written: &[u8]) -> (&str, &[u8]) {
    let end = written.windows(4).position(|end| end == b"\r\n\r\n");
    let (head, body) = written.split_at(end.unwrap());
    (std::str::from_utf8(head).unwrap(), &body[4..])
}

static HOST: HeaderValue = HeaderValue::from_static("a");

fn head<'a>(method: &'a Method, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead {
        method,
        target: "/a?b",
        host: &HOST,
        headers,
        more: &[],
    }
}

/// What is written of a POST with such a body to a transport that takes so many bytes at once.
fn written(frames: Vec<Frame<Bytes>>, accepts: usize) -> Vec<u8> {
    let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    write(&Method::POST, body, accepts).unwrap()
}

fn write<B>(method: &Method, body: B, accepts: usize) -> Result<Vec<u8>, NotWritten>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut headers = HeaderMap::new();
    // The app's, which is not written.
    headers.insert("host", HeaderValue::from_static("app"));
    let mut outgoing = Outgoing::new(&head(method, &headers), body, Vec::new());
    let mut transport = Narrow {
        accepts,
        taken: Vec::new(),
    };
    let mut is_written = false;
    let mut cx = Context::from_waker(Waker::noop());
    match outgoing.poll(&mut cx, &mut transport, &mut is_written) {
        Poll::Ready(written) => written.map(|()| transport.taken),
        Poll::Pending => panic!("nothing is waited for"),
    }
}

/// Takes little at once.
struct Narrow {
    accepts: usize,
    taken: Vec<u8>,
}

impl tokio::io::AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.accepts);
        self.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_request_says_how_long_it_is() {
    use http_body_util::{Empty, Full};
    let full = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
    for (method, written) in [
        (Method::GET, write(&Method::GET, Empty::<Bytes>::new(), 99)),
        (Method::DELETE, write(&Method::DELETE, full(""), 99)),
    ] {
        let expected = format!("{method} /a?b HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(written.unwrap(), expected.as_bytes());
    }
    let written = write(&Method::PUT, full(""), 99).unwrap();
    assert_eq!(
        written,
        b"PUT /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    );
    for accepts in [1, 7, 99] {
        let written = write(&Method::POST, full("hello"), accepts).unwrap();
        assert_eq!(
            written,
            b"POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"
        );
    }
}

#[test]
fn a_body_that_is_shorter_than_it_says_is_not_passed_on_as_whole() {
    struct Short(bool);
    impl Body for Short {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let is_first = !std::mem::replace(&mut self.0, true);
            let piece = Frame::data(Bytes::from_static(b"hell"));
            Poll::Ready(is_first.then_some(Ok(piece)))
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(5)
        }
    }
    let written = write(&Method::POST, Short(false), 99);
    assert!(matches!(written, Err(NotWritten::Body)));
}

/// A connection, and the other end of it.
async fn line() -> (Line<http_body_util::Empty<Bytes>>, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let near = tokio::net::TcpStream::connect(address).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (Line::new(Transport::Tcp(near), Rc::default()), far)
}

#[tokio::test]
async fn a_connection_that_switches_protocols_is_handed_over_with_what_came_behind_the_head() {
    use tokio::io::AsyncWriteExt as _;
    let (mut line, mut far) = line().await;
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static("x"));
    line.begin(&head(&Method::GET, &headers), http_body_util::Empty::new());
    far.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nearly")
        .await
        .unwrap();
    let (status, _) = poll_fn(|cx| line.poll_head(cx, |_, _| {})).await.unwrap();
    assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
    assert!(!line.is_reusable());
    let (mut transport, early) = line.into_tunnel().unwrap();
    assert_eq!(early, "early");
    transport.write_all(b"on").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\non") {
        far.read_buf(&mut seen).await.unwrap();
    }
    far.write_all(b"and back").await.unwrap();
    let mut back = [0; 8];
    transport.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"and back");
}

#[tokio::test]
async fn an_answer_that_switches_nothing_is_no_tunnel() {
    use tokio::io::AsyncWriteExt as _;
    let (mut line, mut far) = line().await;
    let headers = HeaderMap::new();
    line.begin(&head(&Method::GET, &headers), http_body_util::Empty::new());
    far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    poll_fn(|cx| line.poll_head(cx, |_, _| {})).await.unwrap();
    assert!(line.into_tunnel().is_none());
}

#[tokio::test]
async fn a_body_of_any_size_comes_whole() {
    use tokio::io::AsyncWriteExt as _;
    for length in [0, 1, LARGE_BYTES - 1, LARGE_BYTES, BODY_ROOM_BYTES * 3 + 5] {
        let (mut line, mut far) = line().await;
        line.begin(
            &head(&Method::GET, &HeaderMap::new()),
            http_body_util::Empty::new(),
        );
        let content: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let answer = [head.as_bytes(), &content].concat();
        let say = async { far.write_all(&answer).await.unwrap() };
        let read = async {
            poll_fn(|cx| line.poll_head(cx, |_, _| {})).await.unwrap();
            let mut body = Vec::new();
            while let Some(frame) = poll_fn(|cx| line.poll_frame(cx)).await {
                body.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
            body
        };
        let ((), body) = tokio::join!(say, read);
        assert!(body == content, "{length}");
        assert!(line.is_reusable() && line.is_quiet());
    }
}
