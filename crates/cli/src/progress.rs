//! Progress of a long operation: a bar on a terminal, lines otherwise.

use super::output::{one_line, print_error_line};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use std::{io::IsTerminal, time::Duration};

/// The progress display of one operation.
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    last_step: Mutex<String>,
}

impl ProgressDisplay {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1_000) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:30} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, last_step: Mutex::default() }
    }

    /// Shows the present step. `fraction`: completed part of the step, 0 to 1, if known.
    pub(super) fn show(&self, step: &str, note: &str, fraction: Option<f32>) {
        let text = if note.is_empty() { step.to_owned() } else { format!("{step}: {note}") };
        self.bar.set_message(one_line(&text));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        self.bar.set_position((fraction.unwrap_or(0.0).clamp(0.0, 1.0) * 1_000.0) as u64);
        let mut last_step = self.last_step.lock();
        if self.bar.is_hidden() && *last_step != step {
            print_error_line(format_args!("  {step}"));
            step.clone_into(&mut last_step);
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
