//! No command stands in README.md or in docs/ that nothing runs. What `console` blocks show is compared by `readme`; what `sh`
//! blocks say is run here, or in CI, or stands in a list with the reason why it is not.

use std::fs;
use std::path::Path;

use http::Method;
use pillion::cli::init::{System, text};
use pillion::cli::run::{self, Overlay, Running};
use pillion::cli::token::{Wanted, tell};
use pillion::fake::{Authority, IdentityProvider, Rules, Systems, Upstream};
use pillion::provider::secret::{SecretRef, Secrets};

use crate::four_systems::overlay;
use crate::readme::{WITH_A_CLUSTER, blocks, run_in};
use crate::stage::{Client, Directory, Reply, SECRET, full, keep_listening, request};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What nothing runs as it is written, and why.
const NOT_RUN: [(&str, &str); 12] = [
    (
        "cargo run -- demo",
        "`demo` runs the program that cargo has built",
    ),
    (
        "cargo install --path .",
        "it puts a program into somebody's home; CI builds the same with cargo build",
    ),
    (
        "export STITCH_CLIENT_ID=...",
        "here secrets are supplied in another way",
    ),
    (
        "install -D -m 600 client_secret /run/secrets/stitch/client_secret",
        "it writes outside of the test's folder",
    ),
    (
        "docker build -t pillion .",
        "it needs an engine; CI builds the same file with buildah",
    ),
    (
        "docker run --rm -v \"$PWD/proxy.toml:/etc/pillion/proxy.toml:ro\" pillion check",
        "it needs an engine; CI runs what is in the image by chroot",
    ),
    (
        "kubectl patch deployment my-app --patch '{\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"pillion.dev/inject\":\"true\"}}}}}'",
        "my-app is the reader's; CI has the label on pods of its own",
    ),
    (
        "cargo test --release --test endurance",
        "CI runs it without --release",
    ),
    (
        "npm ci --prefix tests/interop",
        "CI's function npm_ci has more options",
    ),
    (
        "npm ci --prefix tests/browser",
        "CI's function npm_ci has more options",
    ),
    (
        "node tests/browser/status.mjs http://127.0.0.1:9901",
        "CI runs it at the demo's own address",
    ),
    (
        "UPDATE_GOLDEN=1 cargo test --test integration -- check:: explain:: reference::",
        "it writes into the checkout what the tests compare",
    ),
];

/// A command of an `sh` block, and where it stands.
struct Written {
    command: String,
    place: String,
}

fn written() -> Vec<Written> {
    let blocks = blocks();
    let blocks = blocks.iter().filter(|block| block.kind == "sh");
    let blocks = blocks.filter(|block| !block.place.starts_with(WITH_A_CLUSTER));
    let lines = blocks.flat_map(|block| block.text.lines().map(|line| (line, &block.place)));
    let mut written = Vec::new();
    for (line, place) in lines {
        let line = line.split(" # ").next().unwrap().trim_end();
        let commands = line.split(" && ").map(|command| Written {
            command: command.to_owned(),
            place: place.clone(),
        });
        written.extend(commands);
    }
    written
}

#[test]
fn every_command_is_run_by_something() {
    let ci = read(".ci/run") + &read(".ci/kubernetes");
    let cluster = read(WITH_A_CLUSTER);
    let written = written();
    assert!(written.len() > 30, "{}", written.len());
    for Written { command, place } in &written {
        let is_listed = NOT_RUN.iter().any(|(listed, _)| listed == command);
        let is_run = is_call(command)
            || is_of_the_five_minutes(command, place)
            || cluster.contains(&format!("\n$ {command}\n"))
            || ci.lines().any(|line| says(line, command));
        assert!(is_listed || is_run, "{place}: nothing runs `{command}`");
        assert!(
            !is_listed || !is_run,
            "{place}: `{command}` is run after all"
        );
    }
    for (listed, reason) in NOT_RUN {
        assert!(
            written.iter().any(|it| it.command == listed),
            "`{listed}` ({reason}) is not there any more"
        );
    }
}

#[test]
fn every_block_is_of_a_kind_that_something_looks_at() {
    for block in blocks() {
        let kind = block.kind.split(' ').next().unwrap();
        let place = &block.place;
        match kind {
            // `readme` runs and reads the first two, CI the alerts.
            "console" | "toml" | "sh" | "yaml" => {}
            "json" => {
                let values = serde_json::Deserializer::from_str(&block.text);
                for value in values.into_iter::<serde_json::Value>() {
                    value.unwrap_or_else(|error| panic!("{place}: {error}"));
                }
            }
            "text" => {
                let is_command = |line: &str| line.starts_with("$ ") || line.starts_with("curl ");
                assert!(
                    !block.text.lines().any(is_command),
                    "{place}: a command in a block of text"
                );
            }
            _ => panic!("{place}: nothing looks at a block of `{kind}`"),
        }
    }
}

/// Whether a line of a script says `command`, perhaps with more options.
fn says(line: &str, command: &str) -> bool {
    let mut words = line.split_whitespace();
    !line.contains("--no-run")
        && command
            .split_whitespace()
            .all(|wanted| words.any(|word| word == wanted))
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn is_call(command: &str) -> bool {
    command.starts_with("curl ") && command.contains("http://localhost:8080/")
}

fn is_of_the_five_minutes(command: &str, place: &str) -> bool {
    let is_own = command == "pillion" || command.starts_with("pillion ");
    place.starts_with("README.md") && (is_own || FOLDER.contains(&command))
}

const FOLDER: [&str; 2] = ["mkdir sidecar", "cd sidecar"];

/// Sends what `curl` would, on a machine that may not have it.
async fn send(running: &Running, command: &str) -> Reply {
    let mut words = words(command).into_iter().skip(1);
    let (mut method, mut target, mut content, mut fields) = (None, String::new(), None, Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "-H" => fields.push(words.next().unwrap()),
            "-d" => content = words.next(),
            "-X" => method = words.next(),
            "--json" => {
                content = words.next();
                fields.push("content-type: application/json".to_owned());
            }
            url => {
                let rest = url.strip_prefix("http://localhost:8080").unwrap();
                rest.clone_into(&mut target);
            }
        }
    }
    let usual = if content.is_some() { "POST" } else { "GET" };
    let method = method.unwrap_or_else(|| usual.to_owned());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut asked = request(method, &target);
    for field in &fields {
        let (name, value) = field.split_once(": ").unwrap();
        asked = asked.header(name, value);
    }
    let asked = asked.body(full(content.unwrap_or_default())).unwrap();
    Client::connect(running.addresses[0])
        .await
        .send(asked)
        .await
}

/// As a shell divides them; of quotes it knows the single ones.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (at, part) in command.split('\'').enumerate() {
        for (number, piece) in part.split(if at % 2 == 0 { ' ' } else { '\0' }).enumerate() {
            if number > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words
}

#[tokio::test]
async fn every_call_of_the_app_is_answered() {
    let systems = Systems::start().await.unwrap();
    let file = Path::new(ROOT).join("proxy.toml");
    let four = run::start(&file, overlay(&systems, None), false).unwrap();
    let example = Example::start().await;
    let written = written();
    let calls: Vec<_> = written.iter().filter(|it| is_call(&it.command)).collect();
    assert!(calls.len() >= 8, "{}", calls.len());
    for Written { command, place } in calls {
        let running = if command.contains("/example/") {
            &example.running
        } else {
            &four
        };
        let reply = send(running, command).await;
        assert_eq!(reply.status, 200, "{place}: {command}: {reply:?}");
    }
}

/// The file that `pillion init oauth2` writes, at a server and an API that know its client.
struct Example {
    running: Running,
    _identity_provider: IdentityProvider,
    _api: Upstream,
    _directory: Directory,
}

impl Example {
    async fn start() -> Self {
        keep_listening();
        let authority = Authority::new().unwrap();
        let tls = |host| authority.server_config(&[host]).ok();
        let rules = Rules::by_the_book("app", SECRET);
        let identity_provider = IdentityProvider::start(tls("login.example.com"), rules)
            .await
            .unwrap();
        let api = Upstream::guarded_by(tls("api.example.com"), identity_provider.endpoint())
            .await
            .unwrap();
        let at = |host: &str, address| ((host.to_owned(), 443), address);
        let overlay = Overlay {
            secrets: Secrets::supplied(|reference| {
                Some(match reference {
                    SecretRef::Env(_) => "app".to_owned(),
                    SecretRef::File(_) => SECRET.to_owned(),
                })
            }),
            resolve: vec![
                at("login.example.com", identity_provider.server().address()),
                at("api.example.com", api.server().address()),
            ],
            trust: vec![authority.certificate_der()],
            free_ports: true,
            ..Overlay::default()
        };
        let directory = Directory::new();
        let written = text(System::OAuth2).replace("/oauth2/token", "/token");
        let file = directory.write("proxy.toml", &written);
        Self {
            running: run::start(&file, overlay, false).unwrap(),
            _identity_provider: identity_provider,
            _api: api,
            _directory: directory,
        }
    }
}

#[tokio::test]
async fn the_five_minutes_of_the_readme_end_with_an_answer() {
    let systems = Systems::start().await.unwrap();
    let folder = Directory::new();
    let file = folder.path().join("proxy.toml");
    let written = written();
    let steps = written
        .iter()
        .filter(|it| is_of_the_five_minutes(&it.command, &it.place));
    let mut running = None;
    for Written { command, place } in steps {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["mkdir" | "cd", _] => {}
            ["pillion", "token", provider] => {
                let wanted = Wanted {
                    provider: (*provider).to_owned(),
                    ..Wanted::default()
                };
                let mut told = Vec::new();
                let is_there = tell(&file, overlay(&systems, None), &wanted, &mut told).await;
                assert!(is_there.unwrap(), "{place}: {command}");
            }
            ["pillion"] => {
                running = Some(run::start(&file, overlay(&systems, None), false).unwrap());
            }
            ["pillion", ..] => {
                let arguments = command.strip_prefix("pillion ").unwrap();
                let output = run_in(folder.path(), arguments);
                assert!(output.status.success(), "{place}: {command}: {output:?}");
            }
            _ => panic!("{place}: {command}"),
        }
    }
    let call = written.iter().find(|it| is_call(&it.command)).unwrap();
    let reply = send(&running.unwrap(), &call.command).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}
