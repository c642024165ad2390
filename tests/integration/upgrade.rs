//! WebSocket and other upgrades: the token goes with the handshake, and then bytes go both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pillion::fake::{Authority, EgressProxy};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::stage::{Directory, Peer, Process, Raw, Stage, Wire, tls, within};

const HANDSHAKE: &str = "GET /api/chat?room=1 HTTP/1.1\r\nHost: localhost\r\n\
     Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Protocol: chat\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
     Sec-WebSocket-Protocol: chat\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PLAIN: &str = "GET /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
const IN_FLIGHT: &str = "pillion_requests_in_flight";

/// An upstream that switches protocols for whoever asks, and then is in the hands of `talk`. To others it says OK.
async fn switching<F>(talk: impl Fn(Peer) -> F + Clone + Send + Sync + 'static) -> Raw
where
    F: Future<Output = ()> + Send + 'static,
{
    switching_with(None, talk).await
}

async fn switching_with<F>(
    tls: Option<TlsAcceptor>,
    talk: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
) -> Raw
where
    F: Future<Output = ()> + Send + 'static,
{
    Raw::start_with(tls, move |mut peer| {
        let talk = talk.clone();
        async move {
            while let Some(head) = peer.read_head().await {
                if head.contains("\r\nupgrade: websocket\r\n") {
                    peer.write(SWITCHED).await;
                    return talk(peer).await;
                }
                peer.write(OK).await;
            }
        }
    })
    .await
}

async fn echo(peer: Peer) {
    let (mut read, mut write) = split(peer.stream);
    copy(&mut read, &mut write).await.ok();
    write.shutdown().await.ok();
}

async fn stage_before(upstream: &Raw, route: &str) -> Stage {
    let setting = Stage::set().upstream_at(upstream.url()).route(route);
    setting.start().await
}

/// A connection behind its handshake.
async fn upgraded(stage: &Stage) -> Wire {
    let mut wire = stage.wire().await;
    wire.write(HANDSHAKE).await;
    let head = wire.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    wire
}

async fn expect_echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) {
    within(stream.write_all(text.as_bytes())).await.unwrap();
    within(stream.flush()).await.unwrap();
    let mut back = vec![0; text.len()];
    within(stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

#[tokio::test]
async fn the_handshake_carries_the_token_and_what_both_sides_say_of_the_protocol() {
    let upstream = Raw::start(|mut peer| async move {
        let head = peer.read_head().await.unwrap().to_lowercase();
        peer.write(SWITCHED).await;
        peer.write(head).await;
    })
    .await;
    let stage = stage_before(&upstream, "headers = { X-Merchant = \"ours\" }").await;
    let mut wire = stage.wire().await;
    let more = "Authorization: Basic CNRY\r\nX_Merchant: CNRY\r\nHTTP2-Settings: CNRY\r\n\
                TE: trailers\r\nOrigin: http://localhost\r\n\r\n";
    wire.write(HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{more}")))
        .await;

    let mut answer = wire.read_head().await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    answer += "\r\n";
    for field in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "sec-websocket-protocol: chat",
    ] {
        assert_eq!(answer.matches(&format!("\r\n{field}\r\n")).count(), 1);
    }
    for absent in ["content-length", "transfer-encoding"] {
        assert!(!answer.contains(absent), "{answer}");
    }

    let seen = wire.read_to_end().await;
    assert!(seen.starts_with("get /chat?room=1 http/1.1\r\n"), "{seen}");
    for field in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "origin: http://localhost",
        "x-merchant: ours",
    ] {
        let times = seen.matches(&format!("\r\n{field}\r\n")).count();
        assert_eq!(times, 1, "{field}: {seen}");
    }
    assert_eq!(seen.matches("authorization: bearer ").count(), 1, "{seen}");
    assert!(!seen.contains("cnry"), "{seen}");
}

#[tokio::test]
async fn what_one_side_says_the_other_hears_however_large_or_small_it_is() {
    let upstream = switching(echo).await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    for number in 0..1000 {
        expect_echo(&mut wire.stream, &format!("frame {number}")).await;
    }
    expect_all_back(wire.stream).await;
}

#[tokio::test]
async fn what_comes_together_with_a_head_is_not_lost() {
    let upstream = Raw::start(|mut peer| async move {
        peer.read_head().await;
        peer.write(format!("{SWITCHED}early")).await;
        echo(peer).await;
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    for attempt in 0..3 {
        let mut wire = stage.wire().await;
        let large = "x".repeat(attempt * 30_000);
        wire.write(format!("{HANDSHAKE}soon{large}")).await;
        let answer = wire.read_until("early").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let back = wire.read_bytes(4 + large.len()).await;
        assert!(back == format!("soon{large}").as_bytes());
    }
}

#[tokio::test]
async fn an_end_of_one_side_is_told_and_the_other_may_go_on() {
    // The upstream answers when it has heard everything.
    let upstream = switching(|mut peer| async move {
        let mut heard = Vec::new();
        peer.stream.read_to_end(&mut heard).await.unwrap();
        peer.write(format!("{} bytes", heard.len())).await;
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    wire.write("12345").await;
    wire.stream.shutdown().await.unwrap();
    assert_eq!(wire.read_to_end().await, "5 bytes");
    stage.expect_metric(IN_FLIGHT, 0.0).await;

    // The upstream has said its last, and still listens.
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let upstream = switching(move |mut peer| {
        let said = said.clone();
        async move {
            peer.write("bye").await;
            peer.finish().await;
            let mut rest = String::new();
            peer.stream.read_to_string(&mut rest).await.unwrap();
            said.send(rest).unwrap();
        }
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    assert_eq!(wire.read_to_end().await, "bye");
    wire.write("and you").await;
    wire.stream.shutdown().await.unwrap();
    assert_eq!(within(heard.recv()).await.unwrap(), "and you");
    stage.expect_metric(IN_FLIGHT, 0.0).await;
}

#[tokio::test]
async fn nobody_is_left_with_half_a_connection() {
    for is_rude in [false, true] {
        let upstream = switching(echo).await;
        let stage = stage_before(&upstream, "").await;
        let mut wire = upgraded(&stage).await;
        expect_echo(&mut wire.stream, "x").await;
        stage.expect_metric(IN_FLIGHT, 1.0).await;
        if is_rude {
            wire.reset();
        } else {
            drop(wire);
        }
        stage.until(|_| upstream.closed() == 1).await;
        stage.expect_metric(IN_FLIGHT, 0.0).await;
    }
    let upstream = switching(|mut peer| async move {
        peer.read_bytes(1).await;
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    wire.write("x").await;
    assert_eq!(wire.read_to_end().await, "");
    drop(wire);
    stage.expect_metric(IN_FLIGHT, 0.0).await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_not_taken_for_one_that_ends() {
    let authority = Authority::new().unwrap();
    let tls = authority.server_config(&["127.0.0.1"]).unwrap();
    // Without close_notify.
    let upstream = switching_with(Some(tls.into()), |mut peer| async move {
        peer.write("half").await;
    })
    .await;
    let stage = over_tls(&upstream, &authority).await;
    let mut wire = upgraded(&stage).await;
    assert_eq!(wire.read_bytes(4).await, b"half");
    let end = within(wire.stream.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn silence_ends_nothing_but_what_is_left_of_a_connection() {
    let is_patient = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&is_patient);
    let upstream = switching(move |mut peer| {
        let watched = Arc::clone(&watched);
        async move {
            let byte = peer.read_bytes(1).await;
            peer.write(byte).await;
            // Hears of the app's end, and keeps its own connection all the same.
            peer.read_to_end().await;
            watched.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
    })
    .await;
    let stage = stage_before(
        &upstream,
        "timeouts = { idle = \"100ms\", response = \"5s\" }",
    )
    .await;
    let mut wire = upgraded(&stage).await;
    sleep(Duration::from_millis(400)).await;
    expect_echo(&mut wire.stream, "x").await;
    wire.stream.shutdown().await.unwrap();
    wire.read_to_end().await;
    assert!(is_patient.load(Ordering::Relaxed));
    stage.expect_metric(IN_FLIGHT, 0.0).await;
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_up_the_writer() {
    const SAID_BYTES: usize = 64 << 20;
    let is_said = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&is_said);
    let upstream = switching(move |mut peer| {
        let said = Arc::clone(&said);
        async move {
            peer.stream.write_all(&vec![7; SAID_BYTES]).await.unwrap();
            said.store(true, Ordering::Relaxed);
        }
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    // More than all buffers of the system together.
    let all = stage.until(|_| is_said.load(Ordering::Relaxed));
    assert!(timeout(Duration::from_secs(1), all).await.is_err());
    // It holds up nobody else.
    let mut other = stage.wire().await;
    other.write(PLAIN).await;
    assert!(other.read_head().await.starts_with("HTTP/1.1 200 "));
    let mut heard = Vec::new();
    within(wire.stream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard.len(), SAID_BYTES);
    assert!(heard.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_401_at_the_handshake_is_renewed_and_the_handshake_sent_once_more() {
    for is_kept in [true, false] {
        let upstream = Raw::start(move |mut peer| async move {
            let mut refused = None;
            while let Some(head) = peer.read_head().await {
                let token = head.split("authorization: ").nth(1).unwrap();
                let token = token.lines().next().unwrap().to_owned();
                if peer.heads() == 1 {
                    let close = if is_kept { "" } else { "Connection: close\r\n" };
                    let head = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n";
                    peer.write(format!("{head}{close}\r\nold")).await;
                    if !is_kept {
                        return;
                    }
                    refused = Some(token);
                    continue;
                }
                assert_ne!(refused, Some(token));
                peer.write(SWITCHED).await;
                return echo(peer).await;
            }
        })
        .await;
        let stage = stage_before(&upstream, "").await;
        let mut wire = upgraded(&stage).await;
        expect_echo(&mut wire.stream, "hello").await;
        assert_eq!(stage.identity_provider.fetches(), 2);
        assert_eq!(upstream.requests(), 2);
        let replays = "pillion_replays_total{outcome=\"recovered\"}";
        stage.expect_metric(replays, 1.0).await;
    }
}

#[tokio::test]
async fn a_401_that_stays_is_the_answer() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
    let upstream = Raw::answering(refusal).await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = stage.wire().await;
    wire.write(HANDSHAKE).await;
    let answer = wire.read_until("\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn a_handshake_that_is_refused_leaves_connections_that_are_good() {
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            let asks = head.contains("upgrade: websocket");
            assert_eq!(asks, peer.heads() < 3, "{head}");
            peer.write(if asks { REFUSED } else { OK }).await;
        }
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = stage.wire().await;
    for _ in 0..2 {
        wire.write(HANDSHAKE).await;
        let answer = wire.read_until("nope").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    wire.write(PLAIN).await;
    assert!(wire.read_until("ok").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_upgraded_connection_is_nobody_elses_afterwards() {
    let upstream = switching(echo).await;
    let setting = Stage::set().top("[listen]\nworkers = 1");
    let stage = setting.upstream_at(upstream.url()).start().await;
    let mut client = stage.client().await;
    client.get("/api/").await.expect_ok();
    // On the connection that the request has left.
    let mut wire = upgraded(&stage).await;
    assert_eq!(upstream.connections(), 1);
    client.get("/api/").await.expect_ok();
    assert_eq!(upstream.connections(), 2);
    expect_echo(&mut wire.stream, PLAIN).await;
    drop(wire);
    stage.until(|_| upstream.closed() == 1).await;
    client.get("/api/").await.expect_ok();
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_switch_to_what_was_not_asked_for_is_a_502_and_the_connection_dropped() {
    let other = SWITCHED.replace("websocket", "CNRY");
    let two = SWITCHED.replace("Upgrade: websocket\r\n", "Upgrade: websocket, CNRY\r\n");
    let twice = SWITCHED.replace("\r\nUpgrade:", "\r\nUpgrade: CNRY\r\nUpgrade:");
    let none = SWITCHED.replace("Upgrade: websocket\r\n", "");
    let http2 = SWITCHED.replace("websocket", "h2c");
    let answers = [&other, &two, &twice, &none, &http2];
    let cases = answers.map(|answer| (HANDSHAKE, answer.as_str()));
    for (request, answer) in cases.into_iter().chain([(PLAIN, SWITCHED)]) {
        let answer = answer.to_owned();
        let upstream = Raw::start(move |mut peer| {
            let answer = answer.clone();
            async move {
                peer.read_head().await;
                peer.write(format!("{answer}CNRY")).await;
                peer.read_to_end().await;
            }
        })
        .await;
        let stage = stage_before(&upstream, "").await;
        let mut wire = stage.wire().await;
        wire.write(request).await;
        let head = wire.read_head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert!(!head.contains("CNRY"), "{head}");
        stage.until(|_| upstream.closed() == 1).await;
        assert_eq!(upstream.requests(), 1);
    }
}

#[tokio::test]
async fn what_no_route_allows_is_never_passed_on() {
    let upstream = Raw::start(|mut peer| async move {
        while let Some(head) = peer.read_head().await {
            let head = head.to_lowercase();
            for field in ["\r\nupgrade:", "\r\nhttp2-settings:", "\r\nconnection:"] {
                assert!(!head.contains(field), "{head}");
            }
            peer.read_content(&head).await;
            peer.write(OK).await;
        }
    })
    .await;
    let stage = stage_before(&upstream, "").await;
    let none = stage_before(&upstream, "upgrades = []").await;
    let other = stage_before(&upstream, "upgrades = [\"chat/2\"]").await;
    let get = |fields: &str| format!("GET /api/ HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let upgrade = |to: &str| get(&format!("Connection: Upgrade\r\nUpgrade: {to}\r\n"));
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
    for (stage, request) in [
        (&stage, get(h2c)),
        (&stage, upgrade("TLS/1.0")),
        (&stage, upgrade("h2c, HTTP/2.0")),
        (&stage, upgrade("chat/2")),
        (&stage, upgrade("websocket/13")),
        (&stage, get("Upgrade: websocket\r\n")),
        (
            &stage,
            get("Connection: keep-alive\r\nUpgrade: websocket\r\n"),
        ),
        (
            &stage,
            upgrade("websocket").replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"),
        ),
        (&none, upgrade("websocket")),
        (&other, upgrade("websocket")),
        (&other, upgrade("chat/1")),
    ] {
        let mut wire = stage.wire().await;
        wire.write(&request).await;
        let answer = wire.read_until("\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request}{answer}");
    }
    assert_eq!(upstream.requests(), 11);
}

#[tokio::test]
async fn a_route_may_allow_other_protocols_by_name() {
    let upstream = Raw::start(|mut peer| async move {
        let head = peer.read_head().await.unwrap();
        assert!(head.contains("\r\nupgrade: chat/2\r\n"), "{head}");
        peer.write(SWITCHED.replace("websocket", "Chat/2")).await;
        echo(peer).await;
    })
    .await;
    let stage = stage_before(&upstream, "upgrades = [\"chat/2\"]").await;
    let mut wire = stage.wire().await;
    let handshake = HANDSHAKE.replace("WebSocket\r\n", "h2c, CHAT/2, websocket\r\n");
    wire.write(handshake.replace("GET", "POST")).await;
    let head = wire.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: Chat/2\r\n"), "{head}");
    expect_echo(&mut wire.stream, "x").await;
}

#[tokio::test]
async fn a_web_page_cannot_open_one() {
    let upstream = switching(echo).await;
    let stage = stage_before(&upstream, "").await;
    let foreign = "Origin: https://evil.example\r\n\r\n";
    let handshake = HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{foreign}"));
    let mut wire = stage.wire().await;
    wire.write(handshake).await;
    let head = wire.read_head().await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn one_is_counted_when_it_begins_and_in_flight_while_it_lasts() {
    let upstream = switching(echo).await;
    let setting = Stage::set().top("[limits]\nconnections = 2");
    let stage = setting.upstream_at(upstream.url()).start().await;
    let first = upgraded(&stage).await;
    let second = upgraded(&stage).await;
    let switched = "pillion_requests_total{route=\"api\",status_class=\"1xx\"}";
    stage.expect_metric(switched, 2.0).await;
    let durations = "pillion_request_duration_seconds_count{route=\"api\"}";
    stage.expect_metric(durations, 2.0).await;
    stage.expect_metric(IN_FLIGHT, 2.0).await;
    let refused = stage.wire().await.read_to_end().await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(first);
    stage.expect_metric(IN_FLIGHT, 1.0).await;
    upgraded(&stage).await;
    drop(second);
    stage.expect_metric(IN_FLIGHT, 0.0).await;
    stage.expect_metric(switched, 3.0).await;
}

#[tokio::test]
async fn a_new_configuration_ends_none() {
    let upstream = switching(echo).await;
    let stage = stage_before(&upstream, "").await;
    let mut wire = upgraded(&stage).await;
    let moved = stage.config.replace("path = \"/api\"", "path = \"/new\"");
    stage.directory.write("proxy.toml", &moved);
    stage.running.config.reload();
    let reloaded = "pillion_config_reloads_total{outcome=\"ok\"}";
    stage.until_metric(reloaded, |count| count > 0.0).await;
    stage.get("/api/").await.expect_problem(404, "no-route");
    expect_echo(&mut wire.stream, "still here").await;
}

#[tokio::test]
async fn a_stop_waits_for_those_that_end_and_cuts_the_others_after_the_drain_timeout() {
    let upstream = switching(echo).await;
    let stage = stage_before(&upstream, "").await;
    for ends in [true, false] {
        let timeout = if ends { "60s" } else { "700ms" };
        let lines = format!("drain_delay = \"0s\"\ndrain_timeout = \"{timeout}\"");
        let mut process = Process::start(&stage, &lines).await;
        let mut wire = Wire::connect(process.address).await;
        wire.write(HANDSHAKE).await;
        assert!(wire.read_head().await.starts_with("HTTP/1.1 101 "));
        process.signal("TERM");
        process.line("stopping").await;
        expect_echo(&mut wire.stream, "not yet").await;
        if ends {
            wire.stream.shutdown().await.unwrap();
        }
        assert_eq!(wire.read_to_end().await, "");
        assert_eq!(process.end().await, Some(0));
    }
    stage.until(|_| upstream.closed() == 2).await;
}

#[tokio::test]
async fn a_handshake_while_it_drains_is_served() {
    let upstream = switching(echo).await;
    let stage = stage_before(&upstream, "").await;
    stage.running.proxy.drain();
    let mut wire = stage.wire().await;
    wire.write(HANDSHAKE).await;
    let head = wire.read_head().await.to_lowercase();
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    expect_echo(&mut wire.stream, "x").await;
}

async fn over_tls(upstream: &Raw, authority: &Authority) -> Stage {
    let setting = Stage::set();
    let ca = setting
        .directory()
        .write("ca.pem", authority.certificate_pem());
    setting
        .upstream_at(format!("https://{}", upstream.address))
        .route(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
        .start()
        .await
}

#[tokio::test]
async fn an_upstream_over_tls_is_as_good() {
    let authority = Authority::new().unwrap();
    let tls = authority.server_config(&["127.0.0.1"]).unwrap();
    let upstream = switching_with(Some(tls.into()), echo).await;
    let stage = over_tls(&upstream, &authority).await;
    let wire = upgraded(&stage).await;
    expect_all_back(wire.stream).await;
}

#[tokio::test]
async fn an_upstream_that_would_rather_speak_http2_is_called_in_http1() {
    let authority = Authority::new().unwrap();
    let tls = authority.server_config(&["127.0.0.1"]).unwrap();
    let mut tls = ServerConfig::clone(&tls);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let upstream = switching_with(Some(Arc::new(tls).into()), echo).await;
    let stage = over_tls(&upstream, &authority).await;
    let wire = upgraded(&stage).await;
    expect_all_back(wire.stream).await;
}

#[tokio::test]
async fn an_app_that_calls_over_tls_is_served_as_well() {
    let upstream = switching(echo).await;
    let setting = Stage::set();
    let authority = Authority::new().unwrap();
    let own = authority.server_certificate(&["localhost"]).unwrap();
    let write =
        |name: &str, text: &str| setting.directory().write(name, text).display().to_string();
    let cert = write("cert.pem", &own.certificate_pem);
    let key = write("key.pem", &own.key_pem);
    let listen = format!("[listen]\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}");
    let stage = setting
        .top(&listen)
        .upstream_at(upstream.url())
        .start()
        .await;
    let trusted = authority.certificate_der();
    let mut stream = tls(stage.address(), "localhost", trusted, &["http/1.1"])
        .await
        .unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    expect_all_back(stream).await;
}

#[tokio::test]
async fn an_app_may_call_through_a_unix_socket() {
    let upstream = switching(echo).await;
    let directory = Directory::new();
    let path = directory.path().join("proxy.sock");
    let address = format!("\"127.0.0.1:0\", \"unix:{}\"", path.display());
    let _stage = Stage::set()
        .top(&format!("[listen]\naddress = [{address}]"))
        .upstream_at(upstream.url())
        .start()
        .await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    expect_all_back(stream).await;
}

/// Something small and 16 MiB, there and back, and a clean end.
async fn expect_all_back(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    expect_echo(&mut stream, "small").await;
    let large: Vec<u8> = (0..16 << 20).map(|_| fastrand::u8(..)).collect();
    let (mut read, mut write) = split(stream);
    let say = async {
        write.write_all(&large).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let hear = read.read_to_end(&mut back);
    let ((), heard) = within(async { tokio::join!(say, hear) }).await;
    assert_eq!(heard.unwrap(), large.len());
    assert!(back == large);
}

#[tokio::test]
async fn it_goes_through_an_egress_proxy() {
    let authority = Authority::new().unwrap();
    let tls = authority.server_config(&["api.example"]).unwrap();
    let upstream = switching_with(Some(tls.into()), echo).await;
    let proxy = EgressProxy::start().await.unwrap();
    let setting = Stage::set().tls().unresolved();
    let ca = setting
        .directory()
        .write("ca.pem", authority.certificate_pem());
    let stage = setting
        .top(&format!("egress_proxy = \"{}\"", proxy.url()))
        .route(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
        .start()
        .await;
    let provider = stage.identity_provider.server().address();
    proxy.resolve("login.example:443", provider);
    proxy.resolve("api.example:443", upstream.address);
    let wire = upgraded(&stage).await;
    assert_eq!(proxy.targets(), ["login.example:443", "api.example:443"]);
    expect_all_back(wire.stream).await;
}
