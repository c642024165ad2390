//! A terminal: what a program writes there, and what then stands on it.

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use tokio::time::Instant;

/// A program on a terminal of its own, which is so high that all of it stands there. Dropping it kills the program.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    /// Everything that was written.
    pub(crate) bytes: Vec<u8>,
    written: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    pub(crate) fn of(mut program: Command) -> Self {
        let size = Winsize {
            ws_row: 400,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let ends = openpty(Some(&size), None).unwrap();
        let child = program
            .env("TERM", "xterm")
            .stdin(ends.slave.try_clone().unwrap())
            .stdout(ends.slave.try_clone().unwrap())
            .stderr(ends.slave)
            .spawn()
            .unwrap();
        // The program has the other end: it is closed when the program ends, not when this command is dropped.
        drop(program);
        let (sender, written) = channel();
        thread::spawn(move || {
            let mut master = File::from(ends.master);
            let mut buffer = vec![0; 4096];
            // Where the other end is closed, reading fails.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                sender.send(buffer[..length].to_vec()).ok();
            }
        });
        Self {
            child,
            bytes: Vec::new(),
            written,
            screen: vt100::Parser::new(size.ws_row, size.ws_col, 0),
        }
    }

    /// What stands there, as soon as it is as wanted.
    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.screen.screen().contents();
            if wanted(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.written.recv_timeout(left) else {
                panic!("what was wanted did not come:\n{text}");
            };
            self.screen.process(&bytes);
            self.bytes.extend(bytes);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
