//! Plans the actions of a reconciliation, with reasons. Pure: no clock, no I/O.

use crate::{
    retention::{ExceededLimit, RetainedFile},
    session::lifecycle::{self, InitialState},
};
use anteroom_machine::Receipt;
use anteroom_store::{SessionRow, UnreportedMachineEnd};
use anteroom_wire::{
    EndReason, MachineId,
    operator_reports::{ReconcileAction, ReconcileActionKind, ReconcileOutcome},
};
use std::collections::BTreeSet;

/// The facts that a plan is made from.
#[derive(Debug, Default)]
pub(super) struct ReconcileSnapshot {
    /// The time, milliseconds since 1970.
    pub(super) now_ms: u64,
    /// Active rows, the oldest first.
    pub(super) rows: Vec<ActiveRow>,
    /// Running machines that are not being stopped, and whether each has a supervised session.
    pub(super) machines: Vec<(MachineId, bool)>,
    /// Receipts over the retention limits.
    pub(super) receipts: Vec<(RetainedFile, ExceededLimit)>,
    /// Bundles over the retention limits.
    pub(super) bundles: Vec<(RetainedFile, ExceededLimit)>,
    /// Unfinished receipts whose writer has exited.
    pub(super) unfinished_receipts: Vec<RetainedFile>,
    /// Unfinished bundles whose writer has exited.
    pub(super) unfinished_bundles: Vec<RetainedFile>,
    /// Ends of machines that are on no timeline, and their receipts.
    pub(super) ends: Vec<(UnreportedMachineEnd, Receipt)>,
}

/// An active row.
#[derive(Debug)]
pub(super) struct ActiveRow {
    pub(super) row: SessionRow,
    /// Whether it has a supervisor in this server.
    pub(super) has_supervisor: bool,
    /// Whether its provider is configured.
    pub(super) has_provider: bool,
}

/// An action and its reason.
#[derive(Debug)]
pub(super) struct PlannedAction {
    pub(super) action: PlannedActionKind,
    /// The reason, one clause.
    pub(super) reason: String,
    /// Whether it waits for the next reconciliation.
    pub(super) is_deferred: bool,
}

/// An action of a reconciliation.
#[derive(Debug)]
pub(super) enum PlannedActionKind {
    /// Resume this session.
    ResumeSession(Box<SessionRow>),
    /// End this session.
    EndSession { row: Box<SessionRow>, reason: EndReason, detail: String },
    /// Stop this machine.
    StopMachine(MachineId),
    /// Remove this receipt.
    RemoveReceipt(RetainedFile),
    /// Remove this bundle.
    RemoveBundle(RetainedFile),
    /// Record the end of this session's machine on the timeline.
    ReportMachineEnd(UnreportedMachineEnd, Box<Receipt>),
}

impl PlannedAction {
    fn new(action: PlannedActionKind, reason: impl Into<String>) -> Self {
        Self { action, reason: reason.into(), is_deferred: false }
    }

    pub(super) fn kind(&self) -> ReconcileActionKind {
        match &self.action {
            PlannedActionKind::ResumeSession(_) => ReconcileActionKind::ResumeSession,
            PlannedActionKind::EndSession { .. } => ReconcileActionKind::EndSession,
            PlannedActionKind::StopMachine(_) => ReconcileActionKind::StopMachine,
            PlannedActionKind::RemoveReceipt(_) => ReconcileActionKind::RemoveReceipt,
            PlannedActionKind::RemoveBundle(_) => ReconcileActionKind::RemoveBundle,
            PlannedActionKind::ReportMachineEnd(..) => ReconcileActionKind::RecordMachineEnd,
        }
    }

    /// The action as operators see it.
    pub(super) fn with_outcome(self, outcome: ReconcileOutcome) -> ReconcileAction {
        let kind = self.kind();
        let name = |file: RetainedFile| file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let (session, machine, file) = match self.action {
            PlannedActionKind::ResumeSession(row) | PlannedActionKind::EndSession { row, .. } => {
                (Some(row.id), row.machine, None)
            }
            PlannedActionKind::StopMachine(machine) => (None, Some(machine), None),
            PlannedActionKind::RemoveReceipt(item) | PlannedActionKind::RemoveBundle(item) => (None, None, name(item)),
            PlannedActionKind::ReportMachineEnd(end, _) => (Some(end.session), Some(end.machine), None),
        };
        ReconcileAction { kind, session, machine, file, reason: self.reason, outcome }
    }
}

/// The actions in order of execution. Of the destructive ones, those beyond `stops_max` are deferred.
pub(super) fn plan_actions(snapshot: ReconcileSnapshot, stops_max: usize) -> Vec<PlannedAction> {
    let running: BTreeSet<MachineId> = snapshot.machines.iter().map(|(machine, _)| machine.clone()).collect();
    let mut planned = Vec::new();
    let mut adopted = BTreeSet::new();
    for ActiveRow { row, has_supervisor, has_provider } in snapshot.rows {
        if has_supervisor {
            continue;
        }
        let next = plan_unsupervised(row, has_provider, snapshot.now_ms, &running);
        if let PlannedActionKind::ResumeSession(row) = &next.action {
            adopted.extend(row.machine.clone());
        }
        planned.push(next);
    }
    for (machine, is_supervised) in snapshot.machines {
        if !is_supervised && !adopted.contains(&machine) {
            planned.push(PlannedAction::new(
                PlannedActionKind::StopMachine(machine),
                "it is orphaned: no active session uses it",
            ));
        }
    }
    planned.extend(
        snapshot
            .receipts
            .into_iter()
            .map(|(item, why)| PlannedAction::new(PlannedActionKind::RemoveReceipt(item), why.to_string())),
    );
    planned.extend(
        snapshot
            .bundles
            .into_iter()
            .map(|(item, why)| PlannedAction::new(PlannedActionKind::RemoveBundle(item), why.to_string())),
    );
    let unfinished = snapshot.unfinished_receipts.into_iter().map(PlannedActionKind::RemoveReceipt);
    let unfinished = unfinished.chain(snapshot.unfinished_bundles.into_iter().map(PlannedActionKind::RemoveBundle));
    planned.extend(unfinished.map(|action| PlannedAction::new(action, "its writer exited before it was complete")));
    let ends =
        snapshot.ends.into_iter().map(|(end, receipt)| PlannedActionKind::ReportMachineEnd(end, Box::new(receipt)));
    planned.extend(
        ends.map(|action| PlannedAction::new(action, "its server stopped before it recorded how the machine ended")),
    );
    limit_stops(&mut planned, stops_max);
    planned
}

/// Defers all destructive actions after the first `stops_max`.
fn limit_stops(planned: &mut [PlannedAction], stops_max: usize) {
    let destructive = planned.iter_mut().filter(|planned| planned.kind().is_destructive());
    destructive.skip(stops_max).for_each(|planned| planned.is_deferred = true);
}

/// The action for an active session without a supervisor: its server stopped or was killed.
fn plan_unsupervised(row: SessionRow, has_provider: bool, now_ms: u64, running: &BTreeSet<MachineId>) -> PlannedAction {
    let row = Box::new(row);
    if !has_provider {
        let detail = format!("The provider {} is no longer configured.", row.provider);
        let cause = format!("it has no supervisor, and the provider {} is no longer configured", row.provider);
        return PlannedAction::new(
            PlannedActionKind::EndSession { row, reason: EndReason::ProviderRemoved, detail },
            cause,
        );
    }
    if row.deadline_ms <= now_ms {
        let cause = format!("it has no supervisor, and its deadline was {} s ago", (now_ms - row.deadline_ms) / 1_000);
        let (reason, detail) = (EndReason::DeadlineExpired, String::new());
        return PlannedAction::new(PlannedActionKind::EndSession { row, reason, detail }, cause);
    }
    let is_running = row.machine.as_ref().is_some_and(|machine| running.contains(machine));
    let reason = match lifecycle::initial_state(row.external_machine.is_some(), row.machine.is_some(), is_running) {
        InitialState::Adopted => "it has no supervisor; its machine runs and is adopted",
        InitialState::Lost => "it has no supervisor, and its machine has ended",
        InitialState::Queued => "it has no supervisor; it waits for a machine",
        InitialState::Attached => "it has no supervisor; it uses an external machine",
    };
    PlannedAction::new(PlannedActionKind::ResumeSession(row), reason)
}

#[cfg(test)]
mod tests;
