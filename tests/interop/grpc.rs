//! gRPC's own library, in Python, on both sides: the app calls pillion as it would call its server.

use std::process::Command;

use pillion::fake::Authority;
use serde_json::{Value, json};

use crate::node::Server;
use crate::python;
use crate::stage::{Directory, Stage};

fn script() -> Command {
    python::script("grpc_calls.py")
}

async fn serve() -> Server {
    let mut command = script();
    command.arg("serve");
    Server::run(command).await
}

/// A stage before this server.
async fn stage_at(server: &Server, listen: &str) -> Stage {
    Stage::set()
        .route("path = \"/test.Test\"\nhttp_version = \"2\"")
        .upstream_at(format!("http://{}/test.Test", server.said("api")))
        .top(listen)
        .start()
        .await
}

/// What an app says of its calls.
async fn calls(arguments: &[&str]) -> Value {
    let mut command = script();
    command.arg("call").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn expect(told: &Value) {
    let expected = json!({
        "echo": "hello",
        "large": true,
        "trailers": ["3", [0, 255]],
        "at_once": (0..300).sum::<u32>(),
        "tell": "1000000",
        "listen": (0..1000).sum::<u32>(),
        "talk": true,
        "fail": ["NOT_FOUND", "größe 100%"],
        "deadline": "DEADLINE_EXCEEDED",
        "deadline_seen": "yes",
        "cancel_seen": "yes",
        "renewed": "again",
        "renewed_stream": "6",
        "too_late": ["UNAUTHENTICATED", "the token is no good"],
        "and_then": ["a part", "the rest"],
        "no_route": ["UNIMPLEMENTED", "no route takes this request"],
    });
    assert_eq!(*told, expected);
}

#[tokio::test]
async fn calls_of_every_kind_pass_and_renew_their_token() {
    let server = serve().await;
    let stage = stage_at(&server, "").await;
    let told = calls(&[&stage.address().to_string()]).await;
    expect(&told);
    assert_eq!(stage.identity_provider.fetches(), 4);
}

#[tokio::test]
async fn and_so_they_do_over_tls() {
    let server = serve().await;
    let (authority, directory) = (Authority::new().unwrap(), Directory::new());
    let own = authority.server_certificate(&["localhost"]).unwrap();
    let chain = directory.write("tls.crt", &own.certificate_pem);
    let key = directory.write("tls.key", &own.key_pem);
    let root = directory.write("ca.pem", authority.certificate_pem());
    let listen = format!(
        "[listen]\ntls = {{ cert = \"{}\", key = \"{}\" }}",
        chain.display(),
        key.display()
    );
    let stage = stage_at(&server, &listen).await;
    let address = format!("localhost:{}", stage.address().port());
    let told = calls(&[&address, &root.display().to_string()]).await;
    expect(&told);
}
