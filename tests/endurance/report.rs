//! How large a story is, and what it tells when it is over.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// The one place where sizes are decided: so much in the short form, so much in the full one.
pub(crate) const fn size<T: Copy>(short: T, full: T) -> T {
    if IS_FULL { full } else { short }
}

/// Whether the stories are told in full: in a release build, or where `ENDURANCE` is set at compile time.
pub(crate) const IS_FULL: bool = !cfg!(debug_assertions) || option_env!("ENDURANCE").is_some();

/// The figures of one story, printed when it is dropped. While it lives, no other story is told.
pub(crate) struct Report {
    text: String,
    began: Instant,
    _alone: MutexGuard<'static, ()>,
}

impl Report {
    pub(crate) async fn of(story: &str) -> Self {
        static STAGE_IS_TAKEN: Mutex<()> = Mutex::const_new(());
        let alone = STAGE_IS_TAKEN.lock().await;
        Self {
            text: format!("\n{story}\n"),
            began: Instant::now(),
            _alone: alone,
        }
    }

    pub(crate) fn figure(&mut self, what: &str, figure: impl Display) {
        writeln!(self.text, "  {what:<52} {figure:>12}").unwrap();
    }

    /// A text of its own: a histogram.
    pub(crate) fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let took = format!("{:.1} s", self.began.elapsed().as_secs_f64());
        self.figure("took", took);
        // Past the test harness, which would keep it to itself.
        std::io::stdout().write_all(self.text.as_bytes()).ok();
    }
}
