//! Connections through an egress proxy: what it is told, what it never hears, and what happens when it is in the way.

use std::time::Duration;

use pillion::fake::{Authority, EgressProxy, Obstacle, Upstream};
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Process, SECRET, Setting, Stage};

const PASSWORD: &str = "CNRY-egress-password-77e1";

#[tokio::test]
async fn requests_and_token_fetches_go_through_it_and_it_hears_nothing() {
    let proxy = EgressProxy::start().await.unwrap();
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client
            .post("/api/path-of-mine", "body-of-mine")
            .await
            .expect_ok();
    }
    // Each name is the proxy's to resolve, and the third request has gone through the tunnel of the first.
    assert_eq!(proxy.targets(), ["login.example:443", "api.example:443"]);
    assert_eq!(proxy.mistakes(), [""; 0]);
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("host"), Some("api.example"));
    assert_eq!(seen.field("proxy-authorization"), None);
    let token = seen.field("authorization").unwrap().replace("Bearer ", "");
    let heard = proxy.heard();
    assert!(heard.len() > 1000, "TLS both ways");
    for plain in [&token, SECRET, "HTTP/1.1", "path-of-mine", "body-of-mine"] {
        let is_heard = heard.windows(plain.len()).any(|it| it == plain.as_bytes());
        assert!(!is_heard, "{plain}");
    }
}

#[tokio::test]
async fn a_certificate_is_verified_through_it_as_without() {
    let proxy = EgressProxy::start().await.unwrap();
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    let stranger = Authority::new().unwrap();
    let impostor = Upstream::open(Some(stranger.server_config(&["api.example"]).unwrap()));
    let impostor = impostor.await.unwrap();
    proxy.resolve("api.example:443", impostor.address());
    let reply = stage.get("/api/").await;
    reply.expect_problem(502, "upstream-tls");
    assert_eq!(impostor.server().requests(), 0);
}

#[tokio::test]
async fn credentials_are_read_for_each_tunnel() {
    let proxy = EgressProxy::start().await.unwrap();
    proxy.admit("svc", PASSWORD);
    let setting = Stage::set();
    let file = setting.directory().write("password", PASSWORD);
    let table = format!(
        "egress_proxy = {{ url = \"{}\", username = \"svc\", password = {{ file = \"{}\" }} }}",
        proxy.url(),
        file.display()
    );
    let stage = behind(&proxy, setting.top(&table)).await;
    stage.get("/api/").await.expect_ok();

    proxy.admit("svc", "CNRY-another");
    proxy.server().close_connections().await.unwrap();
    let refused = stage.get("/api/").await;
    let refused = refused.expect_problem(502, "upstream-unreachable");
    let status = "pillion; error=proxy_configuration_error";
    assert_eq!(refused.field("proxy-status"), Some(status));
    let detail = refused.json()["detail"].to_string();
    assert!(
        detail.contains("407 Proxy Authentication Required"),
        "{detail}"
    );

    std::fs::remove_file(&file).unwrap();
    let unread = stage.get("/api/").await;
    let unread = unread.expect_problem(502, "upstream-unreachable");
    assert_eq!(unread.field("proxy-status"), Some(status));
    let detail = unread.json()["detail"].to_string();
    assert!(detail.contains("password cannot be read"), "{detail}");

    stage.directory.write("password", "CNRY-another\n");
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 1);
    assert_eq!(proxy.mistakes(), [""; 0]);
}

#[tokio::test]
async fn a_fetch_that_it_refuses_is_told_and_tried_again() {
    let proxy = EgressProxy::start().await.unwrap();
    proxy.admit("svc", PASSWORD);
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    let reply = stage.get("/api/").await;
    reply.expect_problem(503, "token-unavailable");
    let status = stage.status().await.to_string();
    assert!(status.contains("the egress proxy answered 407"), "{status}");
    let table = format!(
        "{{ url = \"{}\", username = {{ env = \"KEY\" }}, password = {{ env = \"SECRET\" }} }}",
        proxy.url()
    );
    proxy.admit("CNRY-long-lived-key", SECRET);
    let text = stage.config.replace(&format!("{:?}", proxy.url()), &table);
    stage.directory.replace("proxy.toml", &text);
    expect_recovery(&stage).await;
}

#[tokio::test]
async fn while_it_is_down_tokens_are_good_and_when_it_is_back_so_is_everything() {
    let proxy = EgressProxy::start().await.unwrap();
    let handed_out = "[[route]]\npath = \"/token\"\nprovider = \"idp\"\nhand_out = true";
    let setting = Stage::set()
        .top(&through(&proxy))
        .provider("hand_out = true");
    let stage = behind(&proxy, setting.more(handed_out)).await;
    stage.get("/api/").await.expect_ok();
    proxy.server().leave().await.unwrap();
    for _ in 0..3 {
        let reply = stage.get("/api/").await;
        let reply = reply.expect_problem(502, "upstream-unreachable");
        let status = "pillion; error=destination_unavailable";
        assert_eq!(reply.field("proxy-status"), Some(status));
        stage.get("/token").await.expect_ok();
    }
    proxy.server().come_back().await.unwrap();
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_that_finds_it_down_succeeds_soon_after_it_is_back() {
    let proxy = EgressProxy::start().await.unwrap();
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    proxy.server().leave().await.unwrap();
    let reply = stage.get("/api/").await;
    reply.expect_problem(503, "token-unavailable");
    proxy.server().come_back().await.unwrap();
    expect_recovery(&stage).await;
}

#[tokio::test]
async fn the_time_to_connect_includes_its_answer() {
    let proxy = EgressProxy::start().await.unwrap();
    let setting = Stage::set()
        .top(&through(&proxy))
        .route("timeouts = { connect = \"300ms\" }");
    let stage = behind(&proxy, setting).await;
    stage.get("/api/").await.expect_ok();
    proxy.server().close_connections().await.unwrap();
    proxy.obstruct(Some(Obstacle::Hangs));
    let reply = stage.get("/api/").await;
    reply.expect_problem(504, "upstream-timeout");

    let setting = Stage::set()
        .top(&through(&proxy))
        .provider("timeout = \"300ms\"");
    let stage = behind(&proxy, setting).await;
    stage
        .get("/api/")
        .await
        .expect_problem(504, "token-timeout");
}

#[tokio::test]
async fn whatever_it_does_wrong_is_a_502_and_over_when_it_stops() {
    let proxy = EgressProxy::start().await.unwrap();
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    stage.get("/api/").await.expect_ok();
    for (obstacle, error) in [
        (Obstacle::Says(""), "http_protocol_error"),
        (
            Obstacle::Says("\x16\x03\x01 garbage\r\n\r\n"),
            "http_protocol_error",
        ),
        (
            Obstacle::Says("HTTP/1.1 200 OK\r\nVia"),
            "http_protocol_error",
        ),
        (
            Obstacle::Says("HTTP/1.1 200 OK\r\nVia : x\r\n\r\n"),
            "http_protocol_error",
        ),
        (Obstacle::Repeats("HTTP/1.1 200 "), "http_protocol_error"),
        (
            Obstacle::Grants("HTTP/1.1 200 OK\r\n\r\nearly"),
            "http_protocol_error",
        ),
        (
            Obstacle::Says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            "http_protocol_error",
        ),
        (
            Obstacle::Says("HTTP/1.1 403 Forbidden\r\n\r\n"),
            "destination_unavailable",
        ),
        (
            Obstacle::Says("HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n"),
            "destination_unavailable",
        ),
        (
            Obstacle::Says(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            ),
            "destination_unavailable",
        ),
    ] {
        let before = stage.upstream.server().requests();
        proxy.server().close_connections().await.unwrap();
        proxy.obstruct(Some(obstacle.clone()));
        let reply = stage.get("/api/").await;
        let reply = reply.expect_problem(502, "upstream-unreachable");
        let status = format!("pillion; error={error}");
        assert_eq!(reply.field("proxy-status"), Some(&*status), "{obstacle:?}");
        assert_eq!(stage.upstream.server().requests(), before, "{obstacle:?}");
        proxy.obstruct(None);
        stage.get("/api/").await.expect_ok();
    }
}

#[tokio::test]
async fn any_2xx_opens_a_tunnel_whatever_its_fields_say() {
    let proxy = EgressProxy::start().await.unwrap();
    let stage = behind(&proxy, Stage::set().top(&through(&proxy))).await;
    for granted in [
        "HTTP/1.0 200 Connection established\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        proxy.server().close_connections().await.unwrap();
        proxy.obstruct(Some(Obstacle::Grants(granted)));
        let reply = stage.get("/api/").await;
        assert_eq!(reply.status, 200, "{granted:?} {reply:?}");
    }
}

#[tokio::test]
async fn the_nearer_egress_proxy_wins_and_false_is_none() {
    let (far, near) = (
        EgressProxy::start().await.unwrap(),
        EgressProxy::start().await.unwrap(),
    );
    for (route, goes_far) in [("", true), ("egress_proxy = false", false)] {
        // Not an address of this machine, by its looks; and yet there is somebody.
        let authority = Authority::new().unwrap();
        let upstream = Upstream::open(Some(authority.server_config(&["0.0.0.0"]).unwrap()));
        let upstream = upstream.await.unwrap();
        let target = format!("0.0.0.0:{}", upstream.address().port());
        let setting = Stage::set();
        let ca = setting
            .directory()
            .write("ca.pem", authority.certificate_pem());
        let setting = setting
            .top(&through(&far))
            .provider(&through(&near))
            .upstream_at(format!("https://{target}"))
            .route(&format!("tls = {{ ca = \"{}\" }}\n{route}", ca.display()));
        let stage = behind(&near, setting).await;
        stage.get("/api/").await.expect_ok();
        assert_eq!(near.targets().last().unwrap(), "login.example:443");
        assert_eq!(far.targets().contains(&target), goes_far, "{route}");
    }
    assert_eq!(near.requests().len(), 2);
    assert_eq!(far.requests().len(), 1);
}

#[tokio::test]
async fn what_is_excepted_is_connected_to_directly() {
    let proxy = EgressProxy::start().await.unwrap();
    for (exception, is_proxied) in [("10.0.0.0/8", true), ("0.0.0.0/8", false)] {
        let upstream = Upstream::open(None).await.unwrap();
        let target = format!("0.0.0.0:{}", upstream.address().port());
        let table = format!(
            "egress_proxy = {{ url = \"{}\", no_proxy = [\".internal\", \"{exception}\"] }}",
            proxy.url()
        );
        let stage = Stage::set()
            .top(&table)
            .upstream_at(format!("http://{target}"))
            .route("allow_plaintext = true");
        let stage = stage.start().await;
        stage.get("/api/").await.expect_ok();
        assert_eq!(upstream.server().requests(), 1);
        assert_eq!(proxy.targets().contains(&target), is_proxied, "{exception}");
    }
}

#[tokio::test]
async fn plaintext_that_is_allowed_goes_through_a_tunnel_as_well() {
    let proxy = EgressProxy::start().await.unwrap();
    let upstream = Upstream::open(None).await.unwrap();
    proxy.resolve("plain.example:80", upstream.address());
    let setting = Stage::set()
        .top(&through(&proxy))
        .upstream_at("http://plain.example")
        .route("allow_plaintext = true");
    let stage = behind(&proxy, setting).await;
    stage.post("/api/x", "body").await.expect_ok();
    let seen = upstream.last_request().unwrap();
    assert_eq!(
        (seen.field("host"), &*seen.target),
        (Some("plain.example"), "/x")
    );
    assert_eq!(proxy.targets(), ["login.example:443", "plain.example:80"]);
    assert_eq!(proxy.mistakes(), [""; 0]);
}

#[tokio::test]
async fn this_machine_is_never_called_through_it() {
    let proxy = EgressProxy::start().await.unwrap();
    for setting in [Stage::set(), Stage::set().tls()] {
        let stage = setting.top(&through(&proxy)).start().await;
        stage.get("/api/").await.expect_ok();
    }
    assert_eq!(proxy.server().connections(), 0);
}

#[tokio::test]
async fn a_reload_leads_new_connections_through_the_new_one() {
    let (old, new) = (
        EgressProxy::start().await.unwrap(),
        EgressProxy::start().await.unwrap(),
    );
    let stage = behind(&old, Stage::set().top(&through(&old))).await;
    know(&new, &stage);
    let mut client = stage.client().await;
    client.get("/api/").await.expect_ok();
    let moved = stage.config.replace(&old.url(), &new.url());
    stage.directory.replace("proxy.toml", &moved);
    stage.running.config.reload();
    let loaded = "pillion_config_reloads_total{outcome=\"ok\"}";
    stage.until_metric(loaded, |count| count >= 1.0).await;
    client.get("/api/").await.expect_ok();
    assert!(new.targets().contains(&"api.example:443".to_owned()));
    assert_eq!(old.requests().len(), 2);
}

#[tokio::test]
async fn the_environment_names_no_proxy_and_no_file_for_keys() {
    let (own, foreign) = (
        EgressProxy::start().await.unwrap(),
        EgressProxy::start().await.unwrap(),
    );
    own.admit("svc", SECRET);
    let table = format!(
        "egress_proxy = {{ url = \"{}\", username = \"svc\", password = {{ env = \"SECRET\" }} }}",
        own.url()
    );
    let mut behind_own = behind(&own, Stage::set().provider(&table).route(&table)).await;
    let mut direct = Stage::set().tls().start().await;
    let (login, api) = (
        direct.identity_provider.server().address(),
        direct.upstream.address(),
    );
    direct.config.push_str(&format!(
        "[resolve]\n\"login.example:443\" = \"{login}\"\n\"api.example:443\" = \"{api}\"\n"
    ));
    for (stage, exceptions) in [(&mut behind_own, "*"), (&mut direct, "")] {
        let ca = stage
            .directory
            .write("ca.pem", stage.authority.certificate_pem());
        let mut environment = vec![("SSL_CERT_FILE", ca.to_str().unwrap())];
        let url = foreign.url();
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            environment.push((name, &url));
        }
        environment.extend([("NO_PROXY", exceptions), ("no_proxy", exceptions)]);
        let keys = stage.directory.path().join("keys");
        environment.push(("SSLKEYLOGFILE", keys.to_str().unwrap()));
        let listen = "drain_delay = \"0s\"\n[log]\nlevel = \"trace\"";
        let mut process = Process::start_in(&environment, stage, listen).await;
        let mut client = Client::connect(process.address).await;
        client.get("/api/").await.expect_ok();
        drop(client);
        process.signal("TERM");
        let log = process.rest().await;
        assert!(!keys.exists(), "the keys of its sessions are nobody's");
        // Nor does its log show the credentials, as they are or as they are sent.
        let sent = own.requests();
        let sent = sent.iter().filter_map(|it| it.field("proxy-authorization"));
        for secret in sent.chain([SECRET]) {
            assert!(!log.contains(secret), "{log}");
        }
    }
    assert_eq!(own.targets(), ["login.example:443", "api.example:443"]);
    assert_eq!(foreign.server().connections(), 0);
}

/// `egress_proxy` as a line of the file.
fn through(proxy: &EgressProxy) -> String {
    format!("egress_proxy = \"{}\"", proxy.url())
}

/// A stage whose names only the proxy can resolve.
async fn behind(proxy: &EgressProxy, setting: Setting) -> Stage {
    let stage = setting.tls().unresolved().start().await;
    know(proxy, &stage);
    stage
}

fn know(proxy: &EgressProxy, stage: &Stage) {
    proxy.resolve(
        "login.example:443",
        stage.identity_provider.server().address(),
    );
    proxy.resolve("api.example:443", stage.upstream.address());
}

/// A request succeeds before long: a fetch that failed is tried again after two seconds at the most.
async fn expect_recovery(stage: &Stage) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while stage.get("/api/").await.status != 200 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}
