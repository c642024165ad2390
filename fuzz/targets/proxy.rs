//! Any bytes on a connection to the whole proxy: what comes to the upstream is well-formed, the next caller gets its own
//! answer, and nothing hangs.

#![no_main]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pillion::cli::run::{Overlay, start};
use pillion::provider::secret::Secrets;
use tokio::runtime::Builder;

#[expect(dead_code, reason = "tests look at more of what arrives")]
#[path = "../../tests/integration/stage/strict.rs"]
mod strict;

use strict::StrictUpstream;

struct Stage {
    upstream: StrictUpstream,
    address: SocketAddr,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let upstream = StrictUpstream::start().await;
            let config = format!(
                "[listen]\nworkers = 1\n[provider.p]\ntype = \"static\"\nsecret = {{ env = \"SECRET\" }}\n\
                 [[route]]\npath = \"/api\"\nprovider = \"p\"\nupstream = \"http://{}\"\n",
                upstream.address
            );
            let path = std::env::temp_dir().join(format!("pillion-fuzz-{}.toml", std::process::id()));
            std::fs::write(&path, config).expect("written");
            let overlay = Overlay {
                secrets: Secrets::supplied(|_| Some("secret".to_owned())),
                free_ports: true,
                ..Overlay::default()
            };
            let running = start(&path, overlay, false).expect("started");
            let address = running.addresses[0];
            sender.send(Stage { upstream, address }).expect("received");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("a stage")
});

fuzz_target!(|bytes: &[u8]| {
    exchange(bytes, QUIET);
    drop(STAGE.upstream.take().unwrap_or_else(|error| panic!("{error}")));
    let answer = exchange(SENTINEL, PATIENCE);
    assert!(answer.ends_with(b"/sentinel"), "{}", String::from_utf8_lossy(&answer));
    drop(STAGE.upstream.take().unwrap_or_else(|error| panic!("{error}")));
});

/// What comes back: until nothing has come for so long, and then, when there is nothing more to come from here.
fn exchange(bytes: &[u8], silence: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(STAGE.address).expect("connected");
    // It may be refused in the middle.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    if !is_over(&mut stream, &mut answer, silence) {
        stream.shutdown(Shutdown::Write).ok();
        assert!(is_over(&mut stream, &mut answer, PATIENCE), "no end after {PATIENCE:?}");
    }
    answer
}

/// Whether the other side closes before it is silent for so long.
fn is_over(stream: &mut TcpStream, answer: &mut Vec<u8>, silence: Duration) -> bool {
    stream.set_read_timeout(Some(silence)).expect("set");
    let read = stream.read_to_end(answer);
    !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

const SENTINEL: &[u8] = b"GET /api/sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const QUIET: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);
