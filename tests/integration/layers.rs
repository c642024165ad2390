//! What must never be in the source: each rule of the architecture, and the few files that are its exceptions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which folder may use which. Left out: nobody.
const LAYERS: [(&str, &[&str]); 13] = [
    (
        "cli",
        &[
            "admin",
            "clock",
            "config",
            "fake",
            "kubernetes",
            "log",
            "metrics",
            "net",
            "otlp",
            "provider",
            "proxy",
            "token",
        ],
    ),
    (
        "admin",
        &[
            "clock", "config", "log", "metrics", "net", "provider", "proxy", "token",
        ],
    ),
    ("kubernetes", &["config", "metrics", "net"]),
    (
        "config",
        &["log", "metrics", "net", "provider", "proxy", "token"],
    ),
    ("otlp", &["metrics", "provider"]),
    ("proxy", &["clock", "metrics", "net", "provider", "token"]),
    ("token", &["clock", "metrics", "provider"]),
    ("provider", &["clock", "metrics", "net"]),
    ("net", &["clock"]),
    ("clock", &[]),
    ("log", &[]),
    ("metrics", &["clock"]),
    // So that a stand-in cannot share a mistake with what it judges.
    ("fake", &[]),
];

#[test]
fn dependencies_point_downwards() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| in_layer(&file, layer)) else {
            assert!(
                ["lib.rs", "main.rs"].contains(&file.as_str()),
                "{file} is in no layer"
            );
            continue;
        };
        for used in uses(&text) {
            if used != **layer && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{file} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_layers_have_no_circle() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for (layer, allowed) in LAYERS.iter().rev() {
        let is_below = |used: &&str| {
            below.contains(used) || LAYERS.iter().any(|(it, its)| it == used && its.is_empty())
        };
        assert!(
            allowed.iter().all(is_below),
            "{layer} uses what is not below it"
        );
        below.insert(layer);
    }
}

#[test]
fn sockets_are_opened_in_net_only() {
    // What net has accepted is taken over by its worker's runtime.
    only(
        &["TcpStream"],
        &["net/", "fake/", "admin/mod.rs", "kubernetes/admin.rs"],
    );
    let opening = [
        "TcpListener",
        "TcpSocket",
        "UdpSocket",
        "UnixListener",
        "UnixStream",
        "TcpStream::connect",
        "HttpConnector",
    ];
    only(&opening, &["net/", "fake/"]);
}

#[test]
fn the_environment_is_read_for_secrets_and_on_the_command_line_only() {
    only(
        &["env::var", "env::args", "env::temp_dir", "env::set_var"],
        &["provider/secret.rs", "cli/"],
    );
}

#[test]
fn no_other_program_is_started_and_no_file_written_but_a_new_configuration() {
    only(&["process::Command", "fork(", "execv"], &[]);
    let writing = [
        "OpenOptions",
        "File::create",
        "File::options",
        "fs::write",
        "fs::copy",
        "tempfile",
    ];
    only(&writing, &["cli/init/"]);
}

#[test]
fn there_is_no_lock_but_these() {
    only(
        &["Mutex", "RwLock"],
        &[
            "admin/traffic.rs",
            "config/reload.rs",
            "fake/locked.rs",
            "metrics/cells.rs",
            "metrics/events.rs",
            "provider/rotation.rs",
            "token/cache/",
            "token/pace.rs",
        ],
    );
}

#[test]
fn toml_is_read_in_the_mirror_of_the_file_only() {
    only(&["toml::", "DeValue", "DeTable"], &["config/file/"]);
}

#[test]
fn secrets_are_revealed_where_they_leave_and_nowhere_else() {
    only(
        &[".reveal()"],
        &[
            "provider/client_auth.rs",
            "provider/egress.rs",
            "provider/grant_type.rs",
            "provider/jwt/",
            "provider/reading.rs",
            "provider/request.rs",
            "provider/signing.rs",
            "provider/static_key.rs",
            "cli/token/told.rs",
            "proxy/attach.rs",
            "proxy/hand_out.rs",
            "token/",
        ],
    );
}

/// What an app, a provider or an upstream said, secrets among it, is not printed by way of `{:?}`: a type that holds some of
/// it does not derive `Debug`.
#[test]
fn nothing_that_derives_debug_holds_what_somebody_said() {
    let said = [
        "HeaderMap",
        "Bytes",
        "Zeroizing<",
        "Vec<u8>",
        "Map<String, Value>",
    ];
    let mut wrong = Vec::new();
    for (file, text) in sources()
        .into_iter()
        .filter(|(file, _)| !file.starts_with("fake/"))
    {
        let items = text.split("#[derive(").skip(1);
        for (derived, item) in items.filter_map(|it| it.split_once(")]")) {
            let end = ["\n}", ";\n"].iter().filter_map(|end| item.find(end)).min();
            let item = &item[..end.unwrap_or(item.len())];
            let holds = |line: &str| said.iter().any(|said| has_word(line, said));
            // What is only called holds nothing.
            let mut fields = item.lines().filter(|line| !line.contains("fn("));
            if derived.contains("Debug") && fields.any(holds) {
                wrong.push(format!("{file}: {}", item.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tokens_age_by_the_clock_that_goes_on_in_suspend() {
    // Timers do not mind.
    let timers = [
        "clock.rs",
        "net/",
        "proxy/",
        "cli/",
        "fake/",
        "kubernetes/webhook.rs",
        "token/pace.rs",
    ];
    only(&["Instant"], &timers);
}

#[test]
fn only_the_command_line_prints() {
    only(
        &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        &["cli/"],
    );
}

#[test]
fn every_file_begins_with_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests"] {
        for path in rust_files(&root.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{} does not", path.display());
        }
    }
}

/// These words stand in these files and folders, and in all of them.
#[track_caller]
fn only(words: &[&str], places: &[&str]) {
    let mut found: BTreeMap<&str, usize> = places.iter().map(|place| (*place, 0)).collect();
    for (file, text) in sources() {
        for word in words.iter().filter(|word| has_word(&text, word)) {
            let place = places.iter().find(|place| file.starts_with(**place));
            let Some(place) = place else {
                panic!("{word} in src/{file}");
            };
            *found.entry(place).or_default() += 1;
        }
    }
    let stale: Vec<_> = found.iter().filter(|(_, count)| **count == 0).collect();
    assert!(stale.is_empty(), "not there any more: {stale:?}");
}

/// Whether the text has this word, and not only as the end of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
            || word.starts_with('.')
    })
}

fn in_layer(file: &str, layer: &str) -> bool {
    file == format!("{layer}.rs") || file.starts_with(&format!("{layer}/"))
}

/// The first segments of all paths that begin with `crate::`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, prefix) in text.match_indices("crate::") {
        let rest = &text[at + prefix.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest.split([';', ' ', '(', ')', ',']).next().unwrap(),
        };
        for name in names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            used.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    used
}

/// Every source file by its path below `src`, without comments and without its unit tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root).into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<&str> = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let file = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        (file, code.join("\n"))
    });
    files
        .filter(|(file, _)| !file.ends_with("tests.rs") && !file.contains("/tests/"))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
