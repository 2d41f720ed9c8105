//! What sweeps did, for those who ask whether they still run: a sweep that never acts is otherwise not seen.

use anteroom_store::UnreportedEnd;
use anteroom_wire::operations::{ReconcileActionKind, ReconcileOutcome, ReconcileReport};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::sync::MutexGuard;

const KINDS: usize = ReconcileActionKind::ALL.len();

/// The last sweep that could finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How many things it did.
    pub acted: u64,
    /// How many it held back.
    pub deferred: u64,
}

/// Sweeps of this server, since its start.
#[derive(Debug, Default)]
pub struct Sweeps {
    one_at_a_time: tokio::sync::Mutex<()>,
    last: Mutex<Option<Last>>,
    done: [AtomicU64; KINDS],
    failures: AtomicU64,
    /// What the servers before this one did not come to say.
    pub(super) untold: Untold,
}

/// Ends of machines that are on no timeline: looked for once, since whatever ends under this server is told by its owner.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<Option<Vec<UnreportedEnd>>>);

impl Untold {
    pub(super) fn is_known(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn learn(&self, ends: Vec<UnreportedEnd>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
    }

    pub(super) fn all(&self) -> Vec<UnreportedEnd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// It is told, or cannot be.
    pub(super) fn forget(&self, end: &UnreportedEnd) {
        if let Some(ends) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            ends.retain(|other| other != end);
        }
    }
}

impl Sweeps {
    /// Waits until no other sweep runs.
    pub(super) async fn alone(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().await
    }

    /// A sweep has finished.
    pub(super) fn finished(&self, report: &ReconcileReport, at_ms: u64) {
        let mut acted = 0;
        for action in report.actions.iter().filter(|action| action.outcome == ReconcileOutcome::Done) {
            acted += 1;
            if let Some(place) = ReconcileActionKind::ALL.iter().position(|kind| *kind == action.kind) {
                self.done[place].fetch_add(1, Relaxed);
            }
        }
        let last = Last { at_ms, acted, deferred: report.deferred.into() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// A sweep could not finish.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The last that could finish.
    pub fn last(&self) -> Option<Last> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each thing was done.
    pub fn done(&self) -> impl Iterator<Item = (ReconcileActionKind, u64)> {
        ReconcileActionKind::ALL.iter().zip(&self.done).map(|(kind, count)| (*kind, count.load(Relaxed)))
    }

    /// How many sweeps could not finish.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}
