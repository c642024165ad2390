//! kosoku, which judges WebSocket servers by the cases of the Autobahn TestSuite: through pillion it says what it says of
//! the server itself.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::node::Server;
use crate::python;
use crate::stage::Stage;

type Verdicts = BTreeMap<String, [String; 2]>;

/// What it says of all cases, or of these.
async fn judge(url: &str, cases: &[String]) -> Verdicts {
    let mut command = python::script("websocket.py");
    command.args(["judge", url]).args(cases);
    command.stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    serde_json::from_slice(&output.await.unwrap().stdout).unwrap()
}

fn differing(directly: &Verdicts, through: &Verdicts) -> Vec<String> {
    let differ = |(case, verdict): &(&String, &[String; 2])| through.get(*case) != Some(verdict);
    let different = directly.iter().filter(differ);
    different.map(|(case, _)| case.clone()).collect()
}

/// How often a case may be asked about again.
const AGAIN: usize = 10;

#[tokio::test]
async fn every_case_ends_through_pillion_as_it_ends_without() {
    let mut command = python::script("websocket.py");
    command.arg("serve");
    let server = Server::run(command).await;
    let echo = server.said("echo");
    let stage = Stage::set().upstream_at(echo).start().await;
    let url = format!("http://{}/api", stage.address());
    let directly = judge(echo, &[]).await;
    let through = judge(&url, &[]).await;
    assert!(directly.len() > 240);
    assert_eq!(through.len(), directly.len());
    let mut different = differing(&directly, &through);
    // In some cases the server answers a good frame or only complains of a bad one behind it, as they happen to come
    // together or apart. Asked again it says now this, now that, directly as well.
    for _ in 0..AGAIN {
        if different.is_empty() {
            break;
        }
        let directly = judge(echo, &different).await;
        let through = judge(&url, &different).await;
        different = differing(&directly, &through);
    }
    assert!(different.is_empty(), "{different:?}");
    let good = |[messages, _]: &&[String; 2]| messages != "FAILED";
    assert!(through.values().filter(good).count() > 240);
}
