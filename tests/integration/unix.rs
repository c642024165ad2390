//! Unix sockets: the app may call through one, and an upstream may be at the end of one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pillion::cli::run::{self, Overlay, StartError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::stage::{Directory, Stage, read_answer, within};

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

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_to_them() {
    let directory = Directory::new();
    let path = directory.path().join("proxy.sock");
    let stage = start(&path).await;
    let config = directory.write("proxy.toml", &stage.config);
    let overlay = || Overlay {
        free_ports: true,
        ..Overlay::default()
    };
    let second = run::start(&config, overlay(), false);
    assert!(
        matches!(second, Err(StartError::Socket { .. })),
        "{second:?}"
    );
    let answer = call(&path, CALL).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    // Nor is a file removed that is no socket.
    stage.running.drain().await;
    fs::write(&path, "precious").unwrap();
    let third = run::start(&config, overlay(), false);
    assert!(matches!(third, Err(StartError::Socket { .. })), "{third:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// Whoever may open the socket's file, the system says whose process it is.
#[tokio::test]
async fn a_process_of_another_user_is_let_in_only_where_the_file_says() {
    for (peer_uids, is_let_in) in [("", false), ("peer_uids = [65534]", true)] {
        let directory = Directory::new();
        let path = directory.path().join("proxy.sock");
        let stage = start_with(&path, peer_uids).await;
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if is_let_in { 0o666 } else { 0o600 });
        assert!(call(&path, CALL).await.starts_with("HTTP/1.1 200 OK\r\n"));
        // Only root can appear as somebody else.
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            continue;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let requests = stage.upstream.server().requests();
        let answer = call_as(65534, &path).await;
        assert_eq!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            is_let_in,
            "{answer}"
        );
        assert_eq!(answer.is_empty(), !is_let_in);
        let now = stage.upstream.server().requests();
        assert_eq!(now - requests, usize::from(is_let_in));
    }
}

#[tokio::test]
async fn an_upstream_may_be_at_the_end_of_a_unix_socket() {
    for (more, host, target) in [
        ("", "localhost", "/x?y=1"),
        (":/base", "localhost", "/base/x?y=1"),
        ("://app.internal/base/", "app.internal", "/base/x?y=1"),
        ("://app.internal:81", "app.internal:81", "/x?y=1"),
    ] {
        let directory = Directory::new();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let app = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            head + &read_head(&mut stream).await
        });
        let stage = Stage::set()
            .upstream_at(format!("unix:{}{more}", path.display()))
            .start()
            .await;
        let mut client = stage.client().await;
        let reply = client.get("/api/x?y=1").await.expect_ok();
        assert_eq!(reply.body, "ok");
        // The second one comes on the same connection.
        let second = client.get("/api/x?y=1");
        let (heads, broken) = tokio::join!(within(app), second);
        broken.expect_problem(502, "upstream-unreachable");
        let heads = heads.unwrap();
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert_eq!(heads.matches(&line).count(), 2, "{heads}");
        assert_eq!(
            heads.matches(&format!("host: {host}\r\n")).count(),
            2,
            "{heads}"
        );
        assert_eq!(
            heads.matches("authorization: Bearer ").count(),
            2,
            "{heads}"
        );
    }
}

#[tokio::test]
async fn an_upstream_whose_socket_is_not_there_is_a_502_until_it_is() {
    let directory = Directory::new();
    let path = directory.path().join("app.sock");
    let stage = Stage::set()
        .upstream_at(format!("unix:{}", path.display()))
        .start()
        .await;
    let mut client = stage.client().await;
    let reply = client.get("/api/").await;
    reply.expect_problem(502, "upstream-unreachable");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (_stream, reply) = tokio::join!(serving, client.get("/api/"));
    reply.expect_ok();
}

async fn start(path: &Path) -> Stage {
    start_with(path, "").await
}

async fn start_with(path: &Path, listen: &str) -> Stage {
    let listen = format!(
        "[listen]\naddress = [\"127.0.0.1:0\", \"unix:{}\"]\n{listen}",
        path.display()
    );
    Stage::set().top(&listen).start().await
}

/// What a process of another user gets to hear: nothing, if it is not let in.
async fn call_as(uid: u32, path: &Path) -> String {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        try:\n    s.sendall(sys.argv[2].encode())\nexcept OSError:\n    pass\n\
        while True:\n    \
            try:\n        piece = s.recv(4096)\n    except OSError:\n        break\n    \
            if not piece:\n        break\n    \
            sys.stdout.write(piece.decode())\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(path).arg(CALL).uid(uid);
    let python = python.stdout(Stdio::piped()).spawn().unwrap();
    let ended = tokio::task::spawn_blocking(|| python.wait_with_output());
    let output = within(ended).await.unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn call(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(stream).await
}
