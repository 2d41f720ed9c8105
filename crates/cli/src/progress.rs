//! Progress of a long operation: a bar on a terminal, lines otherwise.

use super::output::{one_line, print_error_line};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use tokio::task::JoinHandle;

/// Time after which a wait is shown.
const SHOW_AFTER: Duration = Duration::from_secs(1);

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

/// Whether nothing is shown: a program or a person's line uses the terminal.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Shows no waits from now on.
pub(super) fn hide_waits() {
    IS_QUIET.store(true, Relaxed);
}

/// Says on the terminal of standard error what is waited for, if it takes longer than a second. Dropping it clears the line.
pub(super) struct Wait {
    bar: ProgressBar,
    start: Option<JoinHandle<()>>,
}

impl Wait {
    /// Begins a wait. `text` is shown as it is.
    pub(super) fn begin(text: &str) -> Self {
        let bar = ProgressBar::hidden();
        if IS_QUIET.load(Relaxed) || !std::io::stderr().is_terminal() {
            return Self { bar, start: None };
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(one_line(text));
        let shown = bar.clone();
        let start = tokio::spawn(async move {
            tokio::time::sleep(SHOW_AFTER).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(120));
        });
        Self { bar, start: Some(start) }
    }

    /// Says what is waited for now.
    pub(super) fn show(&self, text: &str) {
        self.bar.set_message(one_line(text));
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(start) = &self.start {
            start.abort();
        }
        self.bar.finish_and_clear();
    }
}
