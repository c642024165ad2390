//! gRPC through pillion: messages in frames by hand, so that nothing but pillion is between the two sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use pillion::fake::Fault;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::stage::{Body, H2Server, Http2, Stage, full, request2, within};

/// A call as its app sees it.
struct Call {
    messages: UnboundedSender<Bytes>,
    answer: Response<Incoming>,
    read: BytesMut,
}

/// How a call ended.
#[derive(Debug)]
struct End {
    messages: Vec<String>,
    fields: HeaderMap,
}

/// A message in its frame: not compressed, its length, itself.
fn framed(text: &str) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(text.len()).unwrap());
    frame.put_slice(text.as_bytes());
    frame.freeze()
}

fn unframed(read: &mut BytesMut) -> Option<String> {
    let length = read.get(1..5).map(|mut it| it.get_u32() as usize)?;
    if read.len() < 5 + length {
        return None;
    }
    let frame = read.split_to(5 + length);
    Some(String::from_utf8(frame[5..].to_vec()).unwrap())
}

/// The head of a call.
fn call(method: &str, more: &[(&str, &str)]) -> http::request::Builder {
    let mut request = request2(http::Method::POST, &format!("/api/test.Test/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request
}

impl Call {
    async fn begin(app: &Http2, head: http::request::Builder, first: &str) -> Self {
        let (messages, sent) = unbounded_channel();
        messages.send(framed(first)).unwrap();
        let frames = futures_util::stream::unfold(sent, |mut sent| async move {
            sent.recv()
                .await
                .map(|piece| (Ok(Frame::data(piece)), sent))
        });
        let body: Body = StreamBody::new(frames).boxed_unsync();
        let answer = app.begin(head.body(body).unwrap()).await.unwrap();
        Self {
            messages,
            answer,
            read: BytesMut::new(),
        }
    }

    fn say(&self, text: &str) {
        self.messages.send(framed(text)).unwrap();
    }

    /// The next message, while the call goes on.
    async fn next(&mut self) -> String {
        loop {
            if let Some(message) = unframed(&mut self.read) {
                return message;
            }
            let frame = within(self.answer.body_mut().frame()).await;
            let piece = frame.unwrap().unwrap().into_data().unwrap();
            self.read.extend_from_slice(&piece);
        }
    }

    /// Nothing more to say: what is left of the answer.
    async fn end(mut self) -> End {
        drop(self.messages);
        let head = self.answer.headers().clone();
        let body = within(self.answer.body_mut().collect()).await.unwrap();
        let trailers = body.trailers().cloned();
        self.read.extend_from_slice(&body.to_bytes());
        let messages = std::iter::from_fn(|| unframed(&mut self.read));
        End {
            messages: messages.collect(),
            fields: trailers.unwrap_or(head),
        }
    }
}

/// One message there, and whatever comes back.
async fn unary(app: &Http2, head: http::request::Builder, message: &str) -> End {
    let request = head.body(full(framed(message))).unwrap();
    let answer = app.begin(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let messages = unbounded_channel().0;
    let read = BytesMut::new();
    Call {
        messages,
        answer,
        read,
    }
    .end()
    .await
}

impl End {
    fn field(&self, name: &str) -> &str {
        let value = self.fields.get(name);
        value
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }

    #[track_caller]
    fn expect(self, status: &str, messages: &[&str]) -> Self {
        assert_eq!(self.field("grpc-status"), status, "{self:?}");
        assert_eq!(self.messages, messages);
        self
    }
}

/// A call as its server sees it.
struct Served {
    head: http::request::Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    read: BytesMut,
    answer: Option<SendStream<Bytes>>,
}

impl Served {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(message) = unframed(&mut self.read) {
                return Some(message);
            }
            let piece = self.body.data().await?.ok()?;
            self.body
                .flow_control()
                .release_capacity(piece.len())
                .unwrap();
            self.read.extend_from_slice(&piece);
        }
    }

    fn say(&mut self, text: &str) {
        let respond = &mut self.respond;
        let answer = self.answer.get_or_insert_with(|| {
            let head = Response::builder().header("content-type", "application/grpc+proto");
            respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap()
        });
        answer.send_data(framed(text), false).unwrap();
    }

    /// Ends the call: with trailers, or without messages in the head.
    fn end(mut self, status: u16) {
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", status.into());
        fields.insert("grpc-message", "it%20ended".parse().unwrap());
        if let Some(mut answer) = self.answer.take() {
            return answer.send_trailers(fields).unwrap();
        }
        fields.insert("content-type", "application/grpc+proto".parse().unwrap());
        let mut head = Response::new(());
        *head.headers_mut() = fields;
        self.respond.send_response(head, true).unwrap();
    }
}

/// A server of these calls: the number of the call, from 0, and the call.
async fn server<F>(serve: impl Fn(usize, Served) -> F + Clone + Send + Sync + 'static) -> H2Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let calls = Arc::<AtomicUsize>::default();
    H2Server::start(move |request: Request<RecvStream>, respond| {
        let (head, body) = request.into_parts();
        let served = Served {
            head,
            body,
            respond,
            read: BytesMut::new(),
            answer: None,
        };
        serve(calls.fetch_add(1, Ordering::Relaxed), served)
    })
    .await
}

async fn stage_at(server: &H2Server, lines: &str) -> Stage {
    Stage::set()
        .route(&format!("http_version = \"2\"\n{lines}"))
        .upstream_at(server.url())
        .start()
        .await
}

const UNAUTHENTICATED: u16 = 16;

#[tokio::test]
async fn a_call_passes_with_its_token_and_its_trailers() {
    let server = server(|_, mut call| async move {
        let head = &call.head;
        assert_eq!(head.uri.path(), "/test.Test/Unary");
        let fields = &head.headers;
        assert!(
            fields["authorization"]
                .to_str()
                .unwrap()
                .starts_with("Bearer ")
        );
        assert_eq!(fields["te"], "trailers");
        assert_eq!(fields["content-type"], "application/grpc+proto");
        assert_eq!(fields["x-key-bin"], "AAEC");
        assert_eq!(fields["grpc-timeout"], "20S");
        let message = call.next().await.unwrap();
        assert_eq!(call.next().await, None);
        call.say(&message.to_uppercase());
        call.end(0);
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let more = [("x-key-bin", "AAEC"), ("grpc-timeout", "20S")];
    let end = unary(&app, call("Unary", &more), "hello").await;
    let end = end.expect("0", &["HELLO"]);
    assert_eq!(end.field("grpc-message"), "it%20ended");
}

#[tokio::test]
async fn messages_stream_in_both_directions_as_they_come() {
    let server = server(|_, mut call| async move {
        let mut count = 0;
        while let Some(message) = call.next().await {
            count += 1;
            match call.head.uri.path() {
                "/test.Test/Talk" => call.say(&format!("re {message}")),
                "/test.Test/Listen" => (0..3).for_each(|_| call.say(&message)),
                _ => {}
            }
        }
        if call.head.uri.path() == "/test.Test/Tell" {
            call.say(&count.to_string());
        }
        call.end(0);
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let mut talk = Call::begin(&app, call("Talk", &[]), "0").await;
    for number in 1..20 {
        assert_eq!(talk.next().await, format!("re {}", number - 1));
        talk.say(&number.to_string());
    }
    talk.end().await.expect("0", &["re 19"]);
    let listen = unary(&app, call("Listen", &[]), "a").await;
    listen.expect("0", &["a", "a", "a"]);
    // A client's stream, many times what is kept for a replay.
    let body: Vec<_> = (0..100).map(|_| framed(&"x".repeat(10_000))).collect();
    let request = call("Tell", &[]).body(crate::stage::chunked(&body, None));
    let reply = app.send(request.unwrap()).await.expect_ok();
    assert_eq!(reply.trailers["grpc-status"], "0");
    assert_eq!(&reply.body[5..], b"100");
    stage
        .expect_metric("pillion_requests_total{status_class=\"2xx\"}", 3.0)
        .await;
}

#[tokio::test]
async fn an_error_without_messages_passes_as_it_is() {
    let server = server(|_, call| async move { call.end(5) }).await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let request = call("Unary", &[]).body(full(framed("a"))).unwrap();
    let reply = app.send(request).await.expect_ok();
    assert_eq!(reply.field("grpc-status"), Some("5"));
    assert_eq!(reply.field("grpc-message"), Some("it%20ended"));
    assert!(reply.trailers.is_empty());
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_call_that_is_unauthenticated_is_made_again_with_a_new_token() {
    for with_head in [false, true] {
        let server = server(move |number, mut call| async move {
            let message = call.next().await.unwrap();
            assert_eq!(message, "pay");
            if number > 0 {
                call.say("paid");
                return call.end(0);
            }
            if with_head {
                // A head of its own, and the trailers right behind it.
                let head = Response::builder().header("content-type", "application/grpc");
                let head = head.body(()).unwrap();
                call.answer = Some(call.respond.send_response(head, false).unwrap());
            }
            call.end(UNAUTHENTICATED);
        })
        .await;
        let stage = stage_at(&server, "").await;
        let app = stage.http2().await;
        let end = unary(&app, call("Unary", &[]), "pay").await;
        end.expect("0", &["paid"]);
        assert_eq!(stage.identity_provider.fetches(), 2);
        stage
            .expect_metric("pillion_replays_total{outcome=\"recovered\"}", 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_call_is_made_again_once_only() {
    let calls = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&calls);
    let server = server(move |_, call| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { call.end(UNAUTHENTICATED) }
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let end = unary(&app, call("Unary", &[]), "a").await;
    end.expect("16", &[]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    // An upstream that refuses every token costs the provider two fetches, not one a call.
    for _ in 0..10 {
        unary(&app, call("Unary", &[]), "a").await.expect("16", &[]);
    }
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_call_that_has_been_answered_in_part_is_not_made_again_but_the_next_gains_by_it() {
    let server = server(|number, mut call| async move {
        call.say("a part");
        // The app has it: now it is too late for another.
        assert_eq!(call.next().await.unwrap(), "go");
        assert_eq!(call.next().await.unwrap(), "on");
        call.end(if number == 0 { UNAUTHENTICATED } else { 0 });
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    for (status, fetches) in [("16", 1), ("0", 2)] {
        let mut talk = Call::begin(&app, call("Talk", &[]), "go").await;
        assert_eq!(talk.next().await, "a part");
        assert_eq!(stage.identity_provider.fetches(), fetches);
        talk.say("on");
        talk.end().await.expect(status, &[]);
        stage
            .until(|stage| stage.identity_provider.fetches() == 2)
            .await;
    }
    stage
        .expect_metric("pillion_unauthorized_total{action=\"not_replayable\"}", 1.0)
        .await;
}

#[tokio::test]
async fn a_stream_is_sent_again_only_while_all_of_it_is_kept() {
    for (length, status) in [(1000, "0"), (3000, "16")] {
        let server = server(move |number, mut call| async move {
            let message = call.next().await.unwrap();
            assert_eq!(message.len(), length);
            if number == 0 {
                return call.end(UNAUTHENTICATED);
            }
            assert_eq!(call.next().await.unwrap(), "second");
            call.end(0);
        })
        .await;
        let stage = stage_at(&server, "replay_limit = \"2KiB\"").await;
        let app = stage.http2().await;
        let (messages, sent) = unbounded_channel();
        let frames = futures_util::stream::unfold(sent, |mut sent| async move {
            let piece: Bytes = sent.recv().await?;
            Some((Ok(Frame::data(piece)), sent))
        });
        messages.send(framed(&"x".repeat(length))).unwrap();
        let request = call("Tell", &[]).body(StreamBody::new(frames).boxed_unsync());
        let answering = tokio::spawn({
            let app = app.clone();
            async move { app.send(request.unwrap()).await }
        });
        stage
            .until(|stage| stage.identity_provider.fetches() == 2)
            .await;
        messages.send(framed("second")).ok();
        drop(messages);
        let reply = within(answering).await.unwrap();
        assert_eq!(reply.field("grpc-status"), Some(status));
    }
}

#[tokio::test]
async fn a_route_may_name_other_statuses() {
    let server = server(|number, call| async move { call.end(if number == 0 { 7 } else { 0 }) });
    let server = server.await;
    let stage = stage_at(&server, "unauthorized = [ { grpc_status = 7 } ]").await;
    let app = stage.http2().await;
    unary(&app, call("Unary", &[]), "a").await.expect("0", &[]);
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_an_answer_and_is_seen_by_the_upstream() {
    let has_come = Arc::new(AtomicBool::new(false));
    let given_up = Arc::new(Notify::new());
    let told = (Arc::clone(&has_come), Arc::clone(&given_up));
    let server = server(move |_, mut call| {
        let (has_come, given_up) = told.clone();
        async move {
            has_come.store(true, Ordering::SeqCst);
            let reason = std::future::poll_fn(|cx| call.respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            given_up.notify_one();
        }
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let short = [("grpc-timeout", "300m")];
    let mut calls = 0.0;
    // On a slow machine the first deadline is over before there is a token and a connection.
    while !has_come.load(Ordering::SeqCst) {
        let end = unary(&app, call("Unary", &short), "a").await;
        let end = end.expect("4", &[]);
        assert!(end.field("proxy-status").starts_with("pillion; error="));
        calls += 1.0;
    }
    within(given_up.notified()).await;
    stage
        .expect_metric("pillion_requests_total{status_class=\"5xx\"}", calls)
        .await;
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_a_token() {
    let server = server(|_, call| async move { call.end(0) }).await;
    let stage = stage_at(&server, "").await;
    stage.identity_provider.faults().once(Fault::Hang);
    let app = stage.http2().await;
    let short = [("grpc-timeout", "300m")];
    unary(&app, call("Unary", &short), "a")
        .await
        .expect("4", &[]);
}

#[tokio::test]
async fn a_call_that_its_app_cancels_is_cancelled_at_the_upstream() {
    let cancelled = Arc::new(Notify::new());
    let told = Arc::clone(&cancelled);
    let server = server(move |_, mut call| {
        let told = Arc::clone(&told);
        async move {
            call.say("hello");
            let answer = call.answer.as_mut().unwrap();
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            told.notify_one();
        }
    })
    .await;
    let stage = stage_at(&server, "").await;
    let app = stage.http2().await;
    let mut talk = Call::begin(&app, call("Talk", &[]), "hi").await;
    assert_eq!(talk.next().await, "hello");
    drop(talk);
    within(cancelled.notified()).await;
    stage.expect_metric("pillion_requests_in_flight", 0.0).await;
}

#[tokio::test]
async fn failures_of_pillions_own_are_told_as_calls_end() {
    let server = server(|_, call| async move { call.end(0) }).await;
    let lines = "inputs = { who = \"{header.x-who}\" }\nheaders = { X-Caller = \"{input.who}\" }";
    let stage = stage_at(&server, lines).await;
    let app = stage.http2().await;
    let elsewhere =
        request2(http::Method::POST, "/elsewhere").header("content-type", "application/grpc");
    let cases = [
        (elsewhere, "12", "4xx"),
        (
            call(
                "Unary",
                &[("x-who", "me"), ("origin", "https://evil.example")],
            ),
            "7",
            "4xx",
        ),
        (call("a%2fb", &[("x-who", "me")]), "13", "4xx"),
        (call("Unary", &[]), "13", "4xx"),
    ];
    for (count, (head, status, class)) in cases.into_iter().enumerate() {
        let end = unary(&app, head, "a").await.expect(status, &[]);
        assert_eq!(end.field("content-type"), "application/grpc");
        assert!(!end.field("grpc-message").is_empty());
        let series = format!("pillion_requests_total{{status_class=\"{class}\"}}");
        stage
            .until_metric(&series, move |seen| seen > count as f64)
            .await;
    }
    stage
        .identity_provider
        .faults()
        .once(Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    let asking = call("Unary", &[("x-who", "me")]);
    unary(&app, asking, "a").await.expect("14", &[]);
    // What is not gRPC is told in HTTP, on the same connection.
    app.get("/elsewhere").await.expect_problem(404, "no-route");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let gone = server(|_, call| async move { call.end(0) }).await;
    let stage = stage_at(&gone, "").await;
    drop(gone);
    let app = stage.http2().await;
    unary(&app, call("Unary", &[]), "a").await.expect("14", &[]);
}
