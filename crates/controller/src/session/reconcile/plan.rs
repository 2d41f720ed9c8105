//! What facts demand, and why. Pure: no clock, no I/O.

use crate::{
    retention::{ExceededLimit, RetainedFile},
    session::lifecycle::{self, EndKind, InitialState},
};
use anteroom_machine::Receipt;
use anteroom_store::{SessionRow, UnreportedEnd};
use anteroom_wire::{
    MachineId, Problem,
    operations::{ReconcileAction, ReconcileActionKind, ReconcileOutcome},
};
use std::collections::BTreeSet;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The time, milliseconds since 1970.
    pub(super) now_ms: u64,
    /// Active rows, the oldest first.
    pub(super) rows: Vec<SeenRow>,
    /// Machines that are not gone and not being stopped, and whether a session that lives here owns each.
    pub(super) machines: Vec<(MachineId, bool)>,
    /// Receipts that have to go.
    pub(super) receipts: Vec<(RetainedFile, ExceededLimit)>,
    /// Bundles that have to go.
    pub(super) bundles: Vec<(RetainedFile, ExceededLimit)>,
    /// Receipts whose writer is gone.
    pub(super) half_receipts: Vec<RetainedFile>,
    /// Bundles whose writer is gone.
    pub(super) half_bundles: Vec<RetainedFile>,
    /// Machines of ended sessions of whose end no timeline tells, and their receipts.
    pub(super) ends: Vec<(UnreportedEnd, Receipt)>,
}

/// An active row.
#[derive(Debug)]
pub(super) struct SeenRow {
    pub(super) row: SessionRow,
    /// Whether a task of this server owns it.
    pub(super) has_owner: bool,
    /// Whether its provider is configured.
    pub(super) has_provider: bool,
}

/// One thing to do.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) subject: Subject,
    /// Why, one sentence.
    pub(super) reason: String,
    /// It waits for the next sweep.
    pub(super) is_deferred: bool,
}

/// What it is done to.
#[derive(Debug)]
pub(super) enum Subject {
    /// This session is taken over.
    Resumed(Box<SessionRow>),
    /// This session ends.
    Ended { row: Box<SessionRow>, kind: EndKind, problem: Problem, detail: String },
    /// This machine is stopped.
    Machine(MachineId),
    /// This receipt is removed.
    Receipt(RetainedFile),
    /// This bundle is removed.
    Bundle(RetainedFile),
    /// This session's timeline is told how its machine ended.
    MachineEnd(UnreportedEnd, Box<Receipt>),
}

impl Planned {
    fn new(subject: Subject, reason: impl Into<String>) -> Self {
        Self { subject, reason: reason.into(), is_deferred: false }
    }

    pub(super) fn kind(&self) -> ReconcileActionKind {
        match &self.subject {
            Subject::Resumed(_) => ReconcileActionKind::ResumeSession,
            Subject::Ended { .. } => ReconcileActionKind::EndSession,
            Subject::Machine(_) => ReconcileActionKind::StopMachine,
            Subject::Receipt(_) => ReconcileActionKind::RemoveReceipt,
            Subject::Bundle(_) => ReconcileActionKind::RemoveBundle,
            Subject::MachineEnd(..) => ReconcileActionKind::RecordMachineEnd,
        }
    }

    /// As operators are told.
    pub(super) fn told(self, outcome: ReconcileOutcome) -> ReconcileAction {
        let kind = self.kind();
        let name = |file: RetainedFile| file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let (session, machine, file) = match self.subject {
            Subject::Resumed(row) | Subject::Ended { row, .. } => (Some(row.id), row.machine, None),
            Subject::Machine(machine) => (None, Some(machine), None),
            Subject::Receipt(item) | Subject::Bundle(item) => (None, None, name(item)),
            Subject::MachineEnd(end, _) => (Some(end.session), Some(end.machine), None),
        };
        ReconcileAction { kind, session, machine, file, reason: self.reason, outcome }
    }
}

/// What facts demand, in the order in which it is to be done; of what somebody may miss, what is beyond `stops_max` is held
/// back.
pub(super) fn plan(seen: Seen, stops_max: usize) -> Vec<Planned> {
    let living: BTreeSet<MachineId> = seen.machines.iter().map(|(machine, _)| machine.clone()).collect();
    let mut planned = Vec::new();
    let mut taken_over = BTreeSet::new();
    for SeenRow { row, has_owner, has_provider } in seen.rows {
        if has_owner {
            continue;
        }
        let next = ownerless(row, has_provider, seen.now_ms, &living);
        if let Subject::Resumed(row) = &next.subject {
            taken_over.extend(row.machine.clone());
        }
        planned.push(next);
    }
    for (machine, is_owned) in seen.machines {
        if !is_owned && !taken_over.contains(&machine) {
            planned.push(Planned::new(Subject::Machine(machine), "no session that lives owns it"));
        }
    }
    planned.extend(seen.receipts.into_iter().map(|(item, why)| Planned::new(Subject::Receipt(item), why.to_string())));
    planned.extend(seen.bundles.into_iter().map(|(item, why)| Planned::new(Subject::Bundle(item), why.to_string())));
    let half = seen.half_receipts.into_iter().map(Subject::Receipt);
    let half = half.chain(seen.half_bundles.into_iter().map(Subject::Bundle));
    planned.extend(half.map(|subject| Planned::new(subject, "it was being written by a process that is gone")));
    let ends = seen.ends.into_iter().map(|(end, receipt)| Subject::MachineEnd(end, Box::new(receipt)));
    planned
        .extend(ends.map(|subject| Planned::new(subject, "no server lived long enough to say how its machine ended")));
    hold_back(&mut planned, stops_max);
    planned
}

/// The first ones are done; what comes after them waits.
fn hold_back(planned: &mut [Planned], stops_max: usize) {
    let destructive = planned.iter_mut().filter(|planned| planned.kind().is_destructive());
    destructive.skip(stops_max).for_each(|planned| planned.is_deferred = true);
}

/// An active row whose owner is gone: a server stopped or was killed.
fn ownerless(row: SessionRow, has_provider: bool, now_ms: u64, living: &BTreeSet<MachineId>) -> Planned {
    let row = Box::new(row);
    if !has_provider {
        let detail = format!("The provider {} is no longer configured.", row.provider);
        let reason = format!("it has no owner, and the provider {} is no longer configured", row.provider);
        return Planned::new(
            Subject::Ended { row, kind: EndKind::Failed, problem: Problem::ProviderUnavailable, detail },
            reason,
        );
    }
    if row.deadline_ms <= now_ms {
        let reason = format!("it has no owner, and its deadline was {} s ago", (now_ms - row.deadline_ms) / 1_000);
        let (how, problem) = (EndKind::Expired, Problem::DeadlineExpired);
        return Planned::new(Subject::Ended { row, how, problem, detail: String::new() }, reason);
    }
    let lives = row.machine.as_ref().is_some_and(|machine| living.contains(machine));
    let reason = match lifecycle::initial_state(row.external_machine.is_some(), row.machine.is_some(), lives) {
        InitialState::Adopted => "it has no owner; its machine lives and is taken over",
        InitialState::Lost => "it has no owner, and its machine ended meanwhile",
        InitialState::Queued => "it has no owner; it waits for a machine",
        InitialState::Attached => "it has no owner; its external machine is reached again",
    };
    Planned::new(Subject::Resumed(row), reason)
}

#[cfg(test)]
mod tests;
