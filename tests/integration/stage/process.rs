//! The program itself, beside the fakes of a stage.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

use super::{Directory, SECRET, Stage, within};

/// The program, with the environment that a test gives it.
pub(crate) fn pillion() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.env("SECRET", SECRET).env_remove("PILLION_CONFIG");
    command
}

/// A command that another user runs, if the test is root's and may choose.
pub(crate) fn as_user(user: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(user).gid(user);
    }
    command
}

/// The program, running beside the fakes of a stage. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: UnboundedReceiver<String>,
    /// What it logged before it was ready.
    early: Vec<String>,
    pub(crate) directory: Directory,
    /// The text of its proxy.toml.
    pub(crate) config: String,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts it with the stage's configuration, and these lines under `[listen]`.
    pub(crate) async fn start(stage: &Stage, listen: &str) -> Self {
        Self::start_in(&[], stage, listen).await
    }

    /// The same, with these variables in its environment.
    pub(crate) async fn start_in(
        environment: &[(&str, &str)],
        stage: &Stage,
        listen: &str,
    ) -> Self {
        Self::start_with(environment, &stage.config, listen).await
    }

    /// The same with a configuration that was the stage's.
    pub(crate) async fn start_with(
        environment: &[(&str, &str)],
        config: &str,
        listen: &str,
    ) -> Self {
        let mut program = pillion();
        program.envs(environment.iter().copied());
        Self::launch(program, config, listen).await
    }

    /// The same, as this command starts it: `pillion` itself, or what becomes it.
    pub(crate) async fn launch(program: Command, config: &str, listen: &str) -> Self {
        Self::spawn(program, Directory::new(), config, listen).await
    }

    /// The same as another user, if the test may: from a place where everybody may look.
    pub(crate) async fn start_as(user: u32, stage: &Stage) -> Self {
        let directory = Directory::new();
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        let program = directory.path().join("pillion");
        fs::copy(env!("CARGO_BIN_EXE_pillion"), &program).unwrap();
        let mut program = as_user(user, program);
        program.env("SECRET", SECRET);
        Self::spawn(program, directory, &stage.config, "").await
    }

    /// The same with these arguments.
    pub(crate) async fn start_saying(arguments: &[&str], stage: &Stage) -> Self {
        let mut program = pillion();
        program.args(arguments);
        Self::spawn(program, Directory::new(), &stage.config, "").await
    }

    async fn spawn(mut program: Command, directory: Directory, config: &str, listen: &str) -> Self {
        let config = format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n[listen]\naddress = \"127.0.0.1:0\"\n{listen}\n{config}"
        );
        let path = directory.write("proxy.toml", &config);
        let mut child = program
            .arg("--config")
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, mut lines) = unbounded_channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines() {
                sender.send(line.unwrap()).ok();
            }
        });
        let mut early = Vec::new();
        let ready = find(&mut lines, "\"ready\"", &mut early).await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let listening = ready["listening"].as_str().unwrap();
        Self {
            address: listening.trim_matches(['[', ']']).parse().unwrap(),
            admin: ready["admin"].as_str().unwrap().parse().unwrap(),
            child,
            lines,
            early,
            directory,
            config,
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What it has used of a core so far, in hundredths of a second (proc(5)).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let mut fields = fields.split(' ').skip(11).map(|ticks| ticks.parse::<u64>());
        fields.next().unwrap().unwrap() + fields.next().unwrap().unwrap()
    }

    /// Waits for a line of its log.
    pub(crate) async fn line(&mut self, part: &str) -> String {
        find(&mut self.lines, part, &mut Vec::new()).await
    }

    /// Its log when it has ended, without the lines that were waited for and what came between them.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest: String = self.early.drain(..).map(|line| line + "\n").collect();
        while let Some(line) = within(self.lines.recv()).await {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> Option<i32> {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The next line with this in it; `seen` gets those before it.
async fn find(lines: &mut UnboundedReceiver<String>, part: &str, seen: &mut Vec<String>) -> String {
    while let Some(line) = within(lines.recv()).await {
        if line.contains(part) {
            return line;
        }
        seen.push(line);
    }
    panic!("no line with {part} in {seen:#?}");
}
