//! The history of reconciliations since the start of the server, for health and metrics.

use anteroom_store::UnreportedMachineEnd;
use anteroom_wire::operator_reports::{ReconcileActionKind, ReconcileOutcome, ReconcileReport};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::MutexGuard;

const KINDS: usize = ReconcileActionKind::ALL.len();

/// The last reconciliation that finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How many actions it executed.
    pub actions_done: u64,
    /// How many actions it deferred.
    pub deferred: u64,
}

/// The reconciliations of this server since its start.
#[derive(Debug, Default)]
pub struct ReconcileHistory {
    run_lock: tokio::sync::Mutex<()>,
    last: Mutex<Option<LastRun>>,
    done: [AtomicU64; KINDS],
    failures: AtomicU64,
    /// Ends of machines that earlier servers did not record.
    pub(super) unreported_ends: UnreportedEnds,
}

/// Ends of machines that are on no timeline. Loaded once: ends under this server are recorded by supervisors.
#[derive(Debug, Default)]
pub(super) struct UnreportedEnds(Mutex<Option<Vec<UnreportedMachineEnd>>>);

impl UnreportedEnds {
    pub(super) fn is_loaded(&self) -> bool {
        self.0.lock().is_some()
    }

    pub(super) fn load(&self, ends: Vec<UnreportedMachineEnd>) {
        *self.0.lock() = Some(ends);
    }

    pub(super) fn all(&self) -> Vec<UnreportedMachineEnd> {
        self.0.lock().clone().unwrap_or_default()
    }

    /// Removes an end that is recorded, or cannot be.
    pub(super) fn remove(&self, end: &UnreportedMachineEnd) {
        if let Some(ends) = self.0.lock().as_mut() {
            ends.retain(|other| other != end);
        }
    }
}

impl ReconcileHistory {
    /// Waits until no other reconciliation runs.
    pub(super) async fn lock_run(&self) -> MutexGuard<'_, ()> {
        self.run_lock.lock().await
    }

    /// Records a finished run.
    pub(super) fn record_finished(&self, report: &ReconcileReport, at_ms: u64) {
        let mut actions_done = 0;
        for action in report.actions.iter().filter(|action| action.outcome == ReconcileOutcome::Done) {
            actions_done += 1;
            if let Some(index) = ReconcileActionKind::ALL.iter().position(|kind| *kind == action.kind) {
                self.done[index].fetch_add(1, Relaxed);
            }
        }
        let last = LastRun { at_ms, actions_done, deferred: report.deferred.into() };
        *self.last.lock() = Some(last);
    }

    /// Records a failed run.
    pub(super) fn record_failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The last run that finished.
    pub fn last_run(&self) -> Option<LastRun> {
        *self.last.lock()
    }

    /// How often each action was executed.
    pub fn action_counts(&self) -> impl Iterator<Item = (ReconcileActionKind, u64)> {
        ReconcileActionKind::ALL.iter().zip(&self.done).map(|(kind, count)| (*kind, count.load(Relaxed)))
    }

    /// How many runs failed.
    pub fn failure_count(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}
