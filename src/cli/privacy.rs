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
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_tells_its_place_and_not_its_words() {
        let told = Arc::<Mutex<String>>::default();
        let before = panic::take_hook();
        let here = Arc::clone(&told);
        panic::set_hook(Box::new(move |panicked| {
            *here.lock().unwrap() = place(panicked);
        }));
        let caught = panic::catch_unwind(|| panic!("CNRY-token"));
        panic::set_hook(before);
        assert!(caught.is_err());
        let told = told.lock().unwrap();
        assert!(told.contains("privacy.rs:"), "{told}");
        assert!(!told.contains("CNRY"), "{told}");
    }
}
