//! What the user wrote, and every mistake in it.

mod check;
pub mod file;
mod mask;
pub mod report;
pub mod span;
mod suggest;

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
    let mut report = Report::new(label, text);
    let Some(draft) = file::read(&mut report) else {
        return Err(report);
    };
    check::check(&draft, &mut report);
    if report.has_errors() {
        return Err(report);
    }
    Ok((draft.file, report))
}
