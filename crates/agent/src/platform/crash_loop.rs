//! Reports the exits of one program, and detects when it crashes in a loop.

use super::{child_output::ChildOutput, process_table::ExitCode, readiness::Readiness};
use crate::{channel::event_queue::EventQueue, log};
use anteroom_screen::truncate_text;
use anteroom_wire::agent::{MachineEvent, Stage};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// This many exits …
const LOOP_EXITS: usize = 5;
/// … within this time are a crash loop.
const LOOP_WINDOW_S: u64 = 120;
/// A program that runs this long has left its crash loop.
const STABLE_MS: u64 = 15_000;
/// How often a program in a crash loop is checked.
const CHECK_EVERY_MS: u64 = 1_000;

/// Tracks the exits of one program. Cheap to clone: all clones share one history.
#[derive(Clone)]
pub(crate) struct CrashTracker {
    name: &'static str,
    stage: Stage,
    readiness: Arc<Readiness>,
    events: Arc<EventQueue>,
    history: Arc<Mutex<ExitHistory>>,
}

#[derive(Debug, Default)]
struct ExitHistory {
    restarts: u32,
    recent: VecDeque<Instant>,
    running_since: Option<Instant>,
    /// When the crash loop was last reported; `None`: the program is not in one.
    loop_reported: Option<Instant>,
}

impl ExitHistory {
    /// Records an exit at `now`. `Some`: a crash loop must be reported, with this many recent exits.
    fn record_exit(&mut self, now: Instant) -> Option<usize> {
        let window = Duration::from_secs(LOOP_WINDOW_S);
        self.running_since = None;
        self.recent.push_back(now);
        self.recent.retain(|&at| now.saturating_duration_since(at) < window);
        let report_due = self.loop_reported.is_none_or(|at| now.saturating_duration_since(at) >= window);
        let report = self.recent.len() >= LOOP_EXITS && report_due;
        if report {
            self.loop_reported = Some(now);
        }
        report.then_some(self.recent.len())
    }

    /// Whether the program has just left its crash loop.
    fn left_loop(&mut self, now: Instant) -> bool {
        let stable = Duration::from_millis(STABLE_MS);
        let left = self.loop_reported.is_some()
            && self.running_since.is_some_and(|since| now.saturating_duration_since(since) >= stable);
        if left {
            self.loop_reported = None;
            self.recent.clear();
        }
        left
    }
}

impl CrashTracker {
    /// For the program `name`, whose failures count for `stage`.
    pub(crate) fn new(name: &'static str, stage: Stage, readiness: Arc<Readiness>, events: Arc<EventQueue>) -> Self {
        Self { name, stage, readiness, events, history: Arc::default() }
    }

    /// Records that the program was started.
    pub(crate) fn record_start(&self) {
        self.history.lock().running_since = Some(Instant::now());
    }

    /// Reports that the program ended, or could not be started (`Err`).
    pub(crate) fn record_exit(&self, exit: &io::Result<ExitCode>, output: &ChildOutput) {
        let name = self.name;
        let mut last_lines = output.last_lines();
        let (code, summary) = match exit {
            Ok(code) => (Some(*code), format!("{name} ended with {code}")),
            Err(error) => (None, format!("{name} could not be started: {error}")),
        };
        if code.is_none() {
            last_lines.push(summary.clone());
        }
        let (restarts, crash_loop, is_first_report) = {
            let mut history = self.history.lock();
            let (restarts, is_first_report) = (history.restarts, history.loop_reported.is_none());
            history.restarts = history.restarts.saturating_add(1);
            (restarts, history.record_exit(Instant::now()), is_first_report)
        };
        log::write_line(&format!("{summary} (restarts {restarts}): {}", last_lines.join(" | ")));
        self.readiness.record_failure(self.stage, &format!("{summary}; {}", last_lines.join("\n")));
        let last_lines: Vec<String> = last_lines.iter().map(|line| truncate_text(line)).collect();
        let name = name.to_owned();
        self.events.push(MachineEvent::ChildExited {
            name: name.clone().into(),
            code,
            restarts,
            last_lines: last_lines.clone().into(),
        });
        let Some(exits) = crash_loop else { return };
        let exits = u32::try_from(exits).unwrap_or(u32::MAX);
        log::write_line(&format!("{name} ended {exits} times within {LOOP_WINDOW_S} s"));
        self.events.push(MachineEvent::CrashLoop {
            name: name.into(),
            exits,
            window_s: LOOP_WINDOW_S,
            code,
            last_lines: last_lines.into(),
        });
        if is_first_report {
            tokio::spawn(self.clone().report_recovery());
        }
    }

    /// Waits until the program has left its crash loop, and reports that.
    async fn report_recovery(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)).await;
            if self.history.lock().left_loop(Instant::now()) {
                self.events.push(MachineEvent::CrashLoopEnded { name: self.name.into() });
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_loop_is_reported_once_a_window_and_ends_when_the_program_is_stable() {
        let (began, mut history) = (Instant::now(), ExitHistory::default());
        let at = |s: u64| began + Duration::from_secs(s);
        let reports: Vec<_> = (0..10).map(|s| history.record_exit(at(s))).collect();
        assert_eq!(reports.iter().flatten().collect::<Vec<_>>(), [&LOOP_EXITS]);
        assert!(!history.left_loop(at(1_000)), "it does not run");
        history.running_since = Some(at(10));
        assert!(!history.left_loop(at(20)));
        assert!(history.left_loop(at(26)));
        assert!(!history.left_loop(at(27)), "reported once");
        assert_eq!(history.record_exit(at(30)), None, "the count starts again");
    }

    #[test]
    fn rare_exits_are_no_crash_loop_and_a_lasting_one_is_reported_again() {
        let (began, mut history) = (Instant::now(), ExitHistory::default());
        let at = |s: u64| began + Duration::from_secs(s);
        assert!((0..20).all(|n| history.record_exit(at(n * 40)).is_none()));
        let reports = (0..300).filter(|s| history.record_exit(at(2_000 + s)).is_some()).count();
        assert_eq!(reports, 3, "at the fifth exit, and twice more in 300 s");
    }
}
