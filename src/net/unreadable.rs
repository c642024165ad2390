//! Why a file cannot be read, in the words of people.

use std::io::ErrorKind;

/// `no such file`, where Rust says `entity not found`.
#[must_use]
pub fn why(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => kind.to_string(),
    }
}
