//! The program itself: what it prints, how it stops, and with which code.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use pillion::fake::{Authority, Fault};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::stage::{Client, Directory, Process, SECRET, Stage, as_user, pillion};

#[tokio::test]
async fn asked_to_stop_it_finishes_what_is_under_way() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "drain_delay = \"300ms\"").await;
    let mut client = Client::connect(process.address).await;
    client.get("/api/").await.expect_ok();
    let slow = Fault::Delay(Duration::from_millis(800));
    stage.upstream.faults().once(slow);
    let under_way = tokio::spawn(async move { client.get("/api/slow").await });
    stage
        .until(|stage| stage.upstream.server().requests() == 2)
        .await;
    process.signal("TERM");
    process.line("stopping").await;
    // The app may not know yet: it is still let in, and told to go.
    let reply = Client::connect(process.address).await.get("/api/").await;
    assert_eq!(reply.expect_ok().field("connection"), Some("close"));
    let reply = under_way.await.unwrap().expect_ok();
    assert_eq!(reply.field("connection"), Some("close"));
    assert_eq!(process.end().await, Some(0));
    assert!(TcpStream::connect(process.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_it_from_stopping() {
    let stage = Stage::new().await;
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&stage, "drain_delay = \"0s\"").await;
        let mut used = Client::connect(process.address).await;
        used.get("/api/").await.expect_ok();
        let _unused = TcpStream::connect(process.address).await.unwrap();
        let began = Instant::now();
        process.signal(signal);
        assert_eq!(process.end().await, Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{signal}");
    }
}

#[tokio::test]
async fn what_does_not_end_is_ended_after_the_drain_timeout() {
    let stage = Stage::new().await;
    let lines = "drain_delay = \"0s\"\ndrain_timeout = \"500ms\"";
    let mut process = Process::start(&stage, lines).await;
    stage.upstream.faults().once(Fault::Hang);
    let mut client = Client::connect(process.address).await;
    let hanging = tokio::spawn(async move {
        let get = crate::stage::request(http::Method::GET, "/api/");
        let get = get.body(crate::stage::full("")).unwrap();
        client.try_send(get).await
    });
    stage
        .until(|stage| stage.upstream.server().requests() == 1)
        .await;
    let began = Instant::now();
    process.signal("TERM");
    assert_eq!(process.end().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn a_post_to_quitquitquit_stops_it() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "drain_delay = \"0s\"").await;
    let mut admin = Client::connect(process.admin).await;
    admin.post("/quitquitquit", "").await.expect_ok();
    assert_eq!(process.end().await, Some(0));
}

#[tokio::test]
async fn a_hang_up_loads_the_configuration_again() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "").await;
    let moved = process.config.replace("path = \"/api\"", "path = \"/new\"");
    process.directory.write("proxy.toml", &moved);
    process.signal("HUP");
    process.line("configuration loaded").await;
    let mut client = Client::connect(process.address).await;
    client.get("/new/").await.expect_ok();
    process.directory.write("proxy.toml", "CNRY = \"CNRY");
    process.signal("HUP");
    let told = process.line("the configuration is not loaded").await;
    assert!(!told.contains("CNRY"), "{told}");
    client.get("/new/").await.expect_ok();
}

#[tokio::test]
async fn its_log_shows_no_secret() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "[log]\nlevel = \"trace\"").await;
    let mut client = Client::connect(process.address).await;
    client
        .post("/api/CNRY-path?CNRY-query", "CNRY-body")
        .await
        .expect_ok();
    let said = stage.upstream.last_request().unwrap();
    let token = said.field("authorization").unwrap().replace("Bearer ", "");
    stage.identity_provider.revoke_all();
    let refused = Fault::raw("text/html", "CNRY").with_field(
        http::header::LOCATION,
        http::HeaderValue::from_static("https://CNRY.example"),
    );
    stage.identity_provider.faults().once(refused);
    client.get("/api/x").await.expect_status(401);
    stage
        .upstream
        .faults()
        .once(Fault::status(StatusCode::IM_A_TEAPOT));
    process.signal("TERM");
    process.end().await;
    let log = process.rest().await;
    assert!(log.contains("\"request\""), "{log}");
    for secret in ["CNRY", SECRET, &token] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn a_bad_configuration_is_told_and_is_code_1() {
    let directory = Directory::new();
    let path = directory.write("proxy.toml", "[[rout]]\npath = \"/\"\n");
    for command in [&["run"][..], &["check"], &[]] {
        let output = run(command, &path);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("proxy.toml:1"), "{told}");
        assert!(told.contains("did you mean"), "{told}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_missing_file_is_code_2() {
    for command in [&["run"][..], &["check"], &[]] {
        let output = run(command, Path::new("/nowhere/proxy.toml"));
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("/nowhere/proxy.toml"), "{told}");
    }
    let output = pillion().arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_good_configuration_is_told_on_stdout() {
    let directory = Directory::new();
    let text = "[provider.p]\ntype = \"static\"\nsecret = { env = \"KEY\" }\n\
        [[route]]\nprovider = \"p\"\nupstream = \"https://api.example\"\n";
    let output = run(&["check"], &directory.write("proxy.toml", text));
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.ends_with("proxy.toml: good (1 provider, 1 route)\n"),
        "{told}"
    );
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = Directory::new();
    let text = format!(
        "[listen]\naddress = \"{address}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [provider.p]\ntype = \"static\"\nsecret = {{ env = \"KEY\" }}\n\
         [[route]]\nprovider = \"p\"\nupstream = \"https://api.example\"\n"
    );
    let output = run(&[], &directory.write("proxy.toml", &text));
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&address.to_string()), "{told}");
    assert!(told.contains("hint: "), "{told}");
}

fn run(command: &[&str], config: &Path) -> Output {
    let mut pillion = pillion();
    pillion.args(command).arg("--config").arg(config);
    pillion.output().unwrap()
}

#[tokio::test]
async fn a_scope_that_the_token_lacks_is_logged_once_with_where_to_add_it() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "drain_delay = \"0s\"").await;
    let mut client = Client::connect(process.address).await;
    for scopes in ["read write", "read write", "admin"] {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"");
        let forbidden = Fault::status(StatusCode::FORBIDDEN)
            .with_field(WWW_AUTHENTICATE, challenge.parse().unwrap());
        stage.upstream.faults().once(forbidden);
        client.get("/api/").await.expect_status(403);
    }
    drop(client);
    process.signal("TERM");
    let log = process.rest().await;
    let told: Vec<_> = log
        .lines()
        .filter(|it| it.contains("lacks a scope"))
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    for (line, scopes) in told.into_iter().zip(["read write", "admin"]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["scopes"], scopes);
        assert_eq!(
            (&line["route"], &line["provider"]),
            (&"api".into(), &"idp".into())
        );
    }
}

#[tokio::test]
async fn what_a_provider_says_of_a_refusal_is_in_the_log_without_the_secrets_that_it_repeats() {
    let lines = "refused = { \"/code\" = [17] }\nerror = \"/text\"";
    let stage = Stage::with_provider(lines).await;
    let text = format!("no app with the secret {SECRET}");
    let refusal = json!({ "code": 17, "text": text });
    let refusal = Fault::json(StatusCode::BAD_REQUEST, &refusal);
    stage.identity_provider.faults().once(refusal);
    let mut process = Process::start(&stage, "").await;
    let mut client = Client::connect(process.address).await;
    let reply = client.get("/api/").await;
    let reply = reply.expect_problem(502, "token-refused");
    assert!(!format!("{reply:?}").contains("no app"), "{reply:?}");
    let told = process.line("token fetch failed").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["outcome"], "refused");
    assert_eq!(told["error"], "the provider refused: its `/code` says so");
    assert_eq!(told["said"], "no app with the secret ***");
}

/// Root may look into any process; so the program and who looks at it are somebody else where the test is root.
#[tokio::test]
async fn nobody_of_the_same_user_looks_into_its_memory_and_it_leaves_no_core() {
    let stage = Stage::new().await;
    let process = Process::start_as(NOBODY, &stage).await;
    let of_process = format!("/proc/{}", process.child.id());
    for file in ["mem", "environ", "maps"] {
        let seen = as_user(NOBODY, "cat")
            .arg(format!("{of_process}/{file}"))
            .output()
            .unwrap();
        let told = String::from_utf8(seen.stderr).unwrap();
        assert!(told.contains("Permission denied"), "{file}: {told}");
        assert!(seen.stdout.is_empty(), "{file}");
    }
    expect_no_core(&process);
    let command_line = fs::read_to_string(format!("{of_process}/cmdline")).unwrap();
    assert!(!command_line.contains("CNRY"), "{command_line}");
}

#[tokio::test]
async fn aborted_where_cores_are_wanted_it_leaves_none() {
    let stage = Stage::new().await;
    let place = Directory::new();
    let mut wanting = Command::new("sh");
    wanting
        .args(["-c", "ulimit -c \"$(ulimit -H -c)\" && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_pillion"))
        .env("SECRET", SECRET)
        .current_dir(place.path());
    let mut process = Process::launch(wanting, &stage.config, "").await;
    expect_no_core(&process);
    process.signal("ABRT");
    process.end().await;
    let ended = process.child.wait().unwrap();
    assert_eq!(ended.signal(), Some(6), "{ended}");
    assert!(!ended.core_dumped(), "{ended}");
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_secret_that_is_missing_is_told_at_the_start_and_keeps_nobody_from_starting() {
    let stage = Stage::set()
        .more(&key_in("absent", "/nowhere/key"))
        .start()
        .await;
    let mut without = pillion();
    without.env_remove("SECRET");
    let mut process = Process::launch(without, &stage.config, "drain_delay = \"0s\"").await;
    let mut client = Client::connect(process.address).await;
    client.get("/absent/").await.expect_status(502);
    drop(client);
    process.signal("TERM");
    let log = process.rest().await;
    assert_eq!(process.end().await, Some(0));
    let told = lines_with(&log, "a secret cannot be read");
    let expected = [
        json!({
            "provider": "idp",
            "error": "environment variable SECRET is not set",
            "advice": "set SECRET in the environment of pillion, and start it again",
        }),
        json!({
            "provider": "absent",
            "error": "file /nowhere/key cannot be read: there is no such file",
            "advice": "mount the file where pillion can read it, or correct its path",
        }),
    ];
    assert_eq!(told.len(), expected.len(), "{log}");
    for (told, expected) in told.iter().zip(&expected) {
        for name in ["provider", "error", "advice"] {
            assert_eq!(told[name], expected[name], "{told}");
        }
    }
}

#[tokio::test]
async fn a_secret_that_every_user_may_read_is_told_at_the_start_unless_the_platform_mounts_it_so() {
    let setting = Stage::set();
    let directory = setting.directory();
    let file = |name: &str, mode| {
        let path = directory.write(name, SECRET);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    for (folder, mode) in [("private", 0o700), ("..2026_11_22", 0o755)] {
        let path = directory.path().join(folder);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let open = file("open", 0o644);
    file("..2026_11_22/key", 0o644);
    symlink("..2026_11_22", directory.path().join("..data")).unwrap();
    let mounted = directory.path().join("mounted");
    symlink("..data/key", &mounted).unwrap();
    let keys = [
        key_in("closed", &file("closed", 0o640)),
        key_in("private", &file("private/key", 0o644)),
        key_in("mounted", &mounted.display().to_string()),
        key_in("open", &open),
    ]
    .concat();
    let stage = setting.more(&keys).start().await;
    let mut process = Process::start(&stage, "drain_delay = \"0s\"").await;
    process.signal("TERM");
    let log = process.rest().await;
    let told = lines_with(&log, "may read a secret");
    assert_eq!(told.len(), 1, "{log}");
    assert_eq!(told[0]["level"], "WARN");
    assert_eq!(told[0]["provider"], "open");
    assert_eq!(told[0]["file"], open);
    let advice = format!("let the user that pillion runs as own it, and `chmod 400 {open}`");
    assert_eq!(told[0]["advice"], advice);
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn what_it_takes_to_connect_is_looked_at_too_and_again_when_the_file_changes() {
    let setting = Stage::set();
    let certificate = Authority::new().unwrap();
    let certificate = certificate.client_certificate("pillion").unwrap();
    let cert = setting
        .directory()
        .write("cert.pem", &certificate.certificate_pem);
    let key = setting.directory().write("key.pem", &certificate.key_pem);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let way = format!(
        "[[route]]\nname = \"bank\"\nprovider = \"idp\"\npath = \"/bank\"\nupstream = \"https://api.bank.example\"\n\
         tls = {{ cert = \"{}\", key = \"{}\" }}\n\
         egress_proxy = {{ url = \"http://proxy.bank.example:3128\", username = \"svc\", password = {{ env = \"NO_PASSWORD\" }} }}\n",
        cert.display(),
        key.display()
    );
    let stage = setting.start().await;
    let mut process = Process::start(&stage, "drain_delay = \"0s\"").await;
    process
        .directory
        .write("proxy.toml", &format!("{}{way}", process.config));
    process.signal("HUP");
    process.line("configuration loaded").await;
    process.signal("TERM");
    let log = process.rest().await;
    let unreadable = lines_with(&log, "a secret cannot be read");
    let open = lines_with(&log, "may read a secret");
    assert_eq!((unreadable.len(), open.len()), (1, 1), "{log}");
    for told in [&unreadable[0], &open[0]] {
        assert_eq!(told["route"], "bank");
        assert!(told.get("provider").is_none(), "{told}");
    }
    assert_eq!(unreadable[0]["key"], "egress_proxy");
    assert_eq!(
        unreadable[0]["error"],
        "environment variable NO_PASSWORD is not set"
    );
    assert_eq!(open[0]["key"], "tls");
    assert_eq!(open[0]["file"], key.display().to_string());
}

/// A provider of the key in this file, and a route, both of this name.
fn key_in(name: &str, file: &str) -> String {
    format!(
        "[provider.{name}]\ntype = \"static\"\nsecret = {{ file = \"{file}\" }}\n\
         [[route]]\nname = \"{name}\"\nprovider = \"{name}\"\npath = \"/{name}\"\nupstream = \"UPSTREAM\"\n"
    )
}

fn lines_with(log: &str, part: &str) -> Vec<Value> {
    log.lines()
        .filter(|it| it.contains(part))
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

/// Its limit is none, and nobody can raise it again.
fn expect_no_core(process: &Process) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits
        .lines()
        .find(|it| it.starts_with("Max core file size"))
        .unwrap();
    let soft_and_hard: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(soft_and_hard, ["0", "0"], "{core}");
}

const NOBODY: u32 = 65534;
