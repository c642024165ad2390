//! Connections to the upstream: to whom, how often, and what happens when there is none.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use pillion::cli::run::{self, Overlay, StartError};
use pillion::config::reload::LoadError;
use pillion::fake::{Authority, EgressProxy, Fault, Upstream};
use pillion::net::connect::{Endpoint, EndpointSettings, Transport};
use pillion::net::tls::{TlsClients, TlsSettings};
use pillion::net::tunnel;
use rustls::HandshakeKind;
use tokio::time::sleep;

use crate::stage::{Directory, Raw, Stage, full, request};

#[tokio::test]
async fn provider_and_upstream_are_called_over_tls() {
    let stage = Stage::set().tls().start().await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client.post("/api/x", "body").await.expect_ok();
    }
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("host"), Some("api.example"));
    assert_eq!(stage.upstream.server().connections(), 1);
    stage.identity_provider.revoke_all();
    client.post("/api/x", "body").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn an_upstream_that_is_not_who_it_should_be_gets_no_byte() {
    let authority = Authority::new().unwrap();
    let stranger = Authority::new().unwrap();
    for (signer, name, is_good) in [
        (&authority, "127.0.0.1", true),
        (&authority, "other.example", false),
        (&stranger, "127.0.0.1", false),
    ] {
        let upstream = Upstream::open(Some(signer.server_config(&[name]).unwrap()));
        let upstream = upstream.await.unwrap();
        let setting = Stage::set();
        let ca = setting
            .directory()
            .write("ca.pem", authority.certificate_pem());
        let stage = setting
            .upstream_at(format!("https://{}", upstream.address()))
            .route(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
            .start()
            .await;
        let reply = stage.get("/api/").await;
        if is_good {
            reply.expect_ok();
        } else {
            let reply = reply.expect_problem(502, "upstream-tls");
            assert_eq!(
                reply.field("proxy-status"),
                Some("pillion; error=tls_certificate_error")
            );
        }
        assert_eq!(upstream.server().requests(), usize::from(is_good), "{name}");
    }
}

#[tokio::test]
async fn an_upstream_without_tls_where_it_should_have_it_gets_no_token() {
    let upstream = Raw::start(|mut peer| async move {
        if let Some(head) = peer.read_head().await {
            assert!(!head.to_lowercase().contains("authorization"));
        }
    })
    .await;
    let url = format!("https://{}", upstream.address);
    let stage = Stage::set()
        .upstream_at(url)
        .route("timeouts = { connect = \"300ms\" }")
        .start()
        .await;
    stage
        .get("/api/")
        .await
        .expect_problem(504, "upstream-timeout");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_file_says() {
    let authority = Authority::new().unwrap();
    let tls = authority.mutual_server_config(&["127.0.0.1"]).unwrap();
    let upstream = Upstream::open(Some(tls)).await.unwrap();
    let identity = authority.client_certificate("pillion").unwrap();
    for shows in [true, false] {
        let setting = Stage::set();
        let write =
            |name: &str, text: &str| setting.directory().write(name, text).display().to_string();
        let ca = write("ca.pem", authority.certificate_pem());
        let cert = write("cert.pem", &identity.certificate_pem);
        let key = write("key.pem", &identity.key_pem);
        let own = format!(", cert = \"{cert}\", key = \"{key}\"");
        let own = if shows { own.as_str() } else { "" };
        let stage = setting
            .upstream_at(format!("https://{}", upstream.address()))
            .route(&format!("tls = {{ ca = \"{ca}\"{own} }}"))
            .start()
            .await;
        let reply = stage.get("/api/").await;
        assert_eq!(reply.status == 200, shows, "{reply:?}");
        if !shows {
            assert_eq!(reply.status, 502);
        }
    }
    assert_eq!(upstream.server().requests(), 1);
}

#[tokio::test]
async fn an_absent_upstream_is_a_502_and_a_late_one_a_504() {
    let stage = Stage::with_route("timeouts = { response = \"200ms\" }").await;
    stage.upstream.faults().once(Fault::Hang);
    let reply = stage.post("/api/", "body").await;
    reply.expect_problem(504, "upstream-timeout");
    stage.upstream.server().leave().await.unwrap();
    let reply = stage.post("/api/", "body").await;
    reply.expect_problem(502, "upstream-unreachable");
    stage.upstream.server().come_back().await.unwrap();
    stage.post("/api/", "body").await.expect_ok();
    assert_eq!(
        stage.upstream.server().requests(),
        2,
        "nothing was sent twice"
    );
}

#[tokio::test]
async fn an_upload_that_moves_is_not_an_upstream_that_is_late() {
    let stage = Stage::with_route("timeouts = { response = \"300ms\" }").await;
    stage.get("/api/").await.expect_ok();
    let mut wire = stage.wire().await;
    wire.write(
        "POST /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 8\r\n\r\n",
    )
    .await;
    for _ in 0..8 {
        sleep(Duration::from_millis(100)).await;
        wire.write("x").await;
    }
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_are_used_again() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    for _ in 0..50 {
        client.post("/api/", "body").await.expect_ok();
        client.get("/api/bytes/100000").await.expect_ok();
        client.get("/api/status/204").await.expect_status(204);
    }
    assert_eq!(stage.upstream.server().connections(), 1);
    stage.identity_provider.revoke_all();
    client.post("/api/", "body").await.expect_ok();
    assert_eq!(
        stage.upstream.server().connections(),
        1,
        "a replay needs no other"
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_upstream_does() {
    let stage = Stage::set()
        .top("[limits]\nidle_timeout = \"100ms\"")
        .start()
        .await;
    stage.get("/api/").await.expect_ok();
    stage
        .until(|stage| stage.upstream.server().open_connections() == 0)
        .await;
    stage.post("/api/", "body").await.expect_ok();
    assert_eq!(stage.upstream.server().connections(), 2);
}

/// An upstream may close an idle connection without a word at any time (RFC 9112 §9.5).
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_nobody_anything() {
    let upstream = Raw::start(|mut peer| async move {
        if let Some(head) = peer.read_head().await {
            peer.read_content(&head).await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut client = stage.client().await;
    for number in 1..=20 {
        let reply = if number % 2 == 0 {
            client.get("/api/").await
        } else {
            client.post("/api/", "body").await
        };
        reply.expect_ok();
        stage.until(|_| upstream.closed() == number).await;
    }
    assert_eq!(upstream.requests(), 20);
}

#[tokio::test]
async fn what_an_upstream_may_have_seen_is_sent_again_only_if_that_is_harmless() {
    for (method, status, received) in [
        (Method::POST, 502, 2),
        (Method::PATCH, 502, 2),
        (Method::GET, 200, 3),
        (Method::PUT, 200, 3),
        (Method::DELETE, 200, 3),
    ] {
        // The first request of a connection is answered, the second read and dropped.
        let upstream = Raw::start(|mut peer| async move {
            let head = peer.read_head().await.unwrap();
            peer.read_content(&head).await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
            if let Some(head) = peer.read_head().await {
                peer.read_content(&head).await;
            }
        })
        .await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let mut client = stage.client().await;
        client.get("/api/first").await.expect_ok();
        let second = request(method.clone(), "/api/second").body(full("body"));
        let reply = client.send(second.unwrap()).await;
        assert_eq!(reply.status, status, "{method} {reply:?}");
        if status == 502 {
            reply.expect_problem(502, "upstream-unreachable");
        }
        assert_eq!(upstream.requests(), received, "{method}");
    }
}

#[tokio::test]
async fn on_a_new_connection_nothing_is_ever_sent_twice() {
    let upstream = Raw::start(|mut peer| async move {
        peer.read_head().await;
    })
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    for method in [Method::GET, Method::POST, Method::PUT] {
        let request = request(method, "/api/").body(full("body")).unwrap();
        stage
            .send(request)
            .await
            .expect_problem(502, "upstream-unreachable");
    }
    assert_eq!(upstream.requests(), 3);
}

#[tokio::test]
async fn an_upstream_that_restarts_under_load_loses_only_what_it_had_begun() {
    let stage = Stage::new().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = stage.client().await;
        client.post("/api/", "body").await.expect_ok();
        clients.push(client);
    }
    stage.upstream.server().close_connections().await.unwrap();
    let replies = clients
        .iter_mut()
        .map(|client| client.post("/api/", "body"));
    for reply in join_all(replies).await {
        reply.expect_ok();
    }
}

#[tokio::test]
async fn one_routes_trouble_is_not_anothers() {
    let more = "[provider.slow]\ntype = \"oauth2\"\ntoken_endpoint = \"SLOW/token\"\nclient_id = \"x\"\n\
        client_secret = { env = \"SECRET\" }\n\
        [[route]]\nname = \"slow\"\npath = \"/slow\"\nprovider = \"slow\"\nupstream = \"UPSTREAM\"\n";
    let hanging = Raw::start(|mut peer| async move { peer.read_to_end().await }).await;
    let more = more.replace("SLOW", &hanging.url());
    let stage = Stage::set().more(&more).start().await;
    let waiting: Vec<_> = (0..20).map(|_| stage.get("/slow/")).collect();
    let waiting = join_all(waiting);
    let working = async {
        for _ in 0..50 {
            stage.get("/api/").await.expect_ok();
        }
    };
    tokio::select! {
        _ = waiting => panic!("the slow provider answered"),
        () = working => {}
    }
    assert_eq!(hanging.connections(), 1);
}

#[tokio::test]
async fn plaintext_to_elsewhere_is_refused_in_the_file() {
    let directory = Directory::new();
    let config = |endpoint: &str, upstream: &str| {
        format!(
            "[provider.p]\ntype = \"oauth2\"\ntoken_endpoint = \"{endpoint}\"\nclient_id = \"x\"\n\
             client_secret = {{ env = \"SECRET\" }}\n\
             [[route]]\nprovider = \"p\"\nupstream = \"{upstream}\"\n"
        )
    };
    for (endpoint, upstream) in [
        ("http://login.example/token", "https://api.example"),
        ("https://login.example/token", "http://api.example"),
        ("https://login.example/token", "http://192.0.2.1"),
    ] {
        let path = directory.write("proxy.toml", &config(endpoint, upstream));
        let overlay = Overlay {
            free_ports: true,
            ..Overlay::default()
        };
        let refused = run::start(&path, overlay, false);
        assert!(matches!(
            refused,
            Err(StartError::Config(LoadError::Mistakes(_)))
        ));
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    let authority = Authority::new().unwrap();
    let tls = authority.server_config(&["api.example"]).unwrap();
    let upstream = Upstream::open(Some(tls)).await.unwrap();
    let clients = TlsClients::new(&[authority.certificate_der()]);
    let border = EgressProxy::start().await.unwrap();
    let egress_proxy = tunnel::EgressProxy {
        host: border.server().address().ip().to_string(),
        port: border.server().address().port(),
        authorization: None,
    };
    for egress_proxy in [None, Some(egress_proxy)] {
        let endpoint = Endpoint::new(EndpointSettings {
            fingerprint: 0,
            host: "api.example".to_owned(),
            port: 443,
            tls: Some(clients.configure(&TlsSettings::default()).unwrap()),
            socket: None,
            resolved: Some(upstream.address()),
            egress_proxy,
            allow_plaintext: false,
            connect_timeout: Duration::from_secs(5),
        });
        expect_resumption(&endpoint.unwrap()).await;
    }
    assert_eq!(border.requests().len(), 2);
}

async fn expect_resumption(endpoint: &Endpoint) {
    let first = endpoint.connect().await.unwrap();
    assert_eq!(
        handshake(&first),
        (HandshakeKind::Full, b"http/1.1".to_vec())
    );
    // The ticket comes with the first answer.
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(first))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/status/204").header("host", "api.example");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 204);
    drop(sender);
    connection.await.unwrap().unwrap();

    let second = endpoint.connect().await.unwrap();
    assert_eq!(
        handshake(&second),
        (HandshakeKind::Resumed, b"http/1.1".to_vec())
    );
}

/// How a handshake went, and the protocol that it agreed on.
fn handshake(transport: &Transport) -> (HandshakeKind, Vec<u8>) {
    let Transport::Tls(stream) = transport else {
        panic!("plaintext");
    };
    let (_, session) = stream.get_ref();
    let protocol = session.alpn_protocol().unwrap().to_vec();
    (session.handshake_kind().unwrap(), protocol)
}
