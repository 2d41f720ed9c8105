//! The plan for a mixed fleet, as a table: every action with its reason.

use super::*;
use anteroom_store::RowStatus;
use anteroom_wire::{CallerId, SessionId};
use std::time::SystemTime;

const NOW: u64 = 1_000_000_000;

fn machine(number: u8) -> MachineId {
    MachineId::from_parts(1, [number; 10])
}

fn row(number: u8, machine: Option<MachineId>, deadline_ms: u64) -> SessionRow {
    SessionRow {
        id: SessionId::from_parts(1, [number; 10]),
        owner: CallerId::from_parts(1, [1; 10]),
        owner_name: "owner".to_owned(),
        owner_is_user: false,
        user_id: None,
        provider: "codex".parse().unwrap(),
        return_url: None,
        status: RowStatus::Active { replacement_reason: None },
        epoch: 1,
        generation: 1,
        machine,
        external_machine: None,
        method: None,
        purpose: anteroom_store::SessionPurpose::default(),
        exit_code: None,
        settings: std::collections::BTreeMap::new(),
        agent_token: None,
        claimed_generation: None,
        cli_started: false,
        created_at_ms: 1,
        last_used_at_ms: 1,
        idle_deadline_ms: Some(1),
        deadline_ms,
        holder: None,
        queued_at_ms: None,
        placement: None,
    }
}

fn active_row(row: SessionRow, has_supervisor: bool) -> ActiveRow {
    ActiveRow { row, has_supervisor, has_provider: true }
}

/// A fleet in which every reason occurs once, along with sessions and machines that need no action.
fn fleet() -> ReconcileSnapshot {
    let external = SessionRow { external_machine: Some("lab".into()), ..row(8, None, NOW + 1) };
    ReconcileSnapshot {
        now_ms: NOW,
        rows: vec![
            // Supervised: its supervisor enforces the deadlines.
            active_row(row(1, Some(machine(1)), NOW - 5_000), true),
            active_row(row(2, Some(machine(2)), NOW + 1), false),
            active_row(row(3, Some(machine(3)), NOW + 1), false),
            active_row(row(4, None, NOW + 1), false),
            active_row(row(5, Some(machine(5)), NOW - 7_000), false),
            ActiveRow { row: row(6, None, NOW + 1), has_supervisor: false, has_provider: false },
            active_row(external, false),
        ],
        machines: vec![(machine(1), true), (machine(2), false), (machine(5), false), (machine(9), false)],
        ..ReconcileSnapshot::default()
    }
}

fn with_outcome(planned: &[PlannedAction]) -> Vec<(ReconcileActionKind, &str, bool)> {
    planned.iter().map(|planned| (planned.kind(), planned.reason.as_str(), planned.is_deferred)).collect()
}

#[test]
fn the_plan_for_a_mixed_fleet_contains_only_necessary_actions_with_reasons() {
    use ReconcileActionKind::{EndSession, ResumeSession, StopMachine};
    let planned = plan_actions(fleet(), 10);
    assert_eq!(
        with_outcome(&planned),
        [
            (ResumeSession, "it has no supervisor; its machine runs and is adopted", false),
            (ResumeSession, "it has no supervisor, and its machine has ended", false),
            (ResumeSession, "it has no supervisor; it waits for a machine", false),
            (EndSession, "it has no supervisor, and its deadline was 7 s ago", false),
            (EndSession, "it has no supervisor, and the provider codex is no longer configured", false),
            (ResumeSession, "it has no supervisor; it uses an external machine", false),
            (StopMachine, "it is orphaned: no active session uses it", false),
            (StopMachine, "it is orphaned: no active session uses it", false),
        ]
    );
    let stopped: Vec<_> =
        planned.into_iter().filter_map(|planned| planned.with_outcome(ReconcileOutcome::Planned).machine).collect();
    assert!(!stopped.contains(&machine(1)), "a machine with a session is not stopped");
}

#[test]
fn destructive_actions_are_limited_and_the_rest_is_deferred() {
    let planned = plan_actions(fleet(), 3);
    let held: Vec<_> = planned.iter().map(|planned| planned.is_deferred).collect();
    assert_eq!(held, [false, false, false, false, false, false, false, true]);
    let planned = plan_actions(fleet(), 1);
    assert!(
        planned.iter().filter(|planned| planned.kind() == ReconcileActionKind::ResumeSession).all(|it| !it.is_deferred)
    );
    assert_eq!(planned.iter().filter(|planned| planned.is_deferred).count(), 3);
}

#[test]
fn a_clock_jump_ends_no_supervised_session_and_only_a_limited_number_of_others() {
    let ends = |now_ms: u64, stops_max| {
        let planned = plan_actions(ReconcileSnapshot { now_ms, ..fleet() }, stops_max);
        let ends =
            planned.iter().filter(|planned| planned.kind() == ReconcileActionKind::EndSession && !planned.is_deferred);
        let rows = ends.filter_map(|planned| match &planned.action {
            PlannedActionKind::EndSession { row, .. } => Some(row.id.clone()),
            PlannedActionKind::ResumeSession(_)
            | PlannedActionKind::StopMachine(_)
            | PlannedActionKind::RemoveReceipt(_)
            | PlannedActionKind::RemoveBundle(_)
            | PlannedActionKind::ReportMachineEnd(..) => None,
        });
        rows.collect::<Vec<_>>()
    };
    let year = 365 * 24 * 3600 * 1_000;
    let owned = row(1, None, 0).id;
    assert_eq!(ends(NOW - 10_000, 10).len(), 1, "backwards: only the one whose provider was removed");
    assert_eq!(ends(NOW + year, 10).len(), 6, "forwards: every unsupervised one is overdue");
    assert!(!ends(NOW + year, 10).contains(&owned));
    assert_eq!(ends(NOW + year, 2).len(), 2);
}

#[test]
fn old_evidence_is_removed_with_a_reason_and_without_limit() {
    let file =
        |name: &str| RetainedFile { path: format!("/x/{name}").into(), bytes: 1, modified_at: SystemTime::UNIX_EPOCH };
    let snapshot = ReconcileSnapshot {
        receipts: vec![
            (file("a.json"), ExceededLimit::Age { s_max: 5 }),
            (file("b.json"), ExceededLimit::Count { files_max: 2 }),
        ],
        bundles: vec![(file("c.tar.gz"), ExceededLimit::Bytes { bytes_max: 9 })],
        unfinished_receipts: vec![file(".mac_1.4711")],
        unfinished_bundles: vec![file(".d.tar.gz")],
        ..ReconcileSnapshot::default()
    };
    let planned = plan_actions(snapshot, 1);
    assert!(planned.iter().all(|planned| !planned.is_deferred));
    let with_outcome: Vec<_> =
        planned.into_iter().map(|planned| planned.with_outcome(ReconcileOutcome::Planned)).collect();
    let files: Vec<_> =
        with_outcome.iter().map(|action| (action.file.as_deref().unwrap(), action.reason.as_str())).collect();
    assert_eq!(
        files,
        [
            ("a.json", "it is older than 5 s"),
            ("b.json", "there are more than 2"),
            ("c.tar.gz", "together they have more than 9 bytes"),
            (".mac_1.4711", "its writer exited before it was complete"),
            (".d.tar.gz", "its writer exited before it was complete"),
        ]
    );
}
