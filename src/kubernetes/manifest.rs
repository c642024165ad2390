//! A file of manifests: which of them make pods, and what they are with pillion in them.

use serde_json::Value;

use super::annotations::LABEL;
use super::patch::{Add, PatchError, patch};
use super::sidecar::Sidecar;
use super::yaml::{self, YamlError};

/// Puts pillion into every pod that the manifests of a YAML (or JSON) text make. All else stays as it is written, to the
/// byte: other documents, comments, the order of keys. A pod that has pillion, or the label with `"false"`, is left alone.
///
/// # Errors
///
/// When the text is no YAML, an annotation makes no sense, or a pod is written in a way that cannot be added to.
pub fn inject(text: &str, defaults: &Sidecar) -> Result<Injected, InjectError> {
    let mut injected = Injected {
        text: String::new(),
        pods: 0,
    };
    let mut patches = Vec::new();
    for document in yaml::values(text)? {
        let mut adds = Vec::new();
        for pointer in pods(&document) {
            let pod = document.pointer(&pointer).unwrap_or(&Value::Null);
            if pod.pointer("/metadata/labels").and_then(|it| it.get(LABEL)) == Some(&"false".into())
            {
                continue;
            }
            let patch = patch(pod, defaults).map_err(|error| InjectError::Pod {
                kind: text_at(&document, "/kind"),
                name: text_at(&document, "/metadata/name"),
                error,
            })?;
            injected.pods += 1;
            adds.extend(patch.into_iter().map(|add| Add {
                path: format!("{pointer}{}", add.path),
                ..add
            }));
        }
        patches.push(adds);
    }
    injected.text = yaml::add(text, &patches)?;
    Ok(injected)
}

/// What has become of a text.
#[derive(Debug, Eq, PartialEq)]
pub struct Injected {
    /// The text with pillion in its pods.
    pub text: String,
    /// How many pods there are that have it now.
    pub pods: usize,
}

/// Why nothing is put into a text.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The text.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A pod in it.
    #[error("{kind} `{name}`: {error}")]
    Pod {
        /// Of which manifest.
        kind: String,
        /// What it is called.
        name: String,
        /// What is wrong with it.
        error: PatchError,
    },
}

/// Where the pods and the templates of pods are in a manifest (RFC 6901).
fn pods(manifest: &Value) -> Vec<String> {
    let kind = manifest
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match kind {
        "Pod" => vec![String::new()],
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => {
            vec!["/spec/template".to_owned()]
        }
        "CronJob" => vec!["/spec/jobTemplate/spec/template".to_owned()],
        "PodTemplate" => vec!["/template".to_owned()],
        _ if kind.ends_with("List") => {
            let items = manifest.get("items").and_then(Value::as_array);
            let items = items.into_iter().flatten().enumerate();
            let pods = items.flat_map(|(number, item)| {
                let within = pods(item).into_iter();
                within.map(move |pod| format!("/items/{number}{pod}"))
            });
            pods.collect()
        }
        _ => Vec::new(),
    }
}

fn text_at(manifest: &Value, pointer: &str) -> String {
    let text = manifest.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
