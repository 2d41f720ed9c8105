//! Long work shows how far it is: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// One piece of long work.
pub(super) struct Work {
    bar: ProgressBar,
    last: Mutex<String>,
}

impl Work {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1_000) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:30} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, last: Mutex::default() }
    }

    /// Where the work is now. `fraction` of this step, where it is known.
    #[expect(clippy::print_stderr, reason = "progress where there is no terminal")]
    pub(super) fn at(&self, step: &str, note: &str, fraction: Option<f32>) {
        let text = if note.is_empty() { step.to_owned() } else { format!("{step}: {note}") };
        self.bar.set_message(text);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        self.bar.set_position((fraction.unwrap_or(0.0).clamp(0.0, 1.0) * 1_000.0) as u64);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && *last != step {
            eprintln!("  {step}");
            step.clone_into(&mut last);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
