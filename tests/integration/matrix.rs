//! Every token, secret and certificate against every place that pillion calls: each sees its own, and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::LOCATION;
use http::{Method, StatusCode};
use pillion::fake::{Authority, EgressProxy, Fault, Received, Upstream};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::stage::{Client, Directory, Stage, full, request};

/// A provider with its client, and the API that takes its tokens.
struct System {
    name: &'static str,
    login: Upstream,
    api: Upstream,
    /// How both are reached.
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    Direct,
    Tunnel,
}

impl System {
    async fn start(name: &'static str, way: Way, authority: &Authority) -> Self {
        let tls = |host: &str| match way {
            Way::Direct => None,
            Way::Tunnel => Some(authority.server_config(&[host]).unwrap()),
        };
        let [login, api] = ["login", "api"].map(|part| tls(&format!("{part}.{name}.example")));
        let system = Self {
            name,
            login: Upstream::open(login).await.unwrap(),
            api: Upstream::open(api).await.unwrap(),
            way,
        };
        system.give(1);
        system
    }

    /// From now on it gives this token.
    fn give(&self, generation: u32) {
        let answer = json!({ "access_token": self.token(generation), "expires_in": 3600 });
        let answer = Fault::json(StatusCode::OK, &answer);
        self.login.faults().always(answer);
    }

    fn token(&self, generation: u32) -> String {
        format!("CNRY-{}-token-{generation}", self.name)
    }

    fn secret(&self) -> String {
        format!("CNRY-{}-secret", self.name)
    }

    /// Where it is called, as the file says it.
    fn urls(&self) -> [String; 2] {
        match self.way {
            Way::Direct => [&self.login, &self.api].map(|it| format!("http://{}", it.address())),
            Way::Tunnel => ["login", "api"].map(|it| format!("https://{it}.{}.example", self.name)),
        }
    }

    fn tables(&self, directory: &Directory, tunnel: &str) -> String {
        let name = self.name;
        let [login, api] = self.urls();
        let secret = directory.write(&format!("{name}-secret"), &self.secret());
        let secret = secret.display();
        let way = match self.way {
            Way::Direct => "",
            Way::Tunnel => tunnel,
        };
        format!(
            "[provider.{name}]\ntype = \"oauth2\"\ntoken_endpoint = \"{login}/token\"\nclient_id = \"{name}\"\n\
             client_secret = {{ file = \"{secret}\" }}\nclient_auth = \"client_secret_post\"\n{way}\
             [[route]]\nname = \"{name}\"\nprovider = \"{name}\"\npath = \"/{name}\"\nupstream = \"{api}\"\n{way}"
        )
    }
}

#[tokio::test]
async fn every_token_and_secret_goes_to_its_own_system_and_to_no_other() {
    let authority = Authority::new().unwrap();
    let egress = EgressProxy::start().await.unwrap();
    egress.admit("svc", EGRESS_PASSWORD);
    let systems = [
        System::start("birch", Way::Direct, &authority).await,
        System::start("cedar", Way::Direct, &authority).await,
        System::start("maple", Way::Tunnel, &authority).await,
        System::start("aspen", Way::Tunnel, &authority).await,
    ];
    let setting = Stage::set();
    let directory = setting.directory();
    let ca = directory.write("ca.pem", authority.certificate_pem());
    let password = directory.write("egress-password", EGRESS_PASSWORD);
    let tunnel = format!(
        "egress_proxy = {{ url = \"{}\", username = \"svc\", password = {{ file = \"{}\" }} }}\n\
         tls = {{ ca = \"{}\" }}\n",
        egress.url(),
        password.display(),
        ca.display()
    );
    let mut tables = String::new();
    for system in &systems {
        tables += &system.tables(directory, &tunnel);
        for (part, server) in [("login", &system.login), ("api", &system.api)] {
            let authority = format!("{part}.{}.example:443", system.name);
            egress.resolve(&authority, server.address());
        }
    }
    let stage = setting.more(&tables).start().await;
    stage.get("/api/").await.expect_ok();

    // Each provider first points at the next one, with the client's secret in hand.
    for (system, next) in with_next(&systems) {
        let elsewhere = redirect(&next.urls()[0]);
        system.login.faults().once(elsewhere);
        let reply = stage.get(&format!("/{}/x", system.name)).await;
        assert!(reply.status >= 500, "{reply:?}");
    }
    for system in &systems {
        let path = format!("/{}/x", system.name);
        let deadline = Instant::now() + Duration::from_secs(20);
        while stage.get(&path).await.status != 200 {
            assert!(Instant::now() < deadline, "{path} is never well again");
            sleep(Duration::from_millis(50)).await;
        }
    }
    for (system, next) in with_next(&systems) {
        let path = format!("/{}/x", system.name);
        // A replay.
        system.give(2);
        let refusal = Fault::status(StatusCode::UNAUTHORIZED);
        system.api.faults().once(refusal);
        stage.post(&path, "body").await.expect_ok();
        let replayed = system.api.last_request().unwrap();
        let carried = format!("Bearer {}", system.token(2));
        assert_eq!(replayed.field("authorization"), Some(&*carried));
        // A redirect, which is the app's to follow.
        system.api.faults().once(redirect(&next.urls()[1]));
        stage.get(&path).await.expect_status(307);
        // A connection that breaks under a request.
        system.api.faults().once(Fault::Reset);
        stage.get(&path).await;
        // An app that names another host, in every place where one can stand.
        let [_, url] = next.urls();
        let (_, host) = url.split_once("://").unwrap();
        for asked in [
            request(Method::GET, &path).header("x-forwarded-host", host),
            request(Method::GET, &format!("{path}?{url}/{}", next.name)),
            http::Request::get(&path).header("host", host),
            http::Request::get(format!("{url}{path}")).header("host", host),
        ] {
            let mut client = Client::connect(stage.address()).await;
            client.send(asked.body(full("")).unwrap()).await;
        }
    }
    each_has_its_own(&systems, &egress);
    let seen = stage.upstream.requests();
    assert!(seen.iter().all(|it| !said(it).contains("CNRY")), "{seen:?}");
    let before = egress.targets().len();
    assert!(before >= 4, "{before} tunnels");

    // The paths of two systems change places in the file.
    let config = stage
        .config
        .replace("path = \"/birch\"", "path = \"/place\"")
        .replace("path = \"/maple\"", "path = \"/birch\"")
        .replace("path = \"/place\"", "path = \"/maple\"");
    stage.directory.replace("proxy.toml", &config);
    stage.running.config.reload();
    stage
        .until_metric("pillion_config_reloads_total{outcome=\"ok\"}", |it| {
            it > 0.0
        })
        .await;
    for (path, system) in [
        ("/birch/swapped", &systems[2]),
        ("/maple/swapped", &systems[0]),
    ] {
        stage.get(path).await.expect_ok();
        let seen = system.api.last_request().unwrap();
        assert_eq!(seen.path(), "/swapped");
    }
    each_has_its_own(&systems, &egress);
}

const EGRESS_PASSWORD: &str = "CNRY-egress-password";

fn with_next(systems: &[System]) -> impl Iterator<Item = (&System, &System)> {
    systems.iter().zip(systems.iter().cycle().skip(1))
}

fn redirect(to: &str) -> Fault {
    Fault::status(StatusCode::TEMPORARY_REDIRECT).with_field(LOCATION, to.parse().unwrap())
}

/// Nowhere was anything seen that is secret and another's.
#[track_caller]
fn each_has_its_own(systems: &[System], egress: &EgressProxy) {
    for system in systems {
        for (server, own) in [
            (&system.login, vec![system.secret()]),
            (&system.api, vec![system.token(1), system.token(2)]),
        ] {
            let requests = server.requests();
            for own in &own {
                let carries = |it: &Received| said(it).contains(own.as_str());
                assert!(requests.iter().any(carries), "{own} has not been used");
            }
            for request in &requests {
                let mut rest = said(request);
                for own in &own {
                    rest = rest.replace(own.as_str(), "");
                }
                assert!(!rest.contains("CNRY"), "{} was sent {rest}", system.name);
                assert!(!rest.contains(&proxy_credentials()), "{rest}");
            }
        }
    }
    for request in egress.requests() {
        let asked = said(&request);
        assert!(asked.contains(&proxy_credentials()), "{asked}");
        assert!(!asked.contains("CNRY"), "{asked}");
    }
    let heard = egress.heard();
    assert!(memchr::memmem::find(&heard, b"CNRY").is_none());
}

fn proxy_credentials() -> String {
    STANDARD.encode(format!("svc:{EGRESS_PASSWORD}"))
}

/// All of a request, as text.
fn said(request: &Received) -> String {
    let body = String::from_utf8_lossy(&request.body);
    format!(
        "{} {:?} {body} {:?}",
        request.target, request.fields, request.trailers
    )
}

#[tokio::test]
async fn a_client_certificate_is_shown_by_its_own_route_only_on_new_and_kept_connections() {
    let authority = Authority::new().unwrap();
    let mutual = authority.mutual_server_config(&["127.0.0.1"]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<Shown>>>::default();
    let server = tokio::spawn(ask_who(
        listener,
        TlsAcceptor::from(mutual),
        Arc::clone(&seen),
    ));
    let setting = Stage::set();
    let directory = setting.directory();
    let ca = directory.write("ca.pem", authority.certificate_pem());
    let mut routes = String::new();
    let mut certificates = HashMap::new();
    for name in ["birch", "cedar"] {
        let client = authority.client_certificate(name).unwrap();
        let cert = directory.write(&format!("{name}.crt"), &client.certificate_pem);
        let key = directory.write(&format!("{name}.key"), &client.key_pem);
        routes += &format!(
            "[[route]]\nname = \"{name}\"\nprovider = \"idp\"\npath = \"/{name}\"\nupstream = \"https://{address}/{name}\"\n\
             tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n",
            ca.display(),
            cert.display(),
            key.display()
        );
        let der = CertificateDer::from_pem_slice(client.certificate_pem.as_bytes()).unwrap();
        certificates.insert(format!("/{name}"), der.to_vec());
    }
    let stage = setting.more(&routes).start().await;
    let mut client = stage.client().await;
    for number in 0..6 {
        for path in ["/birch", "/cedar"] {
            client.get(&format!("{path}?{number}")).await.expect_ok();
        }
    }
    server.abort();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 12);
    for shown in seen.iter() {
        let own = &certificates[&shown.path];
        assert!(*own == shown.certificate, "{} is another's", shown.path);
    }
    // Some connections were used again, and some were new ones of a session that was known.
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        assert!(seen.iter().any(|it| it.handshake == kind), "{kind:?}");
    }
    assert!(seen.iter().any(|it| it.is_kept));
}

/// A request, and who is behind its connection.
struct Shown {
    path: String,
    certificate: Vec<u8>,
    handshake: HandshakeKind,
    /// It was not the first of its connection.
    is_kept: bool,
}

/// Answers two requests on each connection.
async fn ask_who(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Mutex<Vec<Shown>>>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            let mut stream = tls.accept(tcp).await.unwrap();
            for (is_kept, connection) in [(false, "keep-alive"), (true, "close")] {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split([' ', '?']).nth(1).unwrap();
                let (_, session) = stream.get_ref();
                seen.lock().unwrap().push(Shown {
                    path: path.to_owned(),
                    certificate: session.peer_certificates().unwrap()[0].to_vec(),
                    handshake: session.handshake_kind().unwrap(),
                    is_kept,
                });
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            stream.shutdown().await.ok();
        });
    }
}
