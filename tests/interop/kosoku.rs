//! kosoku, which judges WebSocket servers by the cases of the Autobahn TestSuite: through pillion it says what it says of
//! the server itself.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::node::Server;
use crate::python;
use crate::stage::Stage;

type Verdicts = BTreeMap<String, [String; 2]>;

async fn judge(url: &str) -> Verdicts {
    let mut command = python::script("websocket.py");
    command.args(["judge", url]).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    serde_json::from_slice(&output.await.unwrap().stdout).unwrap()
}

#[tokio::test]
async fn every_case_ends_through_pillion_as_it_ends_without() {
    let mut command = python::script("websocket.py");
    command.arg("serve");
    let server = Server::run(command).await;
    let echo = server.said("echo");
    let stage = Stage::set().upstream_at(echo).start().await;
    let directly = judge(echo).await;
    let through = judge(&format!("http://{}/api", stage.address())).await;
    assert!(directly.len() > 240);
    assert_eq!(through.len(), directly.len());
    let differ = |(case, verdict): &(&String, &[String; 2])| through.get(*case) != Some(verdict);
    let different: Vec<_> = directly.iter().filter(differ).collect();
    assert!(different.is_empty(), "{different:?}");
    let good = |[messages, _]: &&[String; 2]| messages != "FAILED";
    assert!(through.values().filter(good).count() > 240);
}
