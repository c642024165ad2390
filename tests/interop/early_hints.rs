//! Interim answers, as Node.js sees them in HTTP/2: nghttp2 reads what pillion writes.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::stage::{Raw, Stage};

#[tokio::test]
async fn an_app_in_node_is_told_early_hints_before_the_answer() {
    let upstream = Raw::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let stage = Stage::set().upstream_at(upstream.url()).start().await;
    let mut node = Command::new("node");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    node.arg(folder.join("early-hints.mjs"))
        .arg(stage.address().to_string())
        .arg("/api/");
    let output = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = output.await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let interim = json!([[103, "</a.css>"], [102, null]]);
    assert_eq!(
        told,
        json!({ "interim": interim, "status": 200, "body": "ok" })
    );
}
