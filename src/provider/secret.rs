//! Secrets: where they are, read when they are used, and a type that cannot be printed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use nix::sys::statvfs::{FsFlags, statvfs};
use zeroize::Zeroizing;

use super::Input;
use crate::net::unreadable::why;

/// Text that must never be seen: no `Display`, no `Serialize`, zeroed when dropped.
///
/// A search for [`reveal`](Self::reveal) finds every place where one leaves the process. None of these compiles:
///
/// ```compile_fail,E0277
/// # let secret = pillion::provider::secret::Secret::new(String::new());
/// println!("{secret}");
/// ```
/// ```compile_fail,E0277
/// # let secret = pillion::provider::secret::Secret::new(String::new());
/// serde_json::to_string(&secret);
/// ```
/// ```compile_fail,E0614
/// # let secret = pillion::provider::secret::Secret::new(String::new());
/// let text: &str = &*secret;
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, on its way out of the process.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is kept. Read each time it is used, so that a rotated file is picked up by the next fetch.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum SecretRef {
    /// `{ env = "NAME" }`
    Env(String),
    /// `{ file = "/path" }`
    File(PathBuf),
}

impl SecretRef {
    /// The file that it is in, if every user of this machine may read that.
    ///
    /// What is mounted read-only is the platform's, and so is a volume of Kubernetes, which is behind a directory that begins
    /// with two dots: there everybody may read by default, and who is there is the platform's to say.
    #[must_use]
    pub fn open_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => is_open(path).unwrap_or(false).then_some(path),
            Self::Env(_) => None,
        }
    }
}

fn is_open(path: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(path)?;
    let is_volume = path
        .iter()
        .any(|name| name.as_encoded_bytes().starts_with(b".."));
    if is_volume || statvfs(&path)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(false);
    }
    for folder in path.ancestors().skip(1) {
        if fs::metadata(folder)?.mode() & MAY_ENTER == 0 {
            return Ok(false);
        }
    }
    Ok(fs::metadata(&path)?.mode() & MAY_READ != 0)
}

/// Of a file's mode: all others may read it.
const MAY_READ: u32 = 0o004;
/// Of a directory's mode: all others may open what is in it.
const MAY_ENTER: u32 = 0o001;

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Reads secrets: from where they are, or from what the demo and the tests supply in their place.
#[derive(Clone, Default)]
pub struct Secrets {
    supplied: Option<Arc<Supply>>,
}

type Supply = dyn Fn(&SecretRef) -> Option<String> + Send + Sync;

impl Secrets {
    /// Asks `supply` first, and the environment or the file only where it has nothing.
    #[must_use]
    pub fn supplied(supply: impl Fn(&SecretRef) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            supplied: Some(Arc::new(supply)),
        }
    }

    /// The secret as it is now, one trailing newline cut.
    ///
    /// # Errors
    ///
    /// When it is not there, cannot be read, is empty or is not text. The error names the place, never the content.
    pub fn read(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let text = match self.supplied.as_ref().and_then(|supply| supply(reference)) {
            Some(text) => text,
            None => read_in_place(reference).map_err(|reason| SecretError {
                reference: reference.clone(),
                reason,
            })?,
        };
        let mut text = text;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(SecretError {
                reference: reference.clone(),
                reason: "is empty".to_owned(),
            });
        }
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// Text in which none of these secrets can be seen, and none of these inputs.
pub(super) fn redact<'a>(
    text: &str,
    secrets: impl Iterator<Item = &'a Secret>,
    inputs: impl Iterator<Item = Input<'a>>,
) -> String {
    secrets
        .map(Secret::reveal)
        .chain(inputs.map(Input::as_str))
        // What is shorter is in every text.
        .filter(|hidden| hidden.len() >= 4)
        .fold(text.to_owned(), |text, hidden| text.replace(hidden, "***"))
}

/// A secret that cannot be read now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reference} {reason}")]
pub struct SecretError {
    /// Where the secret should be.
    pub reference: SecretRef,
    /// What is wrong there.
    pub reason: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn read_in_place(reference: &SecretRef) -> Result<String, String> {
    match reference {
        SecretRef::Env(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => "is not set".to_owned(),
            std::env::VarError::NotUnicode(_) => "is not text".to_owned(),
        }),
        SecretRef::File(path) => {
            let length = fs::metadata(path)
                .map_err(|error| format!("cannot be read: {}", why(error.kind())))?
                .len();
            if length > MAX_SECRET_BYTES {
                return Err(format!("is larger than {MAX_SECRET_BYTES} bytes"));
            }
            let bytes =
                fs::read(path).map_err(|error| format!("cannot be read: {}", why(error.kind())))?;
            String::from_utf8(bytes).map_err(|error| {
                drop(Zeroizing::new(error.into_bytes()));
                "is not text".to_owned()
            })
        }
    }
}

/// A private key with its certificate chain is the largest secret there is.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn supplied(text: &'static str) -> Result<Secret, SecretError> {
        Secrets::supplied(move |_| Some(text.to_owned())).read(&SecretRef::Env("X".to_owned()))
    }

    #[test]
    fn one_trailing_newline_is_cut() {
        for (text, secret) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n")] {
            assert_eq!(supplied(text).unwrap().reveal(), secret);
        }
    }

    #[test]
    fn an_empty_secret_is_an_error_that_names_its_place() {
        let error = supplied("\n").unwrap_err();
        assert_eq!(error.to_string(), "environment variable X is empty");
    }

    #[test]
    fn a_secret_prints_as_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hush".to_owned())), "[secret]");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Secrets::default()
            .read(&SecretRef::File("/nowhere/at/all".into()))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "file /nowhere/at/all cannot be read: there is no such file"
        );
    }
}
