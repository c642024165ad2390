//! kosoku, which judges WebSocket servers by the cases of the Autobahn TestSuite: through pillion it says what it says of
//! the server itself.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::python::Script;
use crate::stage::Stage;

type Verdicts = BTreeMap<String, [String; 2]>;

async fn judge(url: &str) -> Verdicts {
    let said = Script::start("websocket.py", &["judge", url]).said().await;
    serde_json::from_value(said).unwrap()
}

#[tokio::test]
async fn every_case_ends_through_pillion_as_it_ends_without() {
    let mut server = Script::start("websocket.py", &["serve"]);
    let said = server.said().await;
    let Value::String(echo) = &said["echo"] else {
        panic!("{said}");
    };
    let stage = Stage::set().upstream_at(echo.as_str()).start().await;
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
