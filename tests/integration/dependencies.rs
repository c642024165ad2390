//! What is in the binary: where it comes from, under which licence, and what must not be there.

use std::process::Command;

use spdx::{Expression, LicenseReq, ParseMode};

/// Licences that ask for no more than to be named.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];
/// A second TLS, a second HTTP client, a second runtime; what is no longer looked after.
const BANNED: [&str; 9] = [
    "async-std",
    "native-tls",
    "openssl",
    "openssl-sys",
    "reqwest",
    "ring",
    "serde_yaml",
    "ureq",
    "yaml-rust",
];

#[test]
fn what_is_in_the_binary_is_from_the_registry_permissive_and_not_banned() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let told = String::from_utf8(tree.stderr).unwrap();
    assert!(tree.status.success(), "{told}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut packages: Vec<&str> = tree.lines().skip(1).collect();
    packages.sort_unstable();
    packages.dedup();
    assert!(packages.len() > 50, "{tree}");
    let mut wrong = Vec::new();
    for package in packages {
        let (package, licence) = package.split_once('|').unwrap();
        let name = package.split(' ').next().unwrap();
        // A directory or a repository would be named behind the version.
        if package.replace(" (proc-macro)", "").contains('(') {
            wrong.push(format!("{package} is not from the registry"));
        }
        let licence = Expression::parse_mode(licence, ParseMode::LAX);
        if !licence.is_ok_and(|licence| licence.evaluate(is_allowed)) {
            wrong.push(format!("{package} asks for more than to be named"));
        }
        if BANNED.contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_allowed(wanted: &LicenseReq) -> bool {
    let licence = wanted.license.id();
    licence.is_some_and(|licence| LICENCES.contains(&licence.name))
}
