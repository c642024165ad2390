//! Whether colour is wanted.

use std::ffi::OsStr;

/// On a terminal whose owner does not object.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line may read the environment"
)]
pub(super) fn is_wanted(on_terminal: bool) -> bool {
    wanted(on_terminal, std::env::var_os("NO_COLOR").as_deref())
}

/// NO_COLOR counts if there is something in it (no-color.org).
fn wanted(on_terminal: bool, no_color: Option<&OsStr>) -> bool {
    on_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_owner_wants_them() {
        assert!(wanted(true, None));
        assert!(wanted(true, Some(OsStr::new(""))));
        assert!(!wanted(true, Some(OsStr::new("1"))));
        assert!(!wanted(false, None));
    }
}
