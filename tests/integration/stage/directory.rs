//! A directory that is gone when its test is over.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and says where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Replaces a file as editors and careful programs do: whole, at once.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let new = self.write(&format!("{name}.new"), text);
        std::fs::rename(new, self.0.join(name)).unwrap();
    }

    /// A library for `LD_PRELOAD`, of this file among the tests.
    pub(crate) fn preload(&self, source: &str) -> PathBuf {
        let library = self.0.join(source).with_extension("so");
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
        assert!(compiler.arg(tests.join(source)).status().unwrap().success());
        library
    }

    /// A new version of a mounted ConfigMap with this proxy.toml: a directory of its own, and `..data` swapped to it.
    pub(crate) fn swap_config_map(&self, version: &str, text: &str) {
        std::fs::create_dir(self.0.join(version)).unwrap();
        self.write(&format!("{version}/proxy.toml"), text);
        let next = self.0.join("..data_tmp");
        symlink(version, &next).unwrap();
        std::fs::rename(next, self.0.join("..data")).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
