//! Sessions that have ended.

use super::*;
use anteroom_wire::{TimelineKind, agent::Stage};

fn timeout(stage: Stage, error: &str) -> ExitReason {
    let last_error = Some(error.to_owned());
    ExitReason::ReadyTimeout { stage, last_error, attempts: 7, elapsed_ms: 60_000 }
}

fn mismatch(found: &str) -> ExitReason {
    ExitReason::Mismatch { expected: "image aaaa".into(), found: found.into() }
}

/// The three times at which a machine can exit during a session.
fn at_three_times(what: &'static str, why: &ExitReason, verdict: Verdict, end: EndReason) -> [Row; 3] {
    let first_exited =
        Case::running().machine_exited(&ExitReason::OutOfMemory).entry(TimelineKind::MachineReplaced, json!({}));
    let second = first_exited
        .entry(TimelineKind::MachineRequested, json!({ "generation": 2 }))
        .entry(TimelineKind::MachineReady, json!({}));
    [
        (what, Case::requested().machine_exited(why).failed(end), verdict),
        (what, Case::running().viewer(TimelineKind::ViewerJoined, None).machine_exited(why).failed(end), verdict),
        (what, second.machine_exited(why).failed(end), verdict),
    ]
}

/// A machine that was killed for a system call, before it was ready, after that, and with an earlier machine.
fn compromised() -> [Row; 3] {
    let why = ExitReason::ForbiddenSystemCall { system_call: "ptrace".to_owned() };
    at_three_times("a system call that no VMM makes", &why, Verdict::ForbiddenSystemCall, EndReason::MachineCompromised)
}

fn machines() -> Vec<Row> {
    let stopped = |reason| ExitReason::Stopped { reason };
    let error = || "qemu: not found".to_owned();
    let mut receipt = Case::running().failed(EndReason::MachineFailed);
    receipt.receipt = Some(ExitReason::Killed { signal: 11 });
    let bare = |case: Case| {
        case.entry(TimelineKind::MachineExited, json!({ "left_out_bytes": 40_000 })).failed(EndReason::MachineFailed)
    };
    let mut rows = vec![("a machine whose end is only in its receipt", receipt, Verdict::MachineKilled)];
    rows.push(("no record of an end", Case::running().failed(EndReason::MachineFailed), Verdict::MachineEndUnknown));
    rows.push(("an end without its cause", bare(Case::requested()), Verdict::MachineEndUnknown));
    rows.push(("an end without its cause", bare(Case::ready()), Verdict::MachineEndUnknown));
    for (what, why, verdict) in [
        ("exit 0", ExitReason::Exited { code: 0 }, Verdict::MachineExited),
        ("exit 1", ExitReason::Exited { code: 1 }, Verdict::MachineExited),
        ("a signal", ExitReason::Killed { signal: 9 }, Verdict::MachineKilled),
        ("a mapped file", ExitReason::Killed { signal: 7 }, Verdict::MachineFileUnreadable),
        ("no memory", ExitReason::OutOfMemory, Verdict::OutOfMemory),
        ("the keeper's deadline", ExitReason::Deadline, Verdict::MachineDeadline),
        ("a host without its cluster", ExitReason::RenewDeadline, Verdict::RenewDeadline),
        ("power off", ExitReason::GuestPowerOff, Verdict::GuestPowerOff),
        ("a panic", ExitReason::GuestPanic, Verdict::GuestPanic),
        ("an internal error", ExitReason::VmmError { status: "internal-error".to_owned() }, Verdict::VmmError),
        ("a frozen machine", ExitReason::Hung { unanswered_ms: 20_500 }, Verdict::MachineUnresponsive),
        (
            "a machine that floods frames",
            ExitReason::ChannelViolation { channel: "anteroom.controller".into(), violation: "it broke HTTP/2".into() },
            Verdict::ChannelViolation,
        ),
        ("the keeper was killed", ExitReason::KeeperLost, Verdict::KeeperLost),
        ("no start", ExitReason::NeverStarted { error: error() }, Verdict::MachineStartFailed),
        ("the operator", stopped(StopReason::Operator), Verdict::MachineStopped),
        ("orphaned", stopped(StopReason::Orphaned), Verdict::MachineStopped),
    ] {
        rows.extend(at_three_times(what, &why, verdict, EndReason::MachineFailed));
    }
    rows.extend(compromised());
    rows
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let machine = |why: ExitReason, problem| Case::requested().machine_exited(&why).failed(problem);
    let unclaimed = |case: Case| {
        case.entry(TimelineKind::ClaimFailed, json!({})).stopped(StopReason::Failed).failed(EndReason::MachineFailed)
    };
    let cancelled = |case: Case| case.ended(TimelineKind::Cancelled, EndReason::Cancelled, "");
    let idle = |case: Case| case.ended(TimelineKind::Expired, EndReason::IdleExpired, "It may be idle for 900 s.");
    let capped = |case: Case| case.ended(TimelineKind::Expired, EndReason::DeadlineExpired, "It may last 3600 s.");
    let completed = |case: Case| case.ended(TimelineKind::Completed, EndReason::Completed, "");
    let mut rows = machines();
    rows.extend([
        (
            "stays at the channel",
            machine(timeout(Stage::Channel, "no echo"), EndReason::ReadyTimeout),
            Verdict::ReadyTimeout,
        ),
        ("stays at hello", machine(timeout(Stage::Hello, "closed"), EndReason::ReadyTimeout), Verdict::ReadyTimeout),
        (
            "stays at the display",
            machine(timeout(Stage::Display, "refused"), EndReason::ReadyTimeout),
            Verdict::ReadyTimeout,
        ),
        ("another image", machine(mismatch("image bbbb"), EndReason::AgentMismatch), Verdict::ImageMismatch),
        ("another protocol", machine(mismatch("protocol 2"), EndReason::AgentMismatch), Verdict::ImageMismatch),
        ("no image's name", machine(mismatch(""), EndReason::AgentMismatch), Verdict::ImageMismatch),
        ("a claim that failed", unclaimed(Case::requested()), Verdict::ClaimFailed),
        (
            "a claim that failed again",
            unclaimed(
                Case::requested()
                    .machine_exited(&ExitReason::GuestPanic)
                    .entry(TimelineKind::MachineRequested, json!({})),
            ),
            Verdict::ClaimFailed,
        ),
        (
            "a claim that failed before a viewer",
            unclaimed(Case::requested().viewer(TimelineKind::ViewerJoined, None)),
            Verdict::ClaimFailed,
        ),
        (
            "no image",
            Case::requested().entry(TimelineKind::MachineStartFailed, json!({})).failed(EndReason::NoImage),
            Verdict::NoImage,
        ),
        (
            "no capacity at a restart",
            Case::requested().machine_exited(&ExitReason::OutOfMemory).failed(EndReason::NoCapacity),
            Verdict::NoCapacity,
        ),
        ("no capacity after the restart of the server", Case::new().failed(EndReason::NoCapacity), Verdict::NoCapacity),
        ("no capacity until it expired", idle(Case::new()), Verdict::NoCapacity),
        ("the server restarted", Case::requested().failed(EndReason::ControllerRestarted), Verdict::ServerRestarted),
        (
            "the server restarted under the tool",
            Case::running().failed(EndReason::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        ("the provider was removed", Case::running().failed(EndReason::ProviderRemoved), Verdict::ProviderRemoved),
        ("another account", Case::running().failed(EndReason::OtherAccount), Verdict::OtherAccount),
        (
            "another account after an error of the tool",
            Case::running().entry(TimelineKind::ToolFailed, json!({ "why": "no" })).failed(EndReason::OtherAccount),
            Verdict::OtherAccount,
        ),
        (
            "another account in the second machine",
            Case::running()
                .machine_exited(&ExitReason::OutOfMemory)
                .entry(TimelineKind::MachineReplaced, json!({}))
                .entry(TimelineKind::MachineRequested, json!({ "generation": 2 }))
                .failed(EndReason::OtherAccount),
            Verdict::OtherAccount,
        ),
        ("supervisor lost", Case::running().failed(EndReason::Internal), Verdict::InternalError),
        ("supervisor lost while queued", Case::new().failed(EndReason::Internal), Verdict::InternalError),
        ("cancelled while queued", cancelled(Case::new()), Verdict::Cancelled),
        ("cancelled at the start", cancelled(Case::requested()), Verdict::Cancelled),
        ("cancelled at the sign-in", cancelled(Case::running()).stopped(StopReason::Cancelled), Verdict::Cancelled),
        ("cancelled after the tool failed", cancelled(Case::running().exited(3, &["no"])), Verdict::Cancelled),
        ("idle", idle(Case::running()), Verdict::IdleExpired),
        (
            "idle with noise at the gate",
            idle(Case::running().egress_failed("ads.example", Problem::EgressDenied)),
            Verdict::IdleExpired,
        ),
        ("idle, machine stopped", idle(Case::running()).stopped(StopReason::IdleExpired), Verdict::IdleExpired),
        ("the cap", capped(Case::running()), Verdict::DeadlineExpired),
        ("the cap at the start", capped(Case::requested()), Verdict::DeadlineExpired),
        (
            "the cap, machine stopped",
            capped(Case::running()).stopped(StopReason::DeadlineExpired),
            Verdict::DeadlineExpired,
        ),
        ("the tool failed, then idle", idle(Case::running().exited(3, &[])), Verdict::CliFailed),
        ("another shape, then idle", idle(Case::running().rejected("/token")), Verdict::CredentialInvalidFormat),
        (
            "no delivery until the cap",
            capped(
                Case::running().accepted().entry(TimelineKind::DeliveryRetry, json!({"attempts": 9, "error": "503"})),
            ),
            Verdict::DeliveryFailing,
        ),
        ("completed", completed(Case::running().accepted()), Verdict::Completed),
        ("completed after a tool's end", completed(Case::running().accepted().exited(0, &[])), Verdict::Completed),
        (
            "completed after trouble",
            completed(Case::running().egress_failed("a.example", Problem::EgressDenied).rejected("/token").accepted())
                .stopped(StopReason::Completed),
            Verdict::Completed,
        ),
        ("a reason that the server never writes", Case::running().failed(EndReason::Cancelled), Verdict::Unknown),
    ]);
    rows
}

#[test]
fn killed_machine_and_later_rejected_viewer_are_in_the_sentence() {
    let killed = Case::running().machine_exited(&ExitReason::Killed { signal: 9 }).failed(EndReason::MachineFailed);
    let found = killed.viewer(TimelineKind::ViewerRejected, Some(Problem::Ended(EndReason::MachineFailed))).diagnosis();
    let expected = format!(
        "The machine ended at {} because its process was killed by signal 9, which this server did not send; the viewer's WebSocket was rejected at {} for that reason; no credential was delivered.",
        at(5),
        at(7)
    );
    assert_eq!(found.sentence, expected);
    let kinds: Vec<_> = found.evidence.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [TimelineKind::MachineExited, TimelineKind::Failed, TimelineKind::ViewerRejected]);
    for (which, state) in [
        (Component::Session, ComponentState::Failed),
        (Component::Machine, ComponentState::Failed),
        (Component::Channel, ComponentState::Ok),
        (Component::Agent, ComponentState::Ok),
        (Component::Display, ComponentState::Ok),
        (Component::Tunnel, ComponentState::Failed),
        (Component::Cli, ComponentState::Ok),
        (Component::Egress, ComponentState::NotReached),
        (Component::Credential, ComponentState::NotReached),
    ] {
        assert_eq!(state_of(&found, which), state, "{which:?}");
    }
}

#[test]
fn viewer_rejected_for_another_reason_is_not_attributed_to_the_machine() {
    let case = Case::running().viewer(TimelineKind::ViewerRejected, Some(Problem::TooManyViewers));
    let found = case.machine_exited(&ExitReason::GuestPanic).failed(EndReason::MachineFailed).diagnosis();
    assert!(!found.sentence.contains("rejected"), "{}", found.sentence);
    assert!(found.evidence.iter().all(|entry| entry.kind != TimelineKind::ViewerRejected));
}

#[test]
fn disconnected_and_rejected_viewers_are_counted_separately() {
    let case = Case::running().machine_exited(&ExitReason::OutOfMemory).failed(EndReason::MachineFailed);
    let case = case.viewer(TimelineKind::ViewerDisconnected, Some(Problem::Ended(EndReason::MachineFailed)));
    let case = case.viewer(TimelineKind::ViewerRejected, Some(Problem::Ended(EndReason::MachineFailed)));
    let found = case.viewer(TimelineKind::ViewerRejected, Some(Problem::Ended(EndReason::MachineFailed))).diagnosis();
    let part = format!(
        "; a connected viewer was disconnected at {} for that reason; 2 viewers' WebSockets were rejected at {}, {} for that reason;",
        at(7),
        at(8),
        at(9)
    );
    assert!(found.sentence.contains(&part), "{}", found.sentence);
}

#[test]
fn counted_rejections_and_rejected_tickets_are_reported() {
    let case = Case::running().machine_exited(&ExitReason::OutOfMemory).failed(EndReason::MachineFailed);
    let case = case.viewer(TimelineKind::TicketRejected, Some(Problem::Ended(EndReason::MachineFailed)));
    let case = case.viewer(TimelineKind::ViewerRejected, Some(Problem::Ended(EndReason::MachineFailed)));
    let more = json!({ "reason": EndReason::MachineFailed.code(), "count": 4 });
    let found = case.entry(TimelineKind::ViewerRejected, more).diagnosis();
    for part in [
        format!("; 5 viewers' WebSockets were rejected at {}, {} for that reason;", at(8), at(9)),
        format!("; the viewer's ticket was rejected at {} for that reason;", at(7)),
    ] {
        assert!(found.sentence.contains(&part), "{part}: {}", found.sentence);
    }
}

#[test]
fn stage_that_timed_out_is_named_and_later_stages_are_not_reached() {
    let case = Case::requested()
        .machine_exited(&timeout(Stage::Display, "connection refused"))
        .failed(EndReason::ReadyTimeout);
    let found = case.diagnosis();
    for part in ["60000 ms", "Display", "7 attempts", "connection refused", "no credential was delivered"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    assert_eq!(state_of(&found, Component::Channel), ComponentState::Ok);
    assert_eq!(state_of(&found, Component::Agent), ComponentState::Ok);
    assert_eq!(state_of(&found, Component::Display), ComponentState::Failed);
    assert_eq!(state_of(&found, Component::Cli), ComponentState::NotReached);
}

#[test]
fn machine_stopped_by_its_session_has_not_failed() {
    let case = Case::running().ended(TimelineKind::Cancelled, EndReason::Cancelled, "").stopped(StopReason::Cancelled);
    let found = case.diagnosis();
    assert_eq!(state_of(&found, Component::Machine), ComponentState::Ok);
    let case = Case::running().accepted().ended(TimelineKind::Completed, EndReason::Completed, "");
    let found = case.stopped(StopReason::Completed).diagnosis();
    assert!(found.chain.iter().all(|status| status.state != ComponentState::Failed), "{:?}", found.chain);
}

#[test]
fn evidence_is_bounded_with_many_rejected_viewers() {
    let mut case = Case::running().machine_exited(&ExitReason::OutOfMemory).failed(EndReason::MachineFailed);
    for _ in 0..500 {
        case = case.viewer(TimelineKind::ViewerRejected, Some(Problem::Ended(EndReason::MachineFailed)));
    }
    let found = case.diagnosis();
    assert!(found.evidence.len() <= 60, "{}", found.evidence.len());
    assert!(found.evidence.iter().any(|entry| entry.kind == TimelineKind::MachineExited), "the cause is included");
    assert!(found.sentence.len() < 2_000);
}

#[test]
fn machine_component_of_a_cancelled_session_is_waiting_until_it_has_stopped() {
    let machine = |case: Case| {
        let found = case.diagnosis();
        let status = found.chain.iter().find(|status| status.component == Component::Machine).unwrap();
        (status.state, status.detail.clone())
    };
    let mut cancelled = Case::running().ended(TimelineKind::Cancelled, EndReason::Cancelled, "").at(Progress::Closing);
    let (state, detail) = machine(cancelled.clone());
    assert_eq!(state, ComponentState::Waiting, "{detail}");
    assert!(detail.contains("is being stopped"), "{detail}");
    assert_eq!(machine(cancelled.clone().stopped(StopReason::Cancelled)).0, ComponentState::Ok);
    cancelled.supervisor = None;
    assert_eq!(machine(cancelled).0, ComponentState::Unknown, "no task of the server has it");
}
