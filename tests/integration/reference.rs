//! What is described is what is read: the schema and docs/reference.md, held against the file's own reader.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes proxy.schema.json and docs/reference.md anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use pillion::config::description::{Absent, Key, Kind, Of, TABLES, Table, schema};
use pillion::config::{self, File};

use crate::stage::pillion;

const CLIENT: &str = r#"
[provider.p]
type = "oauth2"
token_endpoint = "https://login.example.com/token"
client_id = "me"
"#;

const OAUTH2: &str = r#"
[provider.p]
type = "oauth2"
token_endpoint = "https://login.example.com/token"
client_id = "me"
client_secret = { env = "SECRET" }
inputs = ["tenant"]
"#;

const HTTP: &str = r#"
[provider.key]
type = "static"
secret = { env = "KEY" }
[provider.p]
type = "http"
parent = "key"
inputs = ["tenant"]
url = "https://api.example.com/token"
token = "/token"
"#;

const STATIC: &str = r#"
[provider.p]
type = "static"
secret = { env = "KEY" }
"#;

const ROUTE: &str = r#"
[[route]]
provider = "p"
upstream = "https://api.example.com"
"#;

/// What a client, a grant and an assertion need, each a way of being a provider of the type `oauth2`.
const OAUTH2_KEYS: [&str; 6] = [
    r#"client_secret = { env = "S" }"#,
    r#"client_secret = { env = "S" }
client_auth = "client_secret_jwt""#,
    r#"client_secret = { env = "S" }
grant_type = "password"
username = "me"
password = { env = "P" }"#,
    r#"client_secret = { env = "S" }
grant_type = "refresh_token"
refresh_token = { env = "T" }"#,
    r#"client_secret = { env = "S" }
client_auth = "client_secret_jwt"
grant_type = "jwt-bearer"
assertion = { key = { env = "K" }, alg = "RS256" }"#,
    r#"client_secret = { env = "S" }
grant_type = "token-exchange"
subject_token = { env = "T" }
subject_token_type = "a:b"
actor_token = { env = "T" }
actor_token_type = "a:b""#,
];

const SIGNED: &str = r#"client_auth = "private_key_jwt"
[provider.p.assertion]
alg = "RS256"
key = { file = "/key.pem" }"#;

const SHARED: &str = r#"client_auth = "client_secret_jwt"
client_secret = { env = "S" }
[provider.p.assertion]"#;

const JWT: &str = r#"
[provider.p]
type = "jwt"
alg = "RS256"
key = { env = "K" }
inputs = ["tenant"]
"#;

/// Files without a mistake that end in a table of this name, which is open for another key.
fn probes(table: &str) -> Vec<String> {
    let each = |before: &str, ends: &[&str]| -> Vec<String> {
        let ends = ends.iter();
        ends.map(|end| format!("{before}{end}\n")).collect()
    };
    let but = |text: &str, line: &str| text.replace(&format!("{line}\n"), "");
    match table {
        "file" => vec![String::new()],
        "listen" => each("[listen]\n", &["", "address = \"unix:/run/a.sock\""]),
        "listen-tls" => {
            let files = "cert = \"/a.crt\"\nkey = \"/a.key\"\n";
            vec![format!("[listen]\n[listen.tls]\n{files}")]
        }
        "admin" | "limits" | "log" => vec![format!("[{table}]\n")],
        "trace" => vec!["[trace]\notlp = \"http://127.0.0.1:4318\"\n".to_owned()],
        "oauth2" => each(&format!("{CLIENT}inputs = [\"tenant\"]\n"), &OAUTH2_KEYS),
        "http" => vec![HTTP.to_owned()],
        "graphql" => each(
            &HTTP.replace("\"http\"", "\"graphql\""),
            &[r#"query = "{ a }""#],
        ),
        "static" => vec![STATIC.to_owned()],
        "jwt" => vec![JWT.to_owned()],
        "refresh" => each(HTTP, &["[provider.p.refresh]\ntoken = \"/refresh_token\""]),
        "rule-of-an-input" => each(
            HTTP,
            &["[[provider.p.rules]]\ninput = \"tenant\"\nat_most = 1"],
        ),
        "route" => vec![
            format!(
                "{OAUTH2}{ROUTE}path = \"/{{tenant}}\"\ninputs = {{ tenant = \"{{path.tenant}}\" }}\n"
            ),
            format!("{STATIC}{ROUTE}"),
            format!("{STATIC}hand_out = true\n[[route]]\nprovider = \"p\"\nhand_out = true\n"),
        ],
        "timeouts" => vec![format!("{STATIC}{ROUTE}[route.timeouts]\n")],
        "unauthorized" => each(
            &format!(
                "{}{ROUTE}[[route.unauthorized]]\n",
                but(HTTP, "inputs = [\"tenant\"]")
            ),
            &[
                "status = 401",
                "status = 401\njson = \"/code\"\nequals = [1]",
                "status = 401\nheader = \"A\"\nequals = [\"b\"]",
                "grpc_status = 16",
            ],
        ),
        "reference" => each(
            "[provider.p]\ntype = \"static\"\n[provider.p.secret]\n",
            &["env = \"A\"", "file = \"/a\""],
        ),
        "assertion" => each(CLIENT, &[SIGNED]),
        "shared-assertion" => each(CLIENT, &[SHARED]),
        "tls" => each(
            OAUTH2,
            &["[provider.p.tls]\ncert = \"/a.pem\"\nkey = \"/a.key\""],
        ),
        "egress-proxy" => each(
            "[egress_proxy]\nurl = \"http://a.example.com:1\"\n",
            &["username = \"a\"\npassword = { env = \"B\" }"],
        ),
        "place-of-a-lifetime" => each(
            &format!(
                "{}[[provider.p.expiry]]\n",
                OAUTH2.replace("tenant", "minutes")
            ),
            &[
                "json = \"/a\"",
                "header = \"A\"",
                "jwt = true",
                "input = \"minutes\"",
                "after = \"1h\"",
            ],
        ),
        "place-of-a-token" => each(
            &format!("{}[provider.p.token]\n", but(HTTP, "token = \"/token\"")),
            &["json = \"/a\"", "header = \"A\"", "body = true"],
        ),
        "expectation" => each(
            &format!("{HTTP}[provider.p.expect.\"/a\"]\n"),
            &["equals = 1", "exists = true", "absent = true"],
        ),
        "single-use" => each(
            HTTP,
            &["[provider.p.single_use]\njson = \"/a\"\nequals = 1"],
        ),
        _ => panic!("no probe of {table}"),
    }
}

/// The file, if it has no mistake. A provider that no route uses is none.
fn read(text: &str) -> Result<File, String> {
    match config::read("it.toml", text) {
        Ok((file, _)) => Ok(file),
        Err(report) => Err(format!("{text}\n{}", report.to_plain())),
    }
}

#[test]
fn every_probe_is_a_file_without_a_mistake() {
    for table in TABLES {
        for probe in probes(table.name) {
            read(&probe).unwrap();
        }
    }
}

#[test]
fn every_key_that_is_read_is_described_and_every_key_that_is_described_is_read() {
    for table in TABLES {
        let mut read: BTreeSet<String> = BTreeSet::new();
        for probe in probes(table.name) {
            read.extend(keys_of_the_last_table(&probe));
        }
        let described: BTreeSet<String> =
            table.keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(read, described, "{}", table.name);
        assert_eq!(
            described.len(),
            table.keys.len(),
            "{} has a key twice",
            table.name
        );
    }
}

/// An unknown key is told with those that are known.
fn keys_of_the_last_table(probe: &str) -> Vec<String> {
    let Err(told) = read(&format!("{probe}xxxxxxxxxxxxxxxxxxxxxxxx = 1\n")) else {
        panic!("an unknown key is no mistake:\n{probe}");
    };
    let (_, keys) = told.split_once("keys here are ").unwrap();
    let line = keys.lines().next().unwrap();
    line.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_example_is_accepted() {
    let mut wrong = Vec::new();
    for (table, key) in keys() {
        let probes = probes(table.name);
        let told = probes
            .iter()
            .filter_map(|probe| read(&with(probe, key.name, key.example)).err());
        let told: Vec<String> = told.collect();
        if told.len() == probes.len() {
            let told = told.join("\n");
            wrong.push(format!("{} {}:\n{told}", table.name, key.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_default_is_what_is_read_without_the_key() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for (table, key) in keys() {
        let Absent::Same(default) = key.absent else {
            continue;
        };
        let is_same = |probe: &String| {
            let absent = read(&without(probe, key.name));
            let written = read(&with(probe, key.name, default));
            matches!((absent, written), (Ok(one), Ok(other)) if values(&one) == values(&other))
        };
        if !probes(table.name).iter().any(is_same) {
            wrong.push(format!("{} {} = {default}", table.name, key.name));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 50);
}

fn keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
    let keys = |table: &'static Table| table.keys.iter().map(move |key| (table, key));
    TABLES.into_iter().flat_map(keys)
}

/// The probe with a key of its last table.
fn with(probe: &str, key: &str, value: &str) -> String {
    format!("{}{} = {value}\n", without(probe, key), toml_name(key))
}

/// The probe without a key of its last table.
fn without(probe: &str, key: &str) -> String {
    let last_table = probe.rfind("\n[").map_or(0, |at| at + 1);
    let (before, table) = probe.split_at(last_table);
    let kept = table
        .lines()
        .filter(|line| line.split(" = ").next() != Some(key));
    kept.fold(before.to_owned(), |text, line| text + line + "\n")
}

fn toml_name(name: &str) -> String {
    let is_bare = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

/// What is in a file, without the places, and without whether a value is a default.
fn values(file: &File) -> String {
    let mut values = String::new();
    for part in format!("{file:?}").split_inclusive([' ', '}']) {
        let is_place = part
            .split_once("..")
            .is_some_and(|(start, _)| start.ends_with(|c: char| c.is_ascii_digit()));
        if !is_place {
            values.push_str(part);
        }
    }
    values.replace("defaulted: true", "defaulted: false")
}

#[test]
fn the_schema_is_the_one_beside_proxy_toml() {
    let output = pillion().arg("schema").output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("{:#}\n", schema()));
    is_committed("proxy.schema.json", &printed);
}

#[test]
fn the_reference_is_what_the_description_says() {
    is_committed("docs/reference.md", &reference());
}

#[expect(clippy::disallowed_methods, reason = "how a person asks for new files")]
fn is_committed(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "UPDATE_GOLDEN=1 writes {file} anew");
}

/// The whole of docs/reference.md.
fn reference() -> String {
    let mut page = "\
# Configuration reference

<!-- Written by UPDATE_GOLDEN=1 cargo test --test integration reference:: from src/config/description. -->

Every table and every key of `proxy.toml`. What belongs together, with the reasons: [configuration.md](configuration.md);
whole files for whole systems: [recipes.md](recipes.md) and [`examples/`](../examples). `pillion check` tells every mistake
with its place; `pillion schema` prints the same as this page for editors.

A *duration* is a number with `ms`, `s`, `m` or `h`, or several of them: `\"500ms\"`, `\"1m30s\"`. A *size* is a number of
bytes, or one with `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`. A *template* is text with placeholders, like `{input.tenant}`;
`{{` and `}}` are braces, and a filter may follow: `{token|basic}` (base64 of the token and a colon),
`{input.minutes|int(1..60)}` (an integer of this range, else 400). A *JSON pointer* is that of RFC 6901, `*` for any element.

"
    .to_owned();
    for table in TABLES {
        writeln!(
            page,
            "- [{}](#{}): {}",
            title(table),
            table.name,
            code(table.written)
        )
        .unwrap();
    }
    for table in TABLES {
        section(&mut page, table);
    }
    page
}

/// As a heading, of which the address is the table's name.
fn title(table: &Table) -> String {
    table.name.replace('-', " ")
}

fn section(page: &mut String, table: &Table) {
    let written = code(table.written);
    write!(
        page,
        "\n## {}\n\n{written}. {}\n\n",
        title(table),
        table.about
    )
    .unwrap();
    let list = |keys: &[&str]| {
        keys.iter()
            .map(|key| code(key))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match table.of {
        Of::Any => {}
        Of::One(keys) => write!(page, "Exactly one of {}.\n\n", list(keys)).unwrap(),
        Of::Some(keys) => write!(page, "At least one of {}.\n\n", list(keys)).unwrap(),
    }
    page.push_str("| key | what it can be | left out | what it means |\n|---|---|---|---|\n");
    for key in table.keys {
        let (kind, absent, meaning) = (kind(&key.kind), absent(key), meaning(key));
        let row = format!("{} | {kind} | {absent} | {meaning}", code(key.name));
        writeln!(page, "| {row} |").unwrap();
    }
}

fn kind(kind: &Kind) -> String {
    let all = |kinds: &[Kind]| kinds.iter().map(self::kind).collect::<Vec<_>>();
    match *kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Just(value) => code(&value.to_string()),
        Kind::Number => "number".to_owned(),
        Kind::Whole => "integer".to_owned(),
        Kind::Integer(0, _) => "integer".to_owned(),
        Kind::Integer(least, most) => format!("integer, {least} to {most}"),
        Kind::Choice(choices) => {
            let choices = choices.iter().map(|choice| code(&format!("\"{choice}\"")));
            choices.collect::<Vec<_>>().join(", ")
        }
        Kind::Text(what, _) => what.to_owned(),
        Kind::Table(table) => format!("[{}](#{})", title(table), table.name),
        Kind::Names(names, values) => format!("table: {names} = {}", self::kind(values)),
        Kind::List(elements) => format!("list of: {}", self::kind(elements)),
        Kind::Either([one, Kind::List(elements)]) if self::kind(one) == self::kind(elements) => {
            format!("{}, or a list of that", self::kind(one))
        }
        Kind::Either(kinds) => all(kinds).join(" or "),
        Kind::Json => "anything that JSON has".to_owned(),
    }
}

fn absent(key: &Key) -> String {
    match key.absent {
        Absent::Never if key.only_with.is_some() => "must be there then".to_owned(),
        Absent::Never => "**must be there**".to_owned(),
        Absent::Same(value) => code(value),
        Absent::Words(words) => words.to_owned(),
    }
}

fn meaning(key: &Key) -> String {
    let mut meaning = key.about.replace('|', "\\|");
    if let Some((other, values)) = key.only_with {
        let value = format!("{other} = \"{}\"", values[0]);
        write!(meaning, " Only with {}.", code(&value)).unwrap();
    }
    let example = format!("{} = {}", toml_name(key.name), key.example);
    write!(meaning, "<br>{}", code(&example)).unwrap();
    meaning
}

/// Within a row of a table, too.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
