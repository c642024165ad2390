//! What has to be added to a pod so that pillion is in it (RFC 6902).

use serde::Serialize;
use serde_json::{Value, json};

use super::annotations::{self, AnnotationError};
use super::sidecar::{Mode, NAME, Sidecar};

/// An `add` of RFC 6902 §4.1; nothing else is ever done to a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename = "add")]
pub struct Add {
    /// Where (RFC 6901).
    pub path: String,
    /// What.
    pub value: Value,
}

/// What a pod lacks. Nothing if it has a container `pillion`: asked twice, it is done once.
///
/// # Errors
///
/// When an annotation of the pod makes no sense, or there is no container to be beside.
pub fn patch(pod: &Value, defaults: &Sidecar) -> Result<Vec<Add>, PatchError> {
    let empty = Value::Null;
    let sidecar = annotations::read(pod.get("metadata").unwrap_or(&empty), defaults)?;
    let spec = pod.get("spec").unwrap_or(&empty);
    if list(spec, "containers").is_none_or(Vec::is_empty) {
        return Err(PatchError::NoContainers);
    }
    let all = ["initContainers", "containers"].map(|field| list(spec, field));
    let mut containers = all.into_iter().flatten().flatten();
    if containers.any(|container| container.get("name") == Some(&json!(NAME))) {
        return Ok(Vec::new());
    }
    let field = match sidecar.mode {
        Mode::Sidecar => "initContainers",
        Mode::Container => "containers",
    };
    let mut patch = add_first(spec, field, vec![sidecar.container()]);
    // A volume of this name that is there already is the pod's own wish.
    let has = |volume: &Value| {
        let volumes = list(spec, "volumes").into_iter().flatten();
        volumes
            .into_iter()
            .any(|it| it.get("name") == volume.get("name"))
    };
    let volumes = sidecar.volumes().into_iter().filter(|it| !has(it));
    patch.extend(add_first(spec, "volumes", volumes.collect()));
    Ok(patch)
}

/// Why a pod is not patched.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatchError {
    /// An annotation.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// It is no pod.
    #[error("there are no containers in the pod's spec")]
    NoContainers,
}

fn list<'a>(spec: &'a Value, field: &str) -> Option<&'a Vec<Value>> {
    spec.get(field).and_then(Value::as_array)
}

fn add_first(spec: &Value, field: &str, values: Vec<Value>) -> Vec<Add> {
    if values.is_empty() {
        return Vec::new();
    }
    let path = format!("/spec/{field}");
    if list(spec, field).is_none() {
        return vec![Add {
            path,
            value: Value::Array(values),
        }];
    }
    let values = values.into_iter().enumerate();
    let adds = values.map(|(number, value)| Add {
        path: format!("{path}/{number}"),
        value,
    });
    adds.collect()
}

/// Carries out a patch. What it is about has to be there: an addition to nothing is passed over.
pub fn apply(document: &mut Value, patch: &[Add]) {
    for add in patch {
        let (parent, last) = add.path.rsplit_once('/').unwrap_or_default();
        match document.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.insert(last.to_owned(), add.value.clone());
            }
            Some(Value::Array(items)) => {
                let at = last
                    .parse()
                    .map_or(items.len(), |at: usize| at.min(items.len()));
                items.insert(at, add.value.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(mut pod: Value) -> Value {
        let adds = patch(&pod, &Sidecar::default()).unwrap();
        apply(&mut pod, &adds);
        pod
    }

    #[test]
    fn the_sidecar_is_the_first_of_the_init_containers() {
        let pod = patched(json!({ "spec": {
            "initContainers": [{ "name": "migrate" }],
            "containers": [{ "name": "app" }],
            "volumes": [{ "name": "data" }],
        }}));
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "pillion");
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "migrate");
        assert_eq!(pod["spec"]["volumes"][0]["name"], "pillion");
        assert_eq!(pod["spec"]["volumes"][1]["name"], "data");
    }

    #[test]
    fn a_pod_that_has_it_stays_as_it_is() {
        let pod = patched(json!({ "spec": { "containers": [{ "name": "app" }] } }));
        assert_eq!(patch(&pod, &Sidecar::default()).unwrap(), []);
        let beside = json!({ "spec": { "containers": [{ "name": "pillion" }] } });
        assert_eq!(patch(&beside, &Sidecar::default()).unwrap(), []);
    }

    #[test]
    fn beside_the_app_it_is_started_first_and_the_app_waits_for_it() {
        let pod = patched(json!({
            "metadata": { "annotations": { "pillion.dev/mode": "container" } },
            "spec": { "initContainers": null, "containers": [{ "name": "app" }] },
        }));
        let first = &pod["spec"]["containers"][0];
        assert_eq!(first["name"], "pillion");
        assert_eq!(
            first["lifecycle"]["postStart"]["exec"]["command"][1],
            "wait"
        );
        assert!(first.get("restartPolicy").is_none());
        assert_eq!(pod["spec"]["initContainers"], Value::Null);
    }

    #[test]
    fn a_volume_of_the_pods_own_is_used() {
        let own = json!({ "name": "pillion", "emptyDir": {} });
        let pod =
            patched(json!({ "spec": { "containers": [{ "name": "app" }], "volumes": [own] } }));
        assert_eq!(pod["spec"]["volumes"], json!([own]));
    }

    #[test]
    fn what_is_no_pod_is_told() {
        let refused = patch(&json!({ "spec": {} }), &Sidecar::default());
        assert_eq!(refused, Err(PatchError::NoContainers));
    }
}
