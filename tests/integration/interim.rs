//! Interim answers (1xx) on their way to apps that speak HTTP/2, as they go to those that speak HTTP/1.1.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Response;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::stage::{H2Server, Raw, Stage, request2, within};

/// An app that speaks HTTP/2 and listens to interim answers.
struct App {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl App {
    async fn connect(stage: &Stage) -> Self {
        let stream = TcpStream::connect(stage.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            connection.await.unwrap();
        });
        Self { sender, connection }
    }

    fn begin(&self, path: &str) -> ResponseFuture {
        let request = request2(http::Method::GET, path).body(()).unwrap();
        self.sender.clone().send_request(request, true).unwrap().0
    }

    /// Everything that is said to a request: the heads in their order, and the content.
    async fn told(&self, path: &str) -> (Vec<u16>, Vec<Response<()>>, Bytes) {
        let mut answer = self.begin(path);
        let mut interim = Vec::new();
        while let Some(head) = next(&mut answer).await {
            interim.push(head);
        }
        let (head, mut content) = within(answer).await.unwrap().into_parts();
        let mut statuses: Vec<_> = interim.iter().map(|it| it.status().as_u16()).collect();
        statuses.push(head.status.as_u16());
        let mut whole = Vec::new();
        while let Some(piece) = within(content.data()).await {
            let piece = piece.unwrap();
            let flow = content.flow_control();
            flow.release_capacity(piece.len()).unwrap();
            whole.extend_from_slice(&piece);
        }
        (statuses, interim, whole.into())
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The next interim answer; none once the final one is there.
async fn next(answer: &mut ResponseFuture) -> Option<Response<()>> {
    let next = poll_fn(|cx| answer.poll_informational(cx));
    within(next).await.map(|interim| interim.unwrap())
}

fn fields(head: &Response<()>) -> Vec<(&str, &str)> {
    let fields = head.headers().iter();
    fields
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

fn interim(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut interim = Response::builder().status(status);
    for (name, value) in fields {
        interim = interim.header(*name, *value);
    }
    interim.body(()).unwrap()
}

const LINKS: [(&str, &str); 2] = [("link", "</a.css>"), ("link", "</b.css>")];

async fn expect_hint_then_answer(stage: &Stage, go_on: &Notify) {
    let app = App::connect(stage).await;
    for _ in 0..2 {
        let mut answer = app.begin("/api/");
        let hint = next(&mut answer).await.unwrap();
        assert_eq!((hint.status().as_u16(), fields(&hint)), (103, LINKS.into()));
        let early = poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll(cx))).await;
        assert!(early.is_pending());
        go_on.notify_one();
        let second = next(&mut answer).await.unwrap();
        assert_eq!((second.status().as_u16(), fields(&second)), (102, vec![]));
        assert!(next(&mut answer).await.is_none());
        let mut answer = within(answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        let content = within(answer.body_mut().data()).await.unwrap();
        assert_eq!(content.unwrap(), "ok");
    }
}

#[tokio::test]
async fn early_hints_of_an_upstream_of_http1_come_before_the_answer() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Raw::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            while peer.read_head().await.is_some() {
                // What belongs to the connection, and what only a final answer has, stays behind.
                peer.write(
                    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\n\
                     connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nte: trailers\r\n\
                     upgrade: h2c\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n",
                )
                .await;
                told.notified().await;
                peer.write(
                    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                )
                .await;
            }
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    expect_hint_then_answer(&stage, &go_on).await;
}

#[tokio::test]
async fn early_hints_of_an_upstream_of_http2_come_before_the_answer() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = H2Server::start(move |_, mut respond| {
        let told = Arc::clone(&told);
        async move {
            respond.send_informational(interim(103, &LINKS)).unwrap();
            told.notified().await;
            respond.send_informational(interim(102, &[])).unwrap();
            let mut content = respond.send_response(Response::new(()), false).unwrap();
            content.send_data("ok".into(), true).unwrap();
        }
    })
    .await;
    let stage = http2_upstream(&upstream).await;
    expect_hint_then_answer(&stage, &go_on).await;
}

/// It is between neighbours, and pillion's app has not asked for it.
#[tokio::test]
async fn a_100_that_nobody_waits_for_is_not_passed_on() {
    let upstream = Raw::answering(
        "HTTP/1.1 100 Continue\r\nx-a: 1\r\n\r\nHTTP/1.1 103 X\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let (statuses, _, content) = App::connect(&stage).await.told("/api/").await;
    assert_eq!((statuses, content), (vec![103, 200], "ok".into()));

    let upstream = H2Server::start(|_, mut respond| async move {
        for status in [100, 103, 100] {
            let interim = interim(status, &[("x-a", "1")]);
            respond.send_informational(interim).unwrap();
        }
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let stage = http2_upstream(&upstream).await;
    let (statuses, _, _) = App::connect(&stage).await.told("/api/").await;
    assert_eq!(statuses, [103, 200]);
}

/// HTTP/2 has none, and an app of HTTP/1.1 would take what follows for another protocol.
#[tokio::test]
async fn a_101_of_an_upstream_of_http2_is_a_502() {
    let upstream = H2Server::start(|_, mut respond| async move {
        let switched = interim(101, &[("upgrade", "websocket")]);
        // The field itself could not be sent.
        respond.send_informational(switched).unwrap_err();
        respond.send_informational(interim(101, &[])).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let stage = http2_upstream(&upstream).await;
    stage.get("/api/").await.expect_status(502);
    let (statuses, _, _) = App::connect(&stage).await.told("/api/").await;
    assert_eq!(statuses, [502]);
}

/// They have been passed on before anybody knows how the first attempt ends.
#[tokio::test]
async fn a_request_that_is_sent_again_passes_on_the_hints_of_both_attempts() {
    let upstream = Raw::start(|mut peer| async move {
        while peer.read_head().await.is_some() {
            let attempt = peer.heads() % 2;
            let status = if attempt == 1 { 401 } else { 200 };
            let answer = format!(
                "HTTP/1.1 103 Early Hints\r\nlink: </{attempt}>\r\n\r\n\
                 HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"
            );
            peer.write(answer).await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let (statuses, interim, _) = App::connect(&stage).await.told("/api/").await;
    assert_eq!(statuses, [103, 103, 200]);
    assert_eq!(fields(&interim[0]), [("link", "</1>")]);
    assert_eq!(fields(&interim[1]), [("link", "</0>")]);
    // A new stage, because that token may not be renewed at once.
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let answer = stage
        .exchange("GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let told: Vec<_> = answer
        .lines()
        .filter(|line| line.starts_with("HTTP/1.1") || line.starts_with("link"))
        .collect();
    assert_eq!(
        told,
        [
            "HTTP/1.1 103 Early Hints",
            "link: </1>",
            "HTTP/1.1 103 Early Hints",
            "link: </0>",
            "HTTP/1.1 200 OK"
        ]
    );
}

#[tokio::test]
async fn hints_without_an_end_are_passed_on_up_to_a_bound_and_then_the_answer() {
    let upstream = Raw::start(|mut peer| async move {
        while peer.read_head().await.is_some() {
            let hint = format!("HTTP/1.1 103 X\r\nx-hint: {}\r\n\r\n", "x".repeat(1000));
            for _ in 0..100 {
                peer.write(hint.repeat(10)).await;
            }
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let app = App::connect(&stage).await;
    for _ in 0..2 {
        let (statuses, _, content) = app.told("/api/").await;
        assert_eq!(statuses.last(), Some(&200));
        assert_eq!(content, "ok");
        assert_eq!(statuses.len() - 1, 64 * 1024 / 1080);
    }
}

#[tokio::test]
async fn every_stream_is_told_its_own_hints_and_one_that_is_reset_harms_no_other() {
    let upstream = H2Server::start(|request, mut respond| async move {
        let path = request.uri().path().to_owned();
        loop {
            let interim = interim(103, &[("link", &format!("<{path}>"))]);
            if respond.send_informational(interim).is_err() || path != "/endless" {
                break;
            }
            let reset = poll_fn(|cx| Poll::Ready(respond.poll_reset(cx))).await;
            if reset.is_ready() {
                return;
            }
            tokio::task::yield_now().await;
        }
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let stage = http2_upstream(&upstream).await;
    let app = App::connect(&stage).await;
    let paths: Vec<_> = (0..20).map(|number| format!("/api/{number}")).collect();
    let calls = futures_util::future::join_all(paths.iter().map(|path| async {
        // Given up while more is on its way.
        let mut endless = app.begin("/api/endless");
        next(&mut endless).await.unwrap();
        drop(endless);
        let (statuses, interim, _) = app.told(path).await;
        assert_eq!(statuses, [103, 200]);
        let link = path.replacen("/api", "<", 1) + ">";
        assert_eq!(fields(&interim[0]), [("link", link.as_str())]);
    }));
    calls.await;
    stage.expect_metric("pillion_requests_in_flight", 0.0).await;
    assert_eq!(app.told("/api/x").await.0, [103, 200]);
}

/// A stage whose upstream is this, spoken to in HTTP/2.
async fn http2_upstream(upstream: &H2Server) -> Stage {
    Stage::set()
        .route("http_version = \"2\"")
        .upstream_at(upstream.url())
        .start()
        .await
}
