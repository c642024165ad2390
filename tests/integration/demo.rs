//! `pillion demo`, as a person starts it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use pillion::fake::Systems;

use crate::stage::Terminal;

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

/// What is told of the file as it is; once for all who only read it.
static TOUR: LazyLock<String> = LazyLock::new(|| {
    let output = Folder::with("tour", &anywhere()).once();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    told
});

#[test]
fn the_tour_goes_as_told_and_says_so() {
    let told = &*TOUR;
    for fact in [
        "made up    what should be in environment variable STITCH_CLIENT_ID",
        "made up    what should be in file /run/secrets/stitch/client.pem",
        "made up    what should be in environment variable HIGHNOTE_API_KEY",
        "made up    what should be in file /run/secrets/concierge/app_secret",
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
        "asked for client_refund with a secret",
        "asked for client_paymentrequest with a signed assertion",
        "asked for merchant 1234567 with token #",
        "another token, of the same parent: 1 fetch",
        "asked with grant_type password",
        "that was 1 refresh, and no logins",
        "asked for READ_RESTRICTED_DETAILS on pc_1 with key #",
        "asked for SET_PAYMENT_CARD_PIN on pc_1 with key #",
        "handed out: token #",
        "steps, all as told",
    ] {
        assert!(told.contains(fact), "{fact}:\n{told}");
    }
    assert!(!told.contains("FAILED"), "{told}");
    assert!(!told.contains('\x1b'), "colour where there is no terminal");
    for line in told.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_tour_takes_every_route_of_the_file() {
    let told = &*TOUR;
    let paths = FILE
        .lines()
        .filter_map(|line| line.strip_prefix("path = \""));
    let mut routes = 0;
    for path in paths {
        // A captured segment has a value, and what is beyond the route is of the system.
        let fixed = path.split(['{', '"']).next().unwrap();
        let is_taken = |line: &str| line.starts_with("ok") && line.contains(&format!(" {fixed}"));
        assert!(told.lines().any(is_taken), "{path}:\n{told}");
        routes += 1;
    }
    assert_eq!(routes, FILE.matches("[[route]]").count());
}

#[test]
fn a_second_primary_phone_is_refused() {
    let told = &*TOUR;
    let (_, from) = told.split_once("phones, two primary phones\n").unwrap();
    let facts: Vec<&str> = from.lines().take(6).map(str::trim_start).collect();
    assert!(facts[0].starts_with("- app saw 400 in "), "{told}");
    assert!(
        facts[1].starts_with("- because the input `phones` breaks a rule"),
        "{told}"
    );
    assert!(facts.contains(&"- Concierge saw no requests"), "{told}");
}

/// The file with the sections of some systems only.
fn only(systems: &[&str]) -> String {
    let file = anywhere();
    let mut sections = file.split("\n# -----");
    let mut config = sections.next().unwrap().to_owned();
    for section in sections {
        let title = section.lines().next().unwrap();
        if systems.iter().any(|system| title.ends_with(system)) {
            config += "\n# -----";
            config += section;
        }
    }
    config
}

#[test]
fn of_a_file_with_fewer_systems_it_shows_those() {
    let readme = include_str!("../../README.md");
    let (_, first) = readme.split_once("```toml\n").unwrap();
    let first = only(&[]) + first.split("```").next().unwrap();
    let output = Folder::with("first", &first).once();
    assert!(output.status.success(), "{}", told(&output));
    for (systems, stories) in [
        (["Stitch"].as_slice(), true),
        (&["Forage"], true),
        (&["Concierge service", "Highnote"], false),
    ] {
        let config = only(systems);
        assert!(config.contains("[[route]]"), "{systems:?}");
        let output = Folder::with("fewer", &config).once();
        let told = told(&output);
        assert!(output.status.success(), "{told}");
        assert_eq!(
            told.contains("app saw 100 of 100 succeed"),
            stories,
            "{told}"
        );
        assert_eq!(told.contains("\nHighnote:"), !stories, "{told}");
    }
}

#[test]
fn a_story_that_a_file_does_not_have_is_not_told() {
    let concierge = only(&["Concierge service"]);
    let without_rules = concierge
        .lines()
        .filter(|line| !line.starts_with("rules = "));
    let without_rules = without_rules.collect::<Vec<_>>().join("\n");
    let (before, refresh) = without_rules
        .split_once("[provider.concierge-backend.refresh]")
        .unwrap();
    let (_, after) = refresh.split_once("[[route]]").unwrap();
    let output = Folder::with("story", &format!("{before}[[route]]{after}")).once();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("POST /tokens/concierge/phones\n"), "{told}");
    for story in ["two primary phones", "that was 1 refresh"] {
        assert!(!told.contains(story), "{told}");
    }
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
    let told = &*TOUR;
    let systems = Systems::start().await.unwrap();
    for secret in [
        systems.stitch.client_secret(),
        systems.stitch.client_id(),
        systems.forage.client_secret(),
        systems.forage.client_id(),
        systems.concierge.app_id(),
        systems.concierge.app_secret(),
        systems.highnote.api_key(),
        "PRIVATE KEY",
        // Tokens of Forage and Highnote; others have no mark, but no word is as long as they are.
        "sandbox_",
        "eyJ",
    ] {
        assert!(!told.contains(secret), "{told}");
    }
    let longest = told
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)))
        .filter(|word| !word.starts_with("generate")) // names of mutations
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
        .take(6)
        .collect();
    for (command, brings) in commands.iter().zip([
        "\"client\"",
        "\"results\"",
        "\"access_token\"",
        "\"access_token\"",
        "PROVIDERS",
        "pillion_requests_total",
    ]) {
        let answer = curl(command);
        assert!(answer.contains(brings), "{command}: {answer}");
    }
    let pid = up.0.id().to_string();
    Command::new("sh")
        .args(["-c", "kill -TERM \"$0\"", &pid])
        .status()
        .unwrap();
    assert!(up.0.wait().unwrap().success());
}

/// Of a token that lives for 30.
fn seconds_left(text: &str) -> u64 {
    let before = text.split_once(" s left of 30 s").map(|(before, _)| before);
    let number = before.and_then(|before| before.rsplit(' ').next());
    number.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn on_a_terminal_the_life_of_a_token_is_drawn_in_place() {
    let folder = Folder::with("live", &anywhere());
    let mut demo = folder.demo(&[]);
    demo.env_remove("NO_COLOR");
    let mut terminal = Terminal::of(demo);
    let parts = [
        "39 steps, all as told",
        "now you: everything stays up until Ctrl-C",
        "live: the app calls POST /stitch/graphql every second",
        "\n  app       POST /stitch/graphql\n            no credential, saw 200 in ",
        "\n  upstream  Stitch saw POST /graphql\n            with token #",
        "\n  token     stitch █",
        "generation ",
        ", renewed ",
        "\n  event     stitch renewed, ",
    ];
    // Not one moment, which could be missed: a token that was good for longer a while ago.
    let mut text = String::new();
    let later = terminal.until(|now| {
        if !parts.iter().all(|part| now.contains(part)) {
            return false;
        }
        if seconds_left(now) > seconds_left(&text) {
            now.clone_into(&mut text);
        }
        seconds_left(now) + 3 < seconds_left(&text)
    });
    let shaded = |text: &str| text.matches('░').count();
    assert!(
        shaded(&later) > shaded(&text),
        "the bar has not shrunk:\n{later}"
    );
    // Its own height changes with what goes on.
    let above = |text: &str| text.split("── live").next().map(|it| it.lines().count());
    assert_eq!(
        above(&later),
        above(&text),
        "drawn below what was there:\n{later}"
    );
    assert_eq!(later.matches("── live").count(), 1, "{later}");
    assert!(String::from_utf8_lossy(&terminal.bytes).contains("\x1b[32mok"));
}

#[test]
fn on_a_terminal_without_colour_nothing_is_left_of_the_panel_but_the_tour() {
    let folder = Folder::with("plain", &anywhere());
    let mut demo = folder.demo(&["--once"]);
    demo.env("NO_COLOR", "1");
    let mut terminal = Terminal::of(demo);
    terminal.until(|text| text.contains("── live"));
    let text = terminal.until(|text| text.contains("all as told") && !text.contains("── live"));
    assert!(text.trim_end().ends_with("39 steps, all as told"), "{text}");
    assert!(terminal.child.wait().unwrap().success());
    let written = String::from_utf8_lossy(&terminal.bytes);
    let mut sequences = written.split("\x1b[").skip(1);
    let is_colour = |it: &str| it.find(|c: char| c.is_ascii_alphabetic()) == it.find('m');
    assert!(!sequences.any(is_colour), "{written:?}");
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
