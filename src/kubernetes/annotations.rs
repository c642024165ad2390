//! The annotations by which a pod changes its sidecar: `pillion.dev/...`.

use serde_json::Value;

use super::sidecar::{Mode, SecretFiles, Sidecar};
use crate::config::suggest::did_you_mean;

/// The label that opts a pod in.
pub const LABEL: &str = "pillion.dev/inject";

/// Every annotation, without [`PREFIX`].
pub const NAMES: [&str; 10] = [
    "admin-port",
    "config",
    "cpu-request",
    "env",
    "image",
    "image-pull-policy",
    "memory-limit",
    "memory-request",
    "mode",
    "secrets",
];

/// An annotation that says nothing useful.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnnotationError {
    /// There is none of this name.
    #[error("unknown annotation `{PREFIX}{name}`{}", meant.map_or_else(String::new, |it| format!(": did you mean `{PREFIX}{it}`?")))]
    Unknown {
        /// What was written.
        name: String,
        /// What it may have been meant to be.
        meant: Option<&'static str>,
    },
    /// Its value is not one.
    #[error("annotation `{PREFIX}{name}` is `{value}`: write {wanted}")]
    Bad {
        /// Which one.
        name: &'static str,
        /// What was written.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// What becomes of `defaults` in a pod with this metadata.
///
/// # Errors
///
/// At the first annotation that is unknown or has a value that makes no sense.
pub fn read(metadata: &Value, defaults: &Sidecar) -> Result<Sidecar, AnnotationError> {
    let mut sidecar = defaults.clone();
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        let Some(written) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let Some(name) = NAMES.into_iter().find(|name| *name == written) else {
            return Err(AnnotationError::Unknown {
                name: written.to_owned(),
                meant: did_you_mean(written, NAMES),
            });
        };
        set(&mut sidecar, name, value.as_str().unwrap_or_default())?;
    }
    Ok(sidecar)
}

fn set(sidecar: &mut Sidecar, name: &'static str, value: &str) -> Result<(), AnnotationError> {
    let bad = |wanted| AnnotationError::Bad {
        name,
        value: value.to_owned(),
        wanted,
    };
    let text = |is_good: fn(&str) -> bool, wanted| {
        let good = is_good(value).then(|| value.to_owned());
        good.ok_or_else(|| bad(wanted))
    };
    match name {
        "admin-port" => {
            let port = value.parse().ok().filter(|port| *port != 0);
            sidecar.admin_port = port.ok_or_else(|| bad("a port"))?;
        }
        "config" => sidecar.config = text(is_object_name, "the name of a ConfigMap")?,
        "cpu-request" => sidecar.cpu_request = text(is_quantity, "a quantity like 10m")?,
        "env" => sidecar.env = Some(text(is_object_name, "the name of a ConfigMap")?),
        "image" => sidecar.image = text(is_image, "an image")?,
        "image-pull-policy" => {
            let is_policy = |it: &str| ["Always", "IfNotPresent", "Never"].contains(&it);
            sidecar.image_pull_policy = text(is_policy, "Always, IfNotPresent or Never")?;
        }
        "memory-limit" => sidecar.memory_limit = text(is_quantity, "a quantity like 128Mi")?,
        "memory-request" => sidecar.memory_request = text(is_quantity, "a quantity like 24Mi")?,
        "mode" => {
            sidecar.mode = match value {
                "sidecar" => Mode::Sidecar,
                "container" => Mode::Container,
                _ => return Err(bad("sidecar or container")),
            }
        }
        _ => sidecar.secrets = secrets(value).ok_or_else(|| bad(SECRETS))?,
    }
    Ok(())
}

/// Secrets as the annotation lists them: `stitch,forage=forage-2026`.
pub(crate) fn secrets(list: &str) -> Option<Vec<SecretFiles>> {
    let entries = list.split(',').map(str::trim).filter(|it| !it.is_empty());
    entries.map(secret_files).collect()
}

/// One of them: the name of a Secret, and before it `DIRECTORY=` if that is to be another.
pub(crate) fn secret_files(entry: &str) -> Option<SecretFiles> {
    let (directory, secret) = entry.split_once('=').unwrap_or((entry, entry));
    let is_label = is_object_name(directory) && directory.len() <= 40 && !directory.contains('.');
    (is_label && is_object_name(secret)).then(|| SecretFiles {
        directory: directory.to_owned(),
        secret: secret.to_owned(),
    })
}

/// A name as Kubernetes gives them to objects (RFC 1123): at most 253 small letters, digits, `-` and `.`.
fn is_object_name(name: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_outer = |c: Option<char>| c.is_some_and(|c| c != '-' && c != '.');
    name.len() <= 253
        && name.chars().all(is_inner)
        && is_outer(name.chars().next())
        && is_outer(name.chars().last())
}

fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.strip_suffix(unit).unwrap_or_default();
    let units = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    number.parse::<f64>().is_ok_and(|it| it > 0.0) && units.contains(&unit)
}

fn is_image(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

/// What every annotation begins with.
pub const PREFIX: &str = "pillion.dev/";
/// What the list of Secrets should be.
pub(crate) const SECRETS: &str =
    "the names of Secrets, with commas between them; DIRECTORY=NAME for another directory";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_one(name: &str, value: &str) -> Result<Sidecar, AnnotationError> {
        let metadata = json!({ "annotations": { format!("{PREFIX}{name}"): value, "other/x": 1 } });
        read(&metadata, &Sidecar::default())
    }

    #[test]
    fn an_annotation_changes_what_it_is_about_and_nothing_else() {
        let sidecar = read_one("secrets", "stitch, forage=forage.2026").unwrap();
        let files = |directory: &str, secret: &str| SecretFiles {
            directory: directory.to_owned(),
            secret: secret.to_owned(),
        };
        let wanted = vec![files("stitch", "stitch"), files("forage", "forage.2026")];
        assert_eq!(
            sidecar,
            Sidecar {
                secrets: wanted,
                ..Sidecar::default()
            }
        );
        let sidecar = read_one("mode", "container").unwrap();
        assert_eq!(
            sidecar,
            Sidecar {
                mode: Mode::Container,
                ..Sidecar::default()
            }
        );
    }

    #[test]
    fn every_name_is_read() {
        for (name, value) in NAMES.into_iter().zip([
            "9902",
            "c",
            "20m",
            "e",
            "i:1",
            "Always",
            "1Gi",
            "32Mi",
            "container",
            "s",
        ]) {
            assert_ne!(read_one(name, value).unwrap(), Sidecar::default(), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_to_write() {
        for (name, value, told) in [
            (
                "secret",
                "x",
                "unknown annotation `pillion.dev/secret`: did you mean `pillion.dev/secrets`?",
            ),
            ("nonsense", "x", "unknown annotation `pillion.dev/nonsense`"),
            (
                "mode",
                "x",
                "annotation `pillion.dev/mode` is `x`: write sidecar or container",
            ),
            (
                "admin-port",
                "0",
                "annotation `pillion.dev/admin-port` is `0`: write a port",
            ),
            (
                "memory-limit",
                "64 MB",
                "annotation `pillion.dev/memory-limit` is `64 MB`: write a quantity like 128Mi",
            ),
            (
                "config",
                "Mine",
                "annotation `pillion.dev/config` is `Mine`: write the name of a ConfigMap",
            ),
        ] {
            assert_eq!(read_one(name, value).unwrap_err().to_string(), told);
        }
        assert!(
            read_one("secrets", "a.b").is_err(),
            "the name of a volume has no dot"
        );
    }
}
