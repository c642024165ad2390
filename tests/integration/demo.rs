//! `pillion demo`, as a person starts it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pillion::fake::Systems;

const FILE: &str = include_str!("../../proxy.toml");

/// A folder of its own, with a `proxy.toml` in it; gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, config: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("demo-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("proxy.toml"), config).unwrap();
        Self(folder)
    }

    fn demo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command
            .arg("demo")
            .args(arguments)
            .current_dir(&self.0)
            .env_remove("PILLION_CONFIG");
        command
    }

    fn once(&self) -> Output {
        self.demo(&["--once"]).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn on_ports(app: &str, admin: &str) -> String {
    let moved = FILE
        .replace("127.0.0.1:8080\"", &format!("{app}\""))
        .replace("127.0.0.1:9901\"", &format!("{admin}\""));
    assert_ne!(moved, FILE);
    moved
}

fn anywhere() -> String {
    on_ports("127.0.0.1:0", "127.0.0.1:0")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_tour_goes_as_told_and_says_so() {
    let output = Folder::with("tour", &anywhere()).once();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    for fact in [
        "made up    what should be in environment variable STITCH_CLIENT_ID",
        "made up    what should be in file /run/secrets/stitch/client_secret",
        "token fetched from secure.stitch.money in ",
        "served from cache: no fetches",
        "with it went Merchant-Account: 1234567",
        "401 seen from api.stitch.money",
        "renewed: token fetched in ",
        "replayed: the same ",
        "app saw 200 in ",
        "token fetches: 1",
        "app saw 100 of 100 succeed",
        "because the path has a dot segment",
        "steps, all as told",
    ] {
        assert!(told.contains(fact), "{fact}:\n{told}");
    }
    assert!(!told.contains("FAILED"), "{told}");
    assert!(!told.contains('\x1b'), "colour where there is no terminal");
}

#[test]
fn a_port_that_is_taken_is_no_obstacle() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Folder::with("taken", &on_ports(&address, "127.0.0.1:0")).once();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains(&format!("free ports cannot listen on {address}")),
        "{told}"
    );
}

#[tokio::test]
async fn no_token_and_no_secret_is_told() {
    let told = told(&Folder::with("canary", &anywhere()).once());
    let systems = Systems::start().await.unwrap();
    for secret in [
        systems.stitch.client_secret(),
        systems.stitch.client_id(),
        systems.forage.client_secret(),
        systems.forage.client_id(),
        // Forage's tokens; Stitch's have no mark, but no word is as long as they are.
        "sandbox_",
    ] {
        assert!(!told.contains(secret), "{told}");
    }
    let longest = told
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)))
        .map(str::len)
        .max();
    assert!(longest < Some(40), "{told}");
}

#[test]
fn what_no_stand_in_plays_is_left_out_and_named() {
    let config = anywhere()
        + r#"
[provider.other]
type = "oauth2"
token_endpoint = "https://login.example.com/token"
client_id = "me"
client_secret = { env = "OTHER_SECRET" }

[[route]]
path = "/other"
upstream = "https://api.example.com"
provider = "other"
"#;
    let output = Folder::with("left-out", &config).once();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("left out   provider other: login.example.com has no stand-in"),
        "{told}"
    );
    assert!(
        told.contains("left out   route /other: api.example.com"),
        "{told}"
    );
    assert!(!told.contains("OTHER_SECRET"), "{told}");
}

#[test]
fn with_nothing_to_show_it_fails() {
    let config = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let output = Folder::with("nothing", config).once();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("nothing to show"),
        "{}",
        told(&output)
    );
}

#[test]
fn what_is_not_as_it_should_be_is_told_as_failed() {
    // Without a replay the app sees the 401.
    let config = anywhere().replace(
        "provider = \"stitch\"",
        "provider = \"stitch\"\nreplay = \"never\"",
    );
    let output = Folder::with("failed", &config).once();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("FAILED"), "{told}");
    assert!(told.contains("NOT AS TOLD: app saw 401"), "{told}");
}

#[test]
fn nothing_of_a_demo_leaves_this_machine() {
    // Not even for a provider that is fetched from at start.
    let real = TcpListener::bind("127.0.0.1:0").unwrap();
    real.set_nonblocking(true).unwrap();
    let port = real.local_addr().unwrap().port();
    let config = anywhere()
        + &format!(
            r#"
[provider.other]
type = "oauth2"
token_endpoint = "http://127.0.0.1:{port}/token"
client_id = "me"
client_secret = {{ env = "PATH" }}
warm = true

[[route]]
path = "/other"
upstream = "https://api.example.com"
provider = "other"
"#
        );
    let output = Folder::with("leaves", &config).once();
    assert!(output.status.success(), "{}", told(&output));
    let nobody = real.accept().map(|_| ()).unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

/// A demo that stays up; killed when it is dropped.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn it_stays_up_and_its_curl_commands_work() {
    let folder = Folder::with("up", &anywhere());
    let mut up = Up(folder.demo(&[]).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(up.0.stdout.take().unwrap()).lines();
    let commands: Vec<String> = lines
        .map(Result::unwrap)
        .filter_map(|line| Some(line.trim_start().strip_prefix("$ ")?.to_owned()))
        .take(3)
        .collect();
    let answers: Vec<String> = commands.iter().map(|command| curl(command)).collect();
    assert!(
        answers[0].contains("\"data\""),
        "{} {}",
        commands[0],
        answers[0]
    );
    assert!(
        answers[1].contains("\"results\""),
        "{} {}",
        commands[1],
        answers[1]
    );
    assert!(
        answers[2].contains("pillion_requests_total"),
        "{} {}",
        commands[2],
        answers[2]
    );
    let pid = up.0.id().to_string();
    Command::new("sh")
        .args(["-c", "kill -TERM \"$0\"", &pid])
        .status()
        .unwrap();
    assert!(up.0.wait().unwrap().success());
}

/// What curl would do, on a machine that may not have it.
fn curl(command: &str) -> String {
    let words: Vec<&str> = command.split('\'').collect();
    assert_eq!(words[0], "curl -s ");
    let rest = words[1].strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut fields = String::new();
    let mut body = "";
    for pair in words[2..].chunks_exact(2) {
        match pair[0] {
            " -H " => fields += &format!("{}\r\n", pair[1]),
            " -d " => body = pair[1],
            option => panic!("{option} in {command}"),
        }
    }
    let method = if body.is_empty() { "GET" } else { "POST" };
    let length = body.len();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}
