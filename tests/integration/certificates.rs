//! Servers that are not who they should be, or do not speak TLS as we do: none of them gets a byte of what is meant for another.

use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, NameConstraints, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::stage::{Reply, Stage};

const HOST: &str = "api.example";
/// After the head of a record of TLS 1.1: an alert, `protocol_version`.
const TLS_1_1_ALERT: &[u8] = &[0x15, 3, 2, 0, 2, 2, 70];
/// A whole ServerHello of TLS 1.1, with RSA and AES.
const TLS_1_1_HELLO: &[u8] = &[
    0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0x2f, 0,
];

#[tokio::test]
async fn the_good_one_is_called() {
    let good = chain(|_, _| {});
    assert_eq!(as_upstream(&good).await.0.status, 200);
    assert_eq!(as_token_endpoint(&good).await.0.status, 200);
}

#[tokio::test]
async fn no_bad_certificate_is_called_and_each_is_told_apart() {
    for (what, server, words) in table() {
        let says = format!("api.example {words}");
        let (reply, heard) = as_upstream(&server).await;
        let reply = reply.expect_problem(502, "upstream-tls");
        expect_detail(what, &reply, &says);
        assert_eq!(heard, "", "{what}, as an upstream");

        let (reply, heard) = as_token_endpoint(&server).await;
        let reply = reply.expect_problem(503, "token-unavailable");
        expect_detail(what, &reply, &says);
        assert_eq!(heard, "", "{what}, as a token endpoint");
    }
}

#[track_caller]
fn expect_detail(what: &str, reply: &Reply, says: &str) {
    let document = reply.json();
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{what}: {detail}");
}

/// What is wrong, who presents it, and what is said about it.
fn table() -> Vec<(&'static str, Server, &'static str)> {
    let no_signer = "is not one that its signers were allowed to sign";
    let stranger = "is signed by nobody who is trusted here";
    let weak = "is signed in a way that is not trusted any more";
    let forged = "has a signature that is forged";
    let other_name = "is another host's";
    let old = "speaks neither TLS 1.2 nor TLS 1.3";
    vec![
        (
            "expired",
            chain(|leaf, _| leaf.not_after = date_time_ymd(2020, 2, 29)),
            "expired on Sat, 29 Feb 2020 00:00:00 GMT",
        ),
        (
            "not valid yet",
            chain(|leaf, _| leaf.not_before = date_time_ymd(2999, 1, 1)),
            "is not valid before Tue, 01 Jan 2999 00:00:00 GMT",
        ),
        (
            "another name",
            chain(|leaf, _| name(leaf, &["other.example"])),
            other_name,
        ),
        (
            "a name below",
            chain(|leaf, _| name(leaf, &["*.api.example"])),
            other_name,
        ),
        (
            "the name as the common name only",
            chain(|leaf, _| {
                leaf.subject_alt_names.clear();
                leaf.distinguished_name.push(DnType::CommonName, HOST);
            }),
            other_name,
        ),
        (
            "an address in place of the name",
            chain(|leaf, _| name(leaf, &["127.0.0.1"])),
            other_name,
        ),
        ("self-signed", self_signed(), stranger),
        (
            "of another authority",
            Server {
                trusted: authority("another root").pem(),
                ..chain(|_, _| {})
            },
            stranger,
        ),
        (
            "of an authority that has only the name of ours",
            Server {
                trusted: authority("made-up root").pem(),
                ..chain(|_, _| {})
            },
            forged,
        ),
        (
            "without its intermediate",
            Server {
                sends: 1,
                ..chain(|_, _| {})
            },
            stranger,
        ),
        (
            "for clients only",
            chain(|leaf, _| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "is not one for servers",
        ),
        (
            "beyond the names that its issuer may sign",
            chain(|_, issuer| {
                issuer.name_constraints = Some(NameConstraints {
                    permitted_subtrees: vec![GeneralSubtree::DnsName("other.example".to_owned())],
                    excluded_subtrees: Vec::new(),
                });
            }),
            no_signer,
        ),
        (
            "signed by one that is no authority",
            chain(|_, issuer| issuer.is_ca = IsCa::ExplicitNoCa),
            no_signer,
        ),
        (
            "an authority itself",
            chain(|leaf, _| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            no_signer,
        ),
        (
            "signed with SHA-1",
            kept(&[include_str!("testdata/sha1-leaf.pem")]),
            weak,
        ),
        (
            "signed with RSA of 1024 bits",
            kept(&[
                include_str!("testdata/rsa1024-leaf.pem"),
                include_str!("testdata/rsa1024-intermediate.pem"),
            ]),
            forged,
        ),
        ("TLS 1.1 by its alert", bytes(TLS_1_1_ALERT), old),
        ("TLS 1.1 by its hello", bytes(TLS_1_1_HELLO), old),
        (
            "plaintext",
            bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            "does not speak TLS",
        ),
        ("nothing", bytes(b""), "broke off the TLS handshake"),
    ]
}

/// Somebody who answers for `api.example`.
struct Server {
    /// In the `ca` file of whoever calls it.
    trusted: String,
    /// Its own certificate first, and its key.
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    /// How many of the certificates it presents.
    sends: usize,
    /// What it says in place of a handshake.
    says: Option<&'static [u8]>,
}

/// A good chain of three, the last of them trusted, but for what `change` does to its leaf and its intermediate.
fn chain(change: impl FnOnce(&mut CertificateParams, &mut CertificateParams)) -> Server {
    let root = authority("made-up root");
    let mut leaf = CertificateParams::new([HOST.to_owned()]).unwrap();
    leaf.distinguished_name = DistinguishedName::new();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut between = authority_params("made-up intermediate");
    change(&mut leaf, &mut between);
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &between).unwrap();
    Server {
        trusted: root.pem(),
        certificates: vec![leaf.der().clone(), between.der().clone()],
        key: Some(PrivateKeyDer::try_from(key.serialize_der()).unwrap()),
        sends: 2,
        says: None,
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(authority_params(name), key).unwrap()
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn name(leaf: &mut CertificateParams, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    leaf.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
}

fn self_signed() -> Server {
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([HOST.to_owned()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    Server {
        certificates: vec![own.der().clone()],
        key: Some(PrivateKeyDer::try_from(key.serialize_der()).unwrap()),
        sends: 1,
        ..chain(|_, _| {})
    }
}

/// What no library of today signs any more: made once, by OpenSSL, and good for a hundred years.
fn kept(pems: &[&str]) -> Server {
    let certificates = pems
        .iter()
        .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let certificates: Vec<_> = certificates.map(Result::unwrap).collect();
    let key = include_bytes!("testdata/weak-leaf-key.pem");
    Server {
        trusted: include_str!("testdata/weak-root.pem").to_owned(),
        sends: certificates.len(),
        certificates,
        key: Some(PrivateKeyDer::from_pem_slice(key).unwrap()),
        says: None,
    }
}

fn bytes(says: &'static [u8]) -> Server {
    Server {
        says: Some(says),
        ..chain(|_, _| {})
    }
}

async fn as_upstream(server: &Server) -> (Reply, String) {
    let running = server.start().await;
    let setting = Stage::set();
    let ca = setting.directory().write("ca.pem", &server.trusted);
    let stage = setting
        .top(&running.resolve())
        .upstream_at(format!("https://{HOST}"))
        .route(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
        .start()
        .await;
    (stage.post("/api/CNRY", "CNRY").await, running.heard())
}

async fn as_token_endpoint(server: &Server) -> (Reply, String) {
    let running = server.start().await;
    let setting = Stage::set().open();
    let ca = setting.directory().write("ca.pem", &server.trusted);
    let stage = setting
        .top(&running.resolve())
        .provider_at(format!("https://{HOST}/token"))
        .provider(&format!("tls = {{ ca = \"{}\" }}", ca.display()))
        .start()
        .await;
    (stage.post("/api/CNRY", "CNRY").await, running.heard())
}

impl Server {
    async fn start(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<String>>::default();
        let log = Arc::clone(&heard);
        let (says, tls) = (self.says, self.acceptor());
        let serving = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                match says {
                    Some(says) => greet(tcp, says, &log).await,
                    None => serve(tcp, &tls, &log).await,
                }
            }
        });
        Running {
            port,
            heard,
            serving,
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let presented = self.certificates.iter().take(self.sends).cloned().collect();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(presented, self.key.as_ref().unwrap().clone_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers its first request in a way that suits an upstream and a token endpoint, and tells what it was.
async fn serve(tcp: TcpStream, tls: &TlsAcceptor, heard: &Mutex<String>) {
    let Ok(mut stream) = tls.accept(tcp).await else {
        return;
    };
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.unwrap_or(0);
    heard
        .lock()
        .unwrap()
        .push_str(&String::from_utf8_lossy(&buffer[..read]));
    let token = r#"{"access_token":"CNRY","token_type":"Bearer","expires_in":3600}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        token.len()
    );
    stream.write_all((head + token).as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

/// Says something that is no handshake, and hears whether anything but one comes back.
async fn greet(mut tcp: TcpStream, says: &[u8], heard: &Mutex<String>) {
    let mut hello = vec![0; 4096];
    let read = tcp.read(&mut hello).await.unwrap_or(0);
    assert_eq!(hello.first(), Some(&0x16), "a handshake, in {read} bytes");
    tcp.write_all(says).await.ok();
    tcp.shutdown().await.ok();
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).await.ok();
    // An alert is all that may follow.
    if rest.first().is_some_and(|kind| *kind != 0x15) {
        heard
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(&rest));
    }
}

/// A [`Server`] that listens. Dropping it ends it.
struct Running {
    port: u16,
    heard: Arc<Mutex<String>>,
    serving: JoinHandle<()>,
}

impl Running {
    fn resolve(&self) -> String {
        format!(
            "resolve = {{ \"{HOST}:443\" = \"127.0.0.1:{}\" }}",
            self.port
        )
    }

    /// What it has been told, decrypted.
    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
