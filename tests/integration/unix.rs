//! The app may call through a Unix socket, too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::stage::{Directory, Stage, read_answer};

const CALL: &str =
    "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address_and_only_for_its_owner() {
    let directory = Directory::new();
    let path = directory.path().join("proxy.sock");
    let stage = start(&path).await;
    assert_eq!(stage.running.sockets, std::slice::from_ref(&path));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let answer = call(&path, CALL).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(&seen.body[..], b"hi");
    stage.identity_provider.revoke_all();
    let answer = call(&path, CALL).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let foreign = CALL.replace("localhost", "evil.example");
    let answer = call(&path, &foreign).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    stage.running.drain().await;
    assert!(!path.exists(), "it is removed at the end");
}

#[tokio::test]
async fn a_socket_that_a_dead_process_has_left_is_replaced() {
    let directory = Directory::new();
    let path = directory.path().join("proxy.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _stage = start(&path).await;
    let answer = call(&path, CALL).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

async fn start(path: &std::path::Path) -> Stage {
    let listen = format!(
        "[listen]\naddress = [\"127.0.0.1:0\", \"unix:{}\"]",
        path.display()
    );
    Stage::set().top(&listen).start().await
}

async fn call(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(stream).await
}
