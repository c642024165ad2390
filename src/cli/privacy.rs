//! What the process keeps to itself: its memory, and what a panic would say.

use std::panic::{self, PanicHookInfo};

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Leaves no core dump, and lets no other process of this user look into the memory of this one (`PR_SET_DUMPABLE` in
/// prctl(2), `RLIMIT_CORE` in setrlimit(2)). Root may.
///
/// # Errors
///
/// What the system says; the process can go on without.
pub(super) fn close_memory() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)
}

/// From now on a panic says where it was and not what: the words may be somebody's token.
pub(super) fn hush_panics() {
    panic::set_hook(Box::new(|panicked| {
        let place = place(panicked);
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a bug in pillion: please report it");
        } else {
            eprintln!("pillion: a bug in pillion at {place}: please report it");
        }
    }));
}

fn place(panicked: &PanicHookInfo<'_>) -> String {
    panicked
        .location()
        .map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::provider::secret::Secret;

    #[test]
    fn a_panic_with_a_secret_in_its_words_tells_its_place_and_nothing_else() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let before = panic::take_hook();
        hush_panics();
        let caught = tracing::subscriber::with_default(subscriber, || {
            let secret = Secret::new("CNRY-token".to_owned());
            panic::catch_unwind(|| panic!("cannot send {}", secret.reveal()))
        });
        panic::set_hook(before);
        let words = caught.unwrap_err();
        let words = words.downcast_ref::<String>().unwrap();
        assert_eq!(words, "cannot send CNRY-token");
        let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(told.contains("please report it"), "{told}");
        assert!(told.contains("src/cli/privacy.rs:"), "{told}");
        for hidden in ["CNRY", "cannot send"] {
            assert!(!told.contains(hidden), "{told}");
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
