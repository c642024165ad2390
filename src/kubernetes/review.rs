//! AdmissionReview, `admission.k8s.io/v1`: the API server asks what is to be done to a pod.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::annotations::LABEL;
use super::patch::patch;
use super::sidecar::Sidecar;
use crate::metrics::reviews::ReviewOutcome;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    object: Value,
}

/// What is no question that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum BadReview {
    /// Not JSON, or not of the shape of a review.
    #[error("this is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else, or of another version.
    #[error(
        "expected an AdmissionReview of admission.k8s.io/v1, and this is a `{kind}` of `{api_version}`"
    )]
    Kind {
        /// What it says it is.
        kind: String,
        /// Of which group and version.
        api_version: String,
    },
    /// An answer, perhaps.
    #[error("the AdmissionReview holds no `request`")]
    NoRequest,
}

/// What became of a review, and the answer to it. A pod without the label stays as it is, whatever the webhook's selector
/// says; one whose annotations make no sense is refused, with what to write instead.
///
/// # Errors
///
/// When `body` is no review, so that there is no `uid` to answer to.
pub fn answer(body: &[u8], defaults: &Sidecar) -> Result<(ReviewOutcome, Value), BadReview> {
    let Asked {
        api_version,
        kind,
        request,
    } = serde_json::from_slice(body)?;
    if (api_version.as_str(), kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(BadReview::Kind { kind, api_version });
    }
    let Request { uid, object } = request.ok_or(BadReview::NoRequest)?;
    let label = object
        .get("metadata")
        .and_then(|metadata| metadata.get("labels")?.get(LABEL));
    let is_meant = label == Some(&json!("true"));
    let adds = if is_meant {
        patch(&object, defaults)
    } else {
        Ok(Vec::new())
    };
    let (outcome, response) = match adds {
        Ok(adds) if adds.is_empty() => {
            let response = json!({ "uid": uid, "allowed": true });
            (ReviewOutcome::Unchanged, response)
        }
        Ok(adds) => {
            let patch = STANDARD.encode(serde_json::to_vec(&adds)?);
            let response =
                json!({ "uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch });
            (ReviewOutcome::Patched, response)
        }
        Err(error) => {
            let status = json!({ "code": 400, "message": format!("pillion: {error}") });
            let response = json!({ "uid": uid, "allowed": false, "status": status });
            (ReviewOutcome::Refused, response)
        }
    };
    let answer = json!({ "apiVersion": api_version, "kind": kind, "response": response });
    Ok((outcome, answer))
}
