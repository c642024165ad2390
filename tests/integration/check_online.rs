//! `pillion check --online` asks every provider that can be asked, and looks at client certificates.

use http::StatusCode;
use pillion::cli::check::online::online;
use pillion::cli::run::Overlay;
use pillion::fake::Fault;
use pillion::provider::secret::Secrets;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::stage::{SECRET, Setting, Stage, pillion};

const MORE: &str = r#"
[provider.of-someone]
type = "oauth2"
token_endpoint = "PROVIDER"
client_id = "app"
client_secret = { env = "SECRET" }
inputs = ["user", "team"]
params = { user = "{input.user}", team = "{input.team}" }

[provider.rotating]
type = "oauth2"
grant_type = "refresh_token"
token_endpoint = "PROVIDER"
client_id = "app"
client_secret = { env = "SECRET" }
refresh_token = { env = "KEY" }

[provider.key]
type = "static"
secret = { env = "KEY" }

[[route]]
path = "/users/{user}/{team}"
upstream = "UPSTREAM"
provider = "of-someone"
inputs = { user = "{path.user}", team = "{path.team}" }

[[route]]
path = "/rotating"
upstream = "UPSTREAM"
provider = "rotating"

[[route]]
path = "/key"
upstream = "UPSTREAM"
provider = "key"
"#;

const SKIPPED: &str = "\
skipped   of-someone: it needs inputs, try `pillion token of-someone user=... team=...`
skipped   rotating: the refresh token of rotating may be good for one use
ok        key: good until it is changed
";

#[tokio::test]
async fn every_provider_that_can_be_asked_is_asked_once() {
    let stage = Stage::set()
        .provider("scope = [\"read\"]")
        .more(MORE)
        .start()
        .await;
    let (told, is_good) = check(&stage).await;
    let (first, rest) = told.split_once('\n').unwrap();
    assert!(
        first.starts_with("ok        idp: good for 1h, until "),
        "{told}"
    );
    assert_eq!(
        rest,
        format!("            scope read, as asked for\n{SKIPPED}")
    );
    assert!(is_good && !told.contains(SECRET));
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_provider_that_fails_is_told_with_what_to_do_and_the_others_are_asked_all_the_same() {
    let stage = Stage::set().more(MORE).start().await;
    let failing = Fault::status(StatusCode::UNAUTHORIZED);
    stage.identity_provider.faults().always(failing);
    let (told, is_good) = check(&stage).await;
    let failed =
        "failed    idp: the provider refused: it answered 401\n            hint: check the secret";
    assert!(told.starts_with(failed), "{told}");
    assert!(told.ends_with(SKIPPED) && !is_good, "{told}");
}

#[tokio::test]
async fn client_certificates_are_told_with_the_days_that_are_left() {
    for (year, told_of, is_good) in [
        (4000, "good for 7", true),
        (2001, "it has ended, Mon, 01 Jan 2001 00:00:00 GMT", false),
    ] {
        let setting = Stage::set().tls();
        let setting = with_certificate(setting, year);
        let stage = setting.start().await;
        let (told, all_good) = check(&stage).await;
        let path = stage.directory.path().join("client.pem");
        let path = path.display();
        let certificates: Vec<&str> = told
            .lines()
            .filter(|line| line.contains("client.pem"))
            .collect();
        let label = if is_good { "ok" } else { "failed" };
        assert_eq!(certificates.len(), 1, "{told}");
        assert!(
            certificates[0].starts_with(&format!("{label:10}{path}: {told_of}")),
            "{told}"
        );
        assert_eq!(all_good, is_good, "{told}");
    }
}

/// The route shows it to the upstream, the provider to the token endpoint.
fn with_certificate(setting: Setting, year: i32) -> Setting {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let cert = setting.directory().write("client.pem", &certificate.pem());
    let key = setting
        .directory()
        .write("client.key", &key.serialize_pem());
    let tls = format!("tls = {{ cert = {cert:?}, key = {key:?} }}");
    setting.provider(&tls).route(&tls)
}

#[tokio::test]
async fn its_exit_code_tells_whether_all_is_well() {
    let stage = Stage::new().await;
    let check = || {
        let mut command = pillion();
        command.args(["check", "--online"]);
        command.arg(stage.directory.path().join("proxy.toml"));
        // The stage goes on while it runs.
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = check().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"ok        idp: good for 1h"));
    stage
        .identity_provider
        .faults()
        .always(Fault::status(StatusCode::BAD_GATEWAY));
    assert_eq!(check().await.unwrap().status.code(), Some(1));
    stage.directory.write("proxy.toml", "CNRY");
    assert_eq!(check().await.unwrap().status.code(), Some(1));
}

async fn check(stage: &Stage) -> (String, bool) {
    let login = ("login.example".to_owned(), 443);
    let overlay = Overlay {
        secrets: Secrets::supplied(|_| Some(SECRET.to_owned())),
        resolve: vec![(login, stage.identity_provider.server().address())],
        trust: vec![stage.authority.certificate_der()],
        ..Overlay::default()
    };
    let mut told = Vec::new();
    let path = stage.directory.path().join("proxy.toml");
    let is_good = online(&path, overlay, &mut told).await.unwrap();
    (String::from_utf8(told).unwrap(), is_good)
}
