//! What the user wrote, and every mistake in it.

pub mod file;
pub mod report;
pub mod span;

pub use file::File;
pub use report::Report;

/// Reads a configuration file. `label` is what it is called in the output, `text` its content.
///
/// The report that comes with the file holds warnings only; whoever compiles the file may add to it.
///
/// # Errors
///
/// A report of every mistake there is.
pub fn read(label: &str, text: &str) -> Result<(File, Report), Report> {
    Err(Report::new(label, text))
}
