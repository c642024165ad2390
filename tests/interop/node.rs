//! A server in another language: a script of this folder, which Node.js or whatever else runs.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::stage::Client;

/// A first start reads thousands of files from a disk that has them since a moment ago.
const FIRST_START: Duration = Duration::from_mins(3);

/// A script of this folder that is running. Dropping it ends it.
pub(crate) struct Server {
    process: Child,
    said: Value,
}

impl Server {
    pub(crate) async fn start(script: &str, settings: &Value) -> Self {
        Self::trusting(None, script, settings).await
    }

    /// One that takes certificates of this authority for good, when it calls somebody.
    pub(crate) async fn trusting(ca: Option<&Path>, script: &str, settings: &Value) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        assert!(
            folder.join("node_modules").exists(),
            "its packages are missing: npm ci --prefix tests/interop"
        );
        let mut node = Command::new("node");
        node.arg(folder.join(script))
            .arg(settings.to_string())
            .envs(ca.map(|ca| ("NODE_EXTRA_CA_CERTS", ca)));
        Self::run(node).await
    }

    /// One that this command runs, and that says a line of JSON when it is ready.
    pub(crate) async fn run(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let (say, said) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            say.send(line).ok();
            // What it says later is for nobody, but a closed pipe would end it.
            io::copy(&mut stdout, &mut io::sink()).ok();
        });
        let mut server = Self {
            process,
            said: Value::Null,
        };
        let line = timeout(FIRST_START, said).await;
        let line = line
            .unwrap_or_else(|_| panic!("{command:?} says nothing"))
            .unwrap();
        server.said = serde_json::from_str(&line).unwrap();
        server
    }

    /// A text of the line that it says when it is ready.
    #[track_caller]
    pub(crate) fn said(&self, name: &str) -> &str {
        self.said[name].as_str().unwrap()
    }

    /// What it has counted so far.
    pub(crate) async fn seen(&self) -> Value {
        self.ask("/seen").await
    }

    /// From now on every token that it has seen is worth nothing.
    pub(crate) async fn revoke(&self) {
        self.ask("/revoke").await;
    }

    async fn ask(&self, path: &str) -> Value {
        let address = self.said("api").strip_prefix("http://").unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let mut client = Client::connect(address).await;
        client.get(path).await.expect_ok().json()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
