//! Sessions that have ended.

use super::*;
use anteroom_wire::agent::Stage;

fn timeout(stage: Stage, error: &str) -> ExitReason {
    let last_error = Some(error.to_owned());
    ExitReason::ReadyTimeout { stage, last_error, attempts: 7, elapsed_ms: 60_000 }
}

fn mismatch(found: &str) -> ExitReason {
    ExitReason::Mismatch { expected: "image aaaa".into(), found: found.into() }
}

/// The three moments at which a machine can end under a session.
fn moments(what: &'static str, why: &ExitReason, verdict: Verdict) -> [Row; 3] {
    let first_too = Case::running().gone(&ExitReason::OutOfMemory).entry("machine_replaced", json!({}));
    let second = first_too.entry("machine_requested", json!({ "generation": 2 })).entry("machine_ready", json!({}));
    [
        (what, Case::asked().gone(why).failed(Problem::MachineFailed), verdict),
        (what, Case::running().viewer("viewer_joined", None).gone(why).failed(Problem::MachineFailed), verdict),
        (what, second.gone(why).failed(Problem::MachineFailed), verdict),
    ]
}

fn machines() -> Vec<Row> {
    let stopped = |why| ExitReason::Stopped { why };
    let error = || "qemu: not found".to_owned();
    let mut receipt = Case::running().failed(Problem::MachineFailed);
    receipt.receipt = Some(ExitReason::Killed { signal: 11 });
    let bare =
        |case: Case| case.entry("machine_exited", json!({ "left_out_bytes": 40_000 })).failed(Problem::MachineFailed);
    let mut rows = vec![("a machine whose receipt alone tells", receipt, Verdict::MachineKilled)];
    rows.push(("no word of an end", Case::running().failed(Problem::MachineFailed), Verdict::MachineEndUnknown));
    rows.push(("an end without its cause", bare(Case::asked()), Verdict::MachineEndUnknown));
    rows.push(("an end without its cause", bare(Case::ready()), Verdict::MachineEndUnknown));
    for (what, why, verdict) in [
        ("exit 0", ExitReason::Exited { code: 0 }, Verdict::MachineExited),
        ("exit 1", ExitReason::Exited { code: 1 }, Verdict::MachineExited),
        ("a signal", ExitReason::Killed { signal: 9 }, Verdict::MachineKilled),
        ("no memory", ExitReason::OutOfMemory, Verdict::OutOfMemory),
        ("the keeper's deadline", ExitReason::Deadline, Verdict::MachineDeadline),
        ("power off", ExitReason::GuestPowerOff, Verdict::GuestPowerOff),
        ("a panic", ExitReason::GuestPanic, Verdict::GuestPanic),
        ("an internal error", ExitReason::VmmError { status: "internal-error".to_owned() }, Verdict::VmmError),
        ("a frozen machine", ExitReason::Hung { unanswered_ms: 20_500 }, Verdict::MachineUnresponsive),
        ("the keeper was killed", ExitReason::KeeperLost, Verdict::KeeperLost),
        ("no start", ExitReason::NeverStarted { error: error() }, Verdict::MachineStartFailed),
        ("the operator", stopped(StopReason::Operator), Verdict::MachineStopped),
        ("no owner", stopped(StopReason::Orphaned), Verdict::MachineStopped),
    ] {
        rows.extend(moments(what, &why, verdict));
    }
    rows
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let machine = |why: ExitReason, problem| Case::asked().gone(&why).failed(problem);
    let unclaimed =
        |case: Case| case.entry("claim_failed", json!({})).stopped(StopReason::Failed).failed(Problem::MachineFailed);
    let cancelled = |case: Case| case.ended("cancelled", Problem::Cancelled, "");
    let idle = |case: Case| case.ended("expired", Problem::IdleExpired, "It may be idle for 900 s.");
    let capped = |case: Case| case.ended("expired", Problem::DeadlineExpired, "It may last 3600 s.");
    let completed = |case: Case| case.ended("completed", Problem::Completed, "");
    let mut rows = machines();
    rows.extend([
        (
            "stays at the channel",
            machine(timeout(Stage::Channel, "no echo"), Problem::ReadyTimeout),
            Verdict::ReadyTimeout,
        ),
        ("stays at hello", machine(timeout(Stage::Hello, "closed"), Problem::ReadyTimeout), Verdict::ReadyTimeout),
        (
            "stays at the display",
            machine(timeout(Stage::Display, "refused"), Problem::ReadyTimeout),
            Verdict::ReadyTimeout,
        ),
        ("another image", machine(mismatch("image bbbb"), Problem::AgentMismatch), Verdict::ImageMismatch),
        ("another protocol", machine(mismatch("protocol 2"), Problem::AgentMismatch), Verdict::ImageMismatch),
        ("no image's name", machine(mismatch(""), Problem::AgentMismatch), Verdict::ImageMismatch),
        ("a claim that failed", unclaimed(Case::asked()), Verdict::ClaimFailed),
        (
            "a claim that failed again",
            unclaimed(Case::asked().gone(&ExitReason::GuestPanic).entry("machine_requested", json!({}))),
            Verdict::ClaimFailed,
        ),
        (
            "a claim that failed before a viewer",
            unclaimed(Case::asked().viewer("viewer_joined", None)),
            Verdict::ClaimFailed,
        ),
        ("no image", Case::asked().entry("machine_start_failed", json!({})).failed(Problem::NoImage), Verdict::NoImage),
        (
            "no room at a restart",
            Case::asked().gone(&ExitReason::OutOfMemory).failed(Problem::NoCapacity),
            Verdict::NoCapacity,
        ),
        ("no room after the server's restart", Case::new().failed(Problem::NoCapacity), Verdict::NoCapacity),
        ("no room until it expired", idle(Case::new()), Verdict::NoCapacity),
        ("the server restarted", Case::asked().failed(Problem::ControllerRestarted), Verdict::ServerRestarted),
        (
            "the server restarted under the tool",
            Case::running().failed(Problem::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        ("the provider is gone", Case::running().failed(Problem::ProviderUnavailable), Verdict::ProviderRemoved),
        ("the owner was lost", Case::running().failed(Problem::Internal), Verdict::InternalError),
        ("an owner lost in line", Case::new().failed(Problem::Internal), Verdict::InternalError),
        ("cancelled in line", cancelled(Case::new()), Verdict::Cancelled),
        ("cancelled at the start", cancelled(Case::asked()), Verdict::Cancelled),
        ("cancelled at the sign-in", cancelled(Case::running()).stopped(StopReason::Cancelled), Verdict::Cancelled),
        ("cancelled after the tool failed", cancelled(Case::running().exited(3, &["no"])), Verdict::Cancelled),
        ("idle", idle(Case::running()), Verdict::IdleExpired),
        (
            "idle with noise at the gate",
            idle(Case::running().refused("ads.example", Problem::EgressDenied)),
            Verdict::IdleExpired,
        ),
        ("idle, machine stopped", idle(Case::running()).stopped(StopReason::IdleExpired), Verdict::IdleExpired),
        ("the cap", capped(Case::running()), Verdict::DeadlineExpired),
        ("the cap at the start", capped(Case::asked()), Verdict::DeadlineExpired),
        (
            "the cap, machine stopped",
            capped(Case::running()).stopped(StopReason::DeadlineExpired),
            Verdict::DeadlineExpired,
        ),
        ("the tool failed, then idle", idle(Case::running().exited(3, &[])), Verdict::CliFailed),
        ("another shape, then idle", idle(Case::running().rejected("/token")), Verdict::CredentialInvalidFormat),
        (
            "no delivery until the cap",
            capped(Case::running().accepted().entry("delivery_retry", json!({"attempts": 9, "error": "503"}))),
            Verdict::DeliveryFailing,
        ),
        ("completed", completed(Case::running().accepted()), Verdict::Completed),
        ("completed after a tool's end", completed(Case::running().accepted().exited(0, &[])), Verdict::Completed),
        (
            "completed after trouble",
            completed(Case::running().refused("a.example", Problem::EgressDenied).rejected("/token").accepted())
                .stopped(StopReason::Completed),
            Verdict::Completed,
        ),
        ("a reason that no part gives", Case::running().failed(Problem::TooLarge), Verdict::Unknown),
    ]);
    rows
}

#[test]
fn a_machine_that_was_stopped_and_a_viewer_who_came_after_are_told_in_words() {
    let killed = Case::running().gone(&ExitReason::Killed { signal: 9 }).failed(Problem::MachineFailed);
    let found = killed.viewer("viewer_rejected", Some(Problem::MachineFailed)).diagnosis();
    let expected = format!(
        "The machine ended at {} because its process was killed by signal 9, which this server did not send; the viewer's WebSocket was rejected at {} for that reason; no credential was delivered.",
        at(5),
        at(7)
    );
    assert_eq!(found.sentence, expected);
    let kinds: Vec<_> = found.evidence.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["machine_exited", "failed", "viewer_rejected"]);
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
        assert_eq!(link(&found, which), state, "{which:?}");
    }
}

#[test]
fn a_viewer_refused_for_another_reason_is_not_laid_to_the_machine() {
    let case = Case::running().viewer("viewer_rejected", Some(Problem::TooManyViewers));
    let found = case.gone(&ExitReason::GuestPanic).failed(Problem::MachineFailed).diagnosis();
    assert!(!found.sentence.contains("refused"), "{}", found.sentence);
    assert!(found.evidence.iter().all(|entry| entry.kind != "viewer_rejected"));
}

#[test]
fn viewers_who_were_there_and_viewers_who_came_are_counted_apart() {
    let case = Case::running().gone(&ExitReason::OutOfMemory).failed(Problem::MachineFailed);
    let case = case.viewer("viewer_left", Some(Problem::MachineFailed));
    let case = case.viewer("viewer_rejected", Some(Problem::MachineFailed));
    let found = case.viewer("viewer_rejected", Some(Problem::MachineFailed)).diagnosis();
    let words = format!(
        "; a connected viewer was disconnected at {} for that reason; 2 viewers' WebSockets were rejected at {}, {} for that reason;",
        at(7),
        at(8),
        at(9)
    );
    assert!(found.sentence.contains(&words), "{}", found.sentence);
}

#[test]
fn refusals_that_were_only_counted_count_and_a_refused_ticket_is_told() {
    let case = Case::running().gone(&ExitReason::OutOfMemory).failed(Problem::MachineFailed);
    let case = case.viewer("ticket_rejected", Some(Problem::MachineFailed));
    let case = case.viewer("viewer_rejected", Some(Problem::MachineFailed));
    let more = json!({ "reason": Problem::MachineFailed.code(), "count": 4 });
    let found = case.entry("viewer_rejected", more).diagnosis();
    for words in [
        format!("; 5 viewers' WebSockets were rejected at {}, {} for that reason;", at(8), at(9)),
        format!("; the viewer's ticket was rejected at {} for that reason;", at(7)),
    ] {
        assert!(found.sentence.contains(&words), "{words}: {}", found.sentence);
    }
}

#[test]
fn a_stage_that_was_not_reached_in_time_is_named_and_what_follows_it_was_not_reached() {
    let case = Case::asked().gone(&timeout(Stage::Display, "connection refused")).failed(Problem::ReadyTimeout);
    let found = case.diagnosis();
    for words in ["60000 ms", "Display", "7 attempts", "connection refused", "no credential was delivered"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    assert_eq!(link(&found, Component::Channel), ComponentState::Ok);
    assert_eq!(link(&found, Component::Agent), ComponentState::Ok);
    assert_eq!(link(&found, Component::Display), ComponentState::Failed);
    assert_eq!(link(&found, Component::Cli), ComponentState::NotReached);
}

#[test]
fn a_machine_that_ended_because_its_session_did_has_not_failed() {
    let case = Case::running().ended("cancelled", Problem::Cancelled, "").stopped(StopReason::Cancelled);
    let found = case.diagnosis();
    assert_eq!(link(&found, Component::Machine), ComponentState::Ok);
    let case = Case::running().accepted().ended("completed", Problem::Completed, "");
    let found = case.stopped(StopReason::Completed).diagnosis();
    assert!(found.chain.iter().all(|link| link.state != ComponentState::Failed), "{:?}", found.chain);
}

#[test]
fn an_end_with_very_many_refusals_keeps_its_evidence_bounded() {
    let mut case = Case::running().gone(&ExitReason::OutOfMemory).failed(Problem::MachineFailed);
    for _ in 0..500 {
        case = case.viewer("viewer_rejected", Some(Problem::MachineFailed));
    }
    let found = case.diagnosis();
    assert!(found.evidence.len() <= 60, "{}", found.evidence.len());
    assert!(found.evidence.iter().any(|entry| entry.kind == "machine_exited"), "the cause itself is kept");
    assert!(found.sentence.len() < 2_000);
}
