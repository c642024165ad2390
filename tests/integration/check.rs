//! Every mistake in `golden/check/NAME.toml` is told as `NAME.stderr` says, and none shows a secret.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the `.stderr` files anew.

use std::fs;
use std::path::{Path, PathBuf};

use pillion::cli::check::format::Format;
use pillion::config;
use serde_json::{Value, json};

use crate::stage::{Terminal, pillion};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how a person asks for new golden files"
)]
fn every_mistake_is_told_as_in_its_golden_file() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in goldens() {
        let told = tell(&path, &fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("stderr");
        if update {
            fs::write(&golden, &told).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            wrong.push(format!("{}:\n{told}", golden.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes these:\n\n{}",
        wrong.join("\n")
    );
}

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut goldens: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    goldens.sort();
    goldens
}

fn tell(path: &Path, text: &str) -> String {
    let label = path.file_name().unwrap().to_str().unwrap();
    match config::read(label, text) {
        Ok((_, report)) | Err(report) => report.to_plain(),
    }
}

#[test]
fn programs_are_told_the_same_mistakes_at_the_same_places() {
    for path in goldens() {
        let text = fs::read_to_string(&path).unwrap();
        let (Ok((_, report)) | Err(report)) = config::read("it.toml", &text);
        let plain = report.to_plain();
        let json: Value = serde_json::from_str(&Format::Json.document(&path, &report)).unwrap();
        let sarif: Value = serde_json::from_str(&Format::Sarif.document(&path, &report)).unwrap();
        let diagnostics = json["diagnostics"].as_array().unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        let mut places = plain
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--> "));
        let titles = plain
            .lines()
            .filter(|line| line.starts_with("error: ") || line.starts_with("warning: "));
        assert_eq!(titles.clone().count(), diagnostics.len(), "{plain}");
        assert_eq!(diagnostics.len(), results.len());
        for (title, (told, result)) in titles.zip(diagnostics.iter().zip(results)) {
            let (line, column) = (&told["line"], &told["column"]);
            // Behind the last character of the file, the renderer counts the line's end, too.
            let is_end = usize::try_from(line.as_u64().unwrap()).ok() == Some(text.lines().count())
                && column.as_u64() > text.lines().last().map(|line| line.len() as u64);
            let place = places.next().unwrap();
            let same = place == format!("it.toml:{line}:{column}");
            assert!(
                same || is_end && place.starts_with(&format!("it.toml:{line}:")),
                "{plain}"
            );
            let (level, message) = title.split_once(": ").unwrap();
            assert_eq!(
                (&told["severity"], &result["level"]),
                (&json!(level), &json!(level))
            );
            assert!(
                told["message"].as_str().unwrap().starts_with(message),
                "{title}"
            );
            assert!(
                result["message"]["text"]
                    .as_str()
                    .unwrap()
                    .starts_with(message)
            );
            let region = &result["locations"][0]["physicalLocation"]["region"];
            assert_eq!(
                (&region["startLine"], &region["startColumn"]),
                (line, column)
            );
        }
    }
}

#[test]
fn colour_is_for_a_terminal_whose_owner_does_not_object() {
    let golden = goldens().remove(0);
    for (no_color, is_coloured) in [("", true), ("1", false)] {
        let mut check = pillion();
        check.arg("check").arg(&golden).env("NO_COLOR", no_color);
        let mut terminal = Terminal::of(check);
        terminal.until(|text| text.contains(" mistake"));
        assert_eq!(terminal.bytes.contains(&b'\x1b'), is_coloured, "{golden:?}");
    }
    let output = pillion().arg("check").arg(&golden).output().unwrap();
    assert!(!output.stderr.contains(&b'\x1b'));
}

#[test]
fn a_program_reads_them_from_stdout_and_the_exit_code_is_the_same() {
    let check = |format: &str, file: &str| {
        let mut check = pillion();
        check.args(["check", "--format", format, file]);
        let output = check
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.stderr.is_empty());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), document)
    };
    let wrong = "tests/golden/check/provider-unknown.toml";
    let (code, document) = check("json", wrong);
    let told = &document["diagnostics"][0];
    assert_eq!(code, Some(1));
    assert_eq!(
        (
            &told["file"],
            &told["line"],
            &told["column"],
            &told["end_column"]
        ),
        (&json!(wrong), &json!(10), &json!(12), &json!(19))
    );
    assert_eq!(told["message"], "unknown provider `stich`");
    assert_eq!(told["hints"], json!(["did you mean \"stitch\"?"]));
    let (code, document) = check("sarif", wrong);
    let result = &document["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!((code, &document["version"]), (Some(1), &json!("2.1.0")));
    assert_eq!(place["artifactLocation"]["uri"], wrong);
    assert_eq!(
        result["message"]["text"],
        "unknown provider `stich`\nhint: did you mean \"stitch\"?"
    );
    let (code, document) = check("json", "proxy.toml");
    assert_eq!((code, document), (Some(0), json!({"diagnostics": []})));
}

/// As text, as what could be a key, as a number.
const CANARIES: [&str; 3] = ["CNRY", "cnry", "9045199013"];

#[test]
fn no_golden_shows_a_secret() {
    for path in goldens() {
        let text = fs::read_to_string(&path).unwrap();
        for shape in ["HUSH", "CNRY-place-0f1e2d", "CNRY==", "cnry_lower"] {
            let text = text.replace("HUSH", shape);
            assert_hidden(&path, &text, &[shape]);
            let (Ok((_, report)) | Err(report)) = config::read("proxy.toml", &text);
            assert!(!report.to_coloured().contains(shape));
            for format in [Format::Json, Format::Sarif] {
                assert!(!format.document(&path, &report).contains(shape));
            }
        }
    }
}

#[test]
fn a_secret_in_place_of_a_reference_is_never_shown() {
    for path in goldens() {
        let text = fs::read_to_string(&path).unwrap();
        for (start, _) in text
            .match_indices("{ env =")
            .chain(text.match_indices("{ file ="))
        {
            let end = start + text[start..].find('}').unwrap() + 1;
            for place in PLACES {
                let text = format!("{}{place}{}", &text[..start], &text[end..]);
                assert_hidden(&path, &text, &CANARIES);
            }
        }
    }
}

#[test]
fn a_secret_on_a_line_of_its_own_or_behind_another_is_never_shown() {
    for path in goldens() {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices('\n') {
            for line in LINES {
                let text = format!("{}{line}{}", &text[..at], &text[at..]);
                assert_hidden(&path, &text, &CANARIES);
            }
        }
    }
}

#[test]
fn a_file_with_a_character_missing_shows_no_secret_either() {
    for path in goldens() {
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("HUSH", "CNRY-4CNRY");
        for (at, character) in text.char_indices() {
            let text = format!("{}{}", &text[..at], &text[at + character.len_utf8()..]);
            assert_hidden(&path, &text, &["CNRY"]);
        }
    }
}

/// What somebody may write where a reference belongs.
const PLACES: [&str; 20] = [
    "9045199013",
    "\"\"\"\ncnry = cnry\n\"",
    "\"CNRY\"",
    "'CNRY'",
    "\"\"\"\nCNRY\nkey = CNRY\n[listen]\n\"\"\"",
    "'''CNRY\n\nCNRY'''",
    "\"CNRY",
    "'CNRY",
    "\"\"\"CNRY\nkey = CNRY\nkey_CNRY = 1",
    "CNRY",
    "CNRY-0f = CNRY",
    "= CNRY",
    "[\"CNRY\", 'CNRY']",
    "{ env = \"CNRY-0f\" }",
    "{ file = \"CNRY\" }",
    "{ env = \"CNRY\", file = \"/CNRY\" }",
    "{ value = \"CNRY\" }",
    "{ env = \"CNRY\"",
    "\"{CNRY}\"",
    "\"CNRY\" \"CNRY\" # CNRY",
];

/// What somebody may write on a line.
const LINES: [&str; 13] = [
    "\npin = 9045199013",
    " # CNRY",
    " CNRY",
    "\nCNRY",
    "\nCNRY==",
    "\n\"CNRY",
    "\npassword = \"CNRY\"",
    "\npassword = CNRY",
    "\npassword: CNRY",
    "\npassword = { x = \"CNRY\" }",
    "\ntype = \"\"\"\nCNRY\ntype = CNRY\n",
    "\nheaders = { Authorization = \"Bearer CNRY\", X-Key = \"CNRY {tokn}\", X-Other = \"{CNRY}\" }",
    "\nparams = { password = \"CNRY{input.x}\", password = \"CNRY\" }",
];

fn assert_hidden(path: &Path, text: &str, secrets: &[&str]) {
    let label = path.file_name().unwrap().to_str().unwrap();
    let (Ok((_, report)) | Err(report)) = config::read(label, text);
    for told in [
        report.to_plain(),
        report.to_coloured(),
        format!("{report:?}"),
    ] {
        let shown = secrets.iter().find(|secret| told.contains(**secret));
        assert!(
            shown.is_none(),
            "{label} shows {shown:?} of\n{text}\n\n{told}"
        );
    }
}
