//! Upstreams that speak HTTP/2, called by apps of either protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use pillion::fake::Fault;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::stage::frames::{self, Frames};
use crate::stage::{
    Body, Client, H2Server, Http2, Reply, Stage, chunked, content, full, request, request2, within,
};

/// An app of one protocol or the other.
enum App {
    Http1(Client),
    Http2(Http2),
}

impl App {
    async fn both(stage: &Stage) -> [Self; 2] {
        [
            Self::Http1(stage.client().await),
            Self::Http2(stage.http2().await),
        ]
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        match self {
            Self::Http1(_) => request(method, path),
            Self::Http2(_) => request2(method, path),
        }
    }

    async fn send(&mut self, request: Request<Body>) -> Reply {
        match self {
            Self::Http1(client) => client.send(request).await,
            Self::Http2(client) => client.send(request).await,
        }
    }

    async fn begin(&mut self, request: Request<Body>) -> Response<Incoming> {
        match self {
            Self::Http1(client) => client.begin(request).await.unwrap(),
            Self::Http2(client) => client.begin(request).await.unwrap(),
        }
    }

    async fn get(&mut self, path: &str) -> Reply {
        let request = self.request(Method::GET, path).body(full("")).unwrap();
        self.send(request).await
    }

    async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = self.request(Method::POST, path).body(full(body)).unwrap();
        self.send(request).await
    }
}

/// Prior knowledge of the stage's own upstream.
async fn prior_knowledge() -> Stage {
    prior_knowledge_with("").await
}

async fn prior_knowledge_with(lines: &str) -> Stage {
    Stage::set()
        .route(&format!("http_version = \"2\"\n{lines}"))
        .top("[listen]\nworkers = 1")
        .start()
        .await
}

#[tokio::test]
async fn http2_is_spoken_where_both_sides_agree_on_it() {
    for (lines, offered, spoken) in [
        ("", true, true),
        ("http_version = \"auto\"", false, false),
        ("http_version = \"1.1\"", true, false),
        ("http_version = \"2\"", true, true),
    ] {
        let setting = Stage::set().route(lines);
        let setting = if offered {
            setting.http2()
        } else {
            setting.tls()
        };
        let stage = setting.start().await;
        for app in &mut App::both(&stage).await {
            app.get("/api/a?b=c").await.expect_ok();
            let seen = stage.upstream.requests().pop().unwrap();
            let (host, authority) = (seen.field("host"), seen.field(":authority"));
            let expected = Some("api.example");
            if spoken {
                assert_eq!((host, authority), (None, expected), "{lines}");
            } else {
                assert_eq!((host, authority), (expected, None), "{lines}");
            }
            assert_eq!(seen.target, "/a?b=c");
            assert_eq!(seen.field("connection"), None);
            assert!(seen.field("authorization").unwrap().starts_with("Bearer "));
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_it_is_unreachable_in_http2() {
    let stage = Stage::set()
        .route("http_version = \"2\"")
        .tls()
        .start()
        .await;
    stage.get("/api/").await.expect_problem(502, "upstream-tls");
    let upstream = crate::stage::Raw::answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let stage = Stage::set()
        .route("http_version = \"2\"\ntimeouts = { connect = \"1s\" }")
        .upstream_at(upstream.url())
        .start()
        .await;
    let reply = stage.get("/api/").await;
    reply.expect_problem(502, "upstream-unreachable");
}

#[tokio::test]
async fn bodies_of_every_size_cross_from_each_protocol_to_the_other() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        for length in [0, 1, 1023, 16_384, 16_385, 65_535, 65_536, 1 << 20] {
            let body: Bytes = (0..length).map(|_| fastrand::u8(..)).collect();
            let reply = app.post("/api/echo", body.clone()).await.expect_ok();
            assert!(reply.body == body, "{length}");
            let seen = stage.upstream.requests().pop().unwrap();
            assert_eq!(seen.field("content-length"), Some(&*length.to_string()));
            let streamed = app.request(Method::POST, "/api/echo/stream");
            let pieces = chunked(&[body.clone(), body.clone()], None);
            let reply = app.send(streamed.body(pieces).unwrap()).await.expect_ok();
            assert_eq!(reply.body.len(), 2 * length);
        }
        let reply = app.get("/api/bytes/3000000").await.expect_ok();
        assert_eq!(reply.body.len(), 3_000_000);
        assert_eq!(reply.field("content-length"), Some("3000000"));
    }
    assert_eq!(stage.upstream.server().connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_cross_as_they_are() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        let head = app.request(Method::HEAD, "/api/bytes/5000");
        let reply = app.send(head.body(full("")).unwrap()).await.expect_ok();
        assert_eq!(reply.field("content-length"), Some("5000"));
        assert_eq!(reply.body.len(), 0);
        for status in [204, 304, 404, 500] {
            let reply = app.get(&format!("/api/status/{status}")).await;
            assert_eq!((reply.status, reply.body.len()), (status, 0));
        }
        let reply = app.get("/api/cookies").await.expect_ok();
        assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2);
        let reply = app.get("/api/redirect").await;
        assert_eq!(reply.status, 307);
    }
}

#[tokio::test]
async fn trailers_cross_in_both_directions() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        let asking = app.request(Method::GET, "/api/trailers");
        let asking = asking.header("te", "trailers").body(full("")).unwrap();
        let reply = app.send(asking).await.expect_ok();
        assert_eq!(reply.trailers["x-checksum"], "abc");
        let seen = stage.upstream.requests().pop().unwrap();
        assert_eq!(seen.field("te"), Some("trailers"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "abc".parse().unwrap());
        let sending = app
            .request(Method::POST, "/api/")
            .header("trailer", "x-sum");
        let body = chunked(&["a".into(), "b".into()], Some(trailers));
        let seen = app.send(sending.body(body).unwrap()).await.expect_ok();
        assert_eq!(seen.json()["trailers"].to_string(), r#"[["x-sum","abc"]]"#);
    }
}

#[tokio::test]
async fn a_401_is_renewed_and_the_body_sent_again() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        app.get("/api/").await.expect_ok();
        let fetches = stage.identity_provider.fetches();
        stage.identity_provider.revoke_all();
        let reply = app.post("/api/echo", "again").await.expect_ok();
        assert_eq!(reply.body, "again");
        assert_eq!(stage.identity_provider.fetches(), fetches + 1);
    }
    // One that has begun to stream, and is refused before its end.
    let body = vec![5; 50_000];
    stage.identity_provider.revoke_all();
    let reply = stage.post("/api/echo", body.clone()).await;
    assert!(reply.expect_ok().body == body);
}

#[tokio::test]
async fn an_event_is_seen_before_its_stream_ends() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        let request = app.request(Method::GET, "/api/stream/2?every=600000");
        let mut answer = app.begin(request.body(full("")).unwrap()).await;
        let first = within(answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(first.data_ref().unwrap().len(), 1024);
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        let (send, pieces) = tokio::sync::mpsc::unbounded_channel();
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece: Bytes = pieces.recv().await?;
            Some((Ok(http_body::Frame::data(piece)), pieces))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let request = app.request(Method::POST, "/api/echo/stream");
        send.send("one".into()).unwrap();
        let mut answer = app.begin(request.body(body).unwrap()).await;
        for piece in ["one", "two", "three"] {
            let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
            send.send(if piece == "one" { "two" } else { "three" }.into())
                .unwrap();
        }
        drop(send);
        within(answer.body_mut().collect()).await.unwrap();
    }
}

#[tokio::test]
async fn interim_answers_are_passed_to_an_app_that_may_see_them() {
    let upstream = H2Server::start(|_, mut respond| async move {
        let hints = Response::builder().status(103).header("link", "</a>");
        respond.send_informational(hints.body(()).unwrap()).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let stage = at(&upstream, "").await;
    let answer = stage
        .exchange("GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 103 "), "{answer}");
    assert!(
        answer.contains("link: </a>\r\n\r\nHTTP/1.1 200"),
        "{answer}"
    );
    stage.http2().await.get("/api/").await.expect_ok();
}

/// A stage whose upstream is this, spoken to in HTTP/2.
async fn at(upstream: &H2Server, lines: &str) -> Stage {
    Stage::set()
        .route(&format!("http_version = \"2\"\n{lines}"))
        .top("[listen]\nworkers = 1")
        .upstream_at(upstream.url())
        .start()
        .await
}

#[tokio::test]
async fn requests_share_a_connection_up_to_what_the_upstream_allows() {
    for (allowed, connections) in [(100, 1), (10, 4)] {
        let gate = Arc::new(Notify::new());
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut habits = Builder::new();
        habits.max_concurrent_streams(allowed);
        let upstream = {
            let (gate, waiting) = (Arc::clone(&gate), Arc::clone(&waiting));
            H2Server::start_with(habits, move |_, mut respond| {
                let (gate, waiting) = (Arc::clone(&gate), Arc::clone(&waiting));
                async move {
                    let opened = gate.notified();
                    waiting.fetch_add(1, Ordering::Relaxed);
                    opened.await;
                    respond.send_response(Response::new(()), true).unwrap();
                }
            })
            .await
        };
        let stage = at(&upstream, "").await;
        let app = stage.http2().await;
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move { app.get("/api/").await })
            })
            .collect();
        stage.until(|_| waiting.load(Ordering::Relaxed) == 40).await;
        assert_eq!(upstream.connections(), connections);
        gate.notify_waiters();
        for reply in join_all(calls).await {
            reply.unwrap().expect_ok();
        }
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_stop_the_others_on_its_connection() {
    let stage = prior_knowledge().await;
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut app = stage.client().await;
        let request = request(Method::GET, "/api/bytes/50000000");
        let answer = app.begin(request.body(full("")).unwrap()).await.unwrap();
        slow.push((app, answer));
    }
    let reply = stage.get("/api/bytes/1000000").await.expect_ok();
    assert_eq!(reply.body.len(), 1_000_000);
    assert_eq!(stage.upstream.server().connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_reads_slowly_does_not_stop_the_others_on_its_connection() {
    let upstream = H2Server::start(|request, mut respond| async move {
        let (head, mut body) = request.into_parts();
        if head.uri.path() == "/held" {
            std::future::pending::<()>().await;
        }
        let length = content(&mut body).await.unwrap().len();
        let answer = Response::builder().header("x-length", length);
        respond
            .send_response(answer.body(()).unwrap(), true)
            .unwrap();
    })
    .await;
    let stage = at(&upstream, "").await;
    let app = stage.http2().await;
    let held = app.clone();
    let held = tokio::spawn(async move { held.post("/api/held", vec![0; 60_000]).await });
    // As much as a connection's window holds by default is not all of it.
    let reply = app.post("/api/", vec![0; 5000]).await.expect_ok();
    assert_eq!(reply.field("x-length"), Some("5000"));
    held.abort();
}

#[tokio::test]
async fn a_request_that_was_refused_or_never_seen_is_sent_on_another_connection() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let upstream = H2Server::start(move |request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            let mut body = request.into_body();
            let whole = content(&mut body).await;
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            assert_eq!(whole.unwrap(), "paid");
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    let stage = at(&upstream, "").await;
    stage.post("/api/", "paid").await.expect_ok();
    assert_eq!(refused.load(Ordering::Relaxed), 2);
    // One that leaves, and says that it has seen none of it.
    let left = Arc::new(AtomicUsize::new(0));
    let leaving = Arc::clone(&left);
    let upstream = H2Server::talking(move |tcp| leave_first(tcp, Arc::clone(&leaving))).await;
    let stage = at(&upstream, "").await;
    stage.post("/api/", "paid").await.expect_ok();
    assert_eq!(
        (left.load(Ordering::Relaxed), upstream.connections()),
        (2, 2)
    );
}

/// The first connection says goodbye to its first request, and stays open.
async fn leave_first(tcp: TcpStream, connections: Arc<AtomicUsize>) {
    let (mut frames, mut seen) = Frames::accept(tcp).await;
    let is_first = connections.fetch_add(1, Ordering::Relaxed) == 0;
    let head = seen.next_of(frames::HEADERS).await.unwrap();
    if is_first {
        frames.send(frames::GOAWAY, 0, 0, &[0; 8]).await.unwrap();
    } else {
        let flags = frames::END_HEADERS | frames::END_STREAM;
        frames
            .send(frames::HEADERS, flags, head.stream, &[0x88])
            .await
            .unwrap();
    }
    while seen.next().await.is_some() {}
}

#[tokio::test]
async fn a_post_that_may_have_been_seen_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = H2Server::start(move |_, mut respond| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { respond.send_reset(Reason::INTERNAL_ERROR) }
    })
    .await;
    let stage = at(&upstream, "").await;
    let reply = stage.post("/api/", "paid").await;
    reply.expect_problem(502, "upstream-unreachable");
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_not_noticed() {
    let stage = prior_knowledge().await;
    for app in &mut App::both(&stage).await {
        app.get("/api/").await.expect_ok();
        stage.upstream.server().close_connections().await.unwrap();
        app.get("/api/").await.expect_ok();
    }
}

#[tokio::test]
async fn a_get_that_the_upstream_resets_is_not_asked_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = H2Server::start(move |_, mut respond| {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                respond.send_response(Response::new(()), true).unwrap();
            } else {
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    })
    .await;
    let stage = at(&upstream, "").await;
    stage.get("/api/").await.expect_ok();
    stage
        .get("/api/")
        .await
        .expect_problem(502, "upstream-unreachable");
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let stage = Stage::set()
        .route("http_version = \"2\"")
        .top("[listen]\nworkers = 1\n[limits]\nidle_timeout = \"200ms\"")
        .start()
        .await;
    for connections in 1..3 {
        stage.get("/api/").await.expect_ok();
        stage
            .until(|stage| stage.upstream.server().open_connections() == 0)
            .await;
        assert_eq!(stage.upstream.server().connections(), connections);
    }
}

#[tokio::test]
async fn what_its_app_gives_up_is_reset_at_the_upstream() {
    let reset = Arc::new(Notify::new());
    let (seen, begun) = (Arc::clone(&reset), Arc::new(Notify::new()));
    let told = Arc::clone(&begun);
    let upstream = H2Server::start(move |_, mut respond| {
        let (seen, told) = (Arc::clone(&seen), Arc::clone(&told));
        async move {
            told.notify_one();
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            seen.notify_one();
        }
    })
    .await;
    let stage = at(&upstream, "").await;
    let mut one = stage.client().await;
    let other = stage.http2().await;
    let calls = [
        tokio::spawn(async move { one.get("/api/").await }),
        tokio::spawn(async move { other.get("/api/").await }),
    ];
    for call in calls {
        within(begun.notified()).await;
        call.abort();
        within(reset.notified()).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_seems_whole() {
    let ends = Arc::new(AtomicUsize::new(0));
    let (count, over) = (Arc::clone(&ends), Arc::new(Notify::new()));
    let told = Arc::clone(&over);
    let upstream = H2Server::start(move |request, _respond| {
        let (count, told) = (Arc::clone(&count), Arc::clone(&told));
        async move {
            if content(&mut request.into_body()).await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            told.notify_one();
        }
    })
    .await;
    let stage = at(&upstream, "").await;
    let post = frames::head(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/api/"),
    ]);
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let (mut frames, _seen) = Frames::connect(stage.address()).await;
        let flags = frames::END_HEADERS;
        frames.send(frames::HEADERS, flags, 1, &post).await.unwrap();
        frames.send(frames::DATA, 0, 1, b"half").await.unwrap();
        let code = u32::from(reason).to_be_bytes();
        frames.send(frames::RST_STREAM, 0, 1, &code).await.unwrap();
        // Or it was given up before the upstream saw anything.
        tokio::time::timeout(Duration::from_secs(1), over.notified())
            .await
            .ok();
    }
    let mut wire = stage.wire().await;
    wire.write(
        "POST /api/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    )
    .await;
    drop(wire);
    within(over.notified()).await;
    assert_eq!(ends.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_seems_whole() {
    let upstream = H2Server::start(|_, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data("half".into(), false).unwrap();
        tokio::task::yield_now().await;
        body.send_reset(Reason::NO_ERROR);
    })
    .await;
    let stage = at(&upstream, "").await;
    let mut app = stage.client().await;
    let request1 = request(Method::GET, "/api/").body(full("")).unwrap();
    assert!(app.try_send(request1).await.is_err());
    let app = stage.http2().await;
    let request2 = request2(Method::GET, "/api/").body(full("")).unwrap();
    assert!(app.try_send(request2).await.is_err());
}

#[tokio::test]
async fn an_upstream_that_is_late_is_a_timeout() {
    let stage = prior_knowledge_with("timeouts = { response = \"200ms\" }").await;
    stage.upstream.faults().once(Fault::Hang);
    let reply = stage.get("/api/").await;
    reply.expect_problem(504, "upstream-timeout");
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.upstream.server().connections(), 1);
}
