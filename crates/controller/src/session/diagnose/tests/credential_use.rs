//! Sessions that use a stored credential.

use super::*;
use anteroom_store::{CredentialUse, SessionPurpose};
use anteroom_wire::{TimelineKind, agent::UsePurpose};

fn of(mut case: Case, purpose: UsePurpose) -> Case {
    case.timeline[0].data = json!({ "purpose": purpose, "credential": CredentialId::from_parts(1, [4; 10]) });
    let credential = CredentialId::from_parts(1, [4; 10]);
    case.row.purpose = SessionPurpose::UseCredential(CredentialUse { purpose, credential, revision: 1 });
    case
}

fn exec(case: Case) -> Case {
    of(case, UsePurpose::Exec)
}

/// Claimed, with the unsealed credential.
fn unsealed(purpose: UsePurpose) -> Case {
    let case = Case::requested().entry(TimelineKind::CredentialUnsealed, json!({ "revision": 1 }));
    of(case.entry(TimelineKind::MachineReady, json!({})).at(Progress::Open { channels: () }), purpose)
}

fn running() -> Case {
    let mut case = unsealed(UsePurpose::Exec).entry(TimelineKind::CliStarted, Value::Null);
    case.supervisor.as_mut().unwrap().cli = CliState::Running;
    case
}

/// Another use must end first.
fn waiting(case: Case) -> Case {
    let mut case = exec(case).entry(TimelineKind::CredentialUseWaiting, json!({ "position": 1 }));
    case.timeline.last_mut().unwrap().sentence = "Another use of this credential is running.".to_owned();
    case
}

/// The command finished with this exit code.
fn over(code: i32) -> Case {
    let case = running()
        .exited(code, &["last lines"])
        .entry(TimelineKind::UseCompleted, json!({ "code": code, "changed": false }));
    let mut case = case.ended(TimelineKind::Completed, EndReason::UseCompleted, "");
    case.row.exit_code = Some(code);
    case
}

pub(super) fn rows() -> Vec<Row> {
    [active_rows(), ended_rows()].concat()
}

fn active_rows() -> Vec<Row> {
    let retry = json!({ "attempts": 3, "error": "503 Service Unavailable" });
    vec![
        ("a queued command", exec(Case::new()), Verdict::WaitingForCapacity),
        ("a command behind another one", waiting(Case::new()), Verdict::CredentialInUse),
        (
            "a command whose turn came",
            waiting(Case::new()).entry(TimelineKind::CredentialUseTurn, json!({})),
            Verdict::WaitingForCapacity,
        ),
        ("a command's machine starts", exec(Case::requested()), Verdict::MachineStarting),
        ("a command that is being started", unsealed(UsePurpose::Exec), Verdict::CommandRunning),
        ("a command that runs", running(), Verdict::CommandRunning),
        ("a check", unsealed(UsePurpose::Check), Verdict::CommandRunning),
        (
            "a sign-out",
            unsealed(UsePurpose::Logout).entry(TimelineKind::CliStarted, Value::Null),
            Verdict::CommandRunning,
        ),
        ("a command that has just failed", running().exited(1, &["no"]), Verdict::CommandRunning),
        (
            "a command that asks for a name in vain",
            running().egress_failed("a.example", Problem::EgressDenied),
            Verdict::CommandRunning,
        ),
        ("a command that has refreshed its credential", running().accepted(), Verdict::CommandRunning),
        (
            "a refresh on its way",
            running().accepted().capture(CaptureState::Delivering { attempts: 0, last_error: None }),
            Verdict::Delivering,
        ),
        (
            "a refresh that cannot be stored",
            running().accepted().entry(TimelineKind::DeliveryRetry, retry),
            Verdict::DeliveryFailing,
        ),
    ]
}

fn ended_rows() -> Vec<Row> {
    let killed = ExitReason::Killed { signal: 9 };
    vec![
        ("a command that ended well", over(0), Verdict::Completed),
        ("a command that ended badly", over(7), Verdict::Completed),
        (
            "a command that was cancelled",
            running().ended(TimelineKind::Cancelled, EndReason::Cancelled, ""),
            Verdict::Cancelled,
        ),
        (
            "a command without viewers",
            running().ended(TimelineKind::Expired, EndReason::IdleExpired, ""),
            Verdict::IdleExpired,
        ),
        (
            "a command that took too long",
            running().ended(TimelineKind::Expired, EndReason::DeadlineExpired, ""),
            Verdict::DeadlineExpired,
        ),
        (
            "a command whose machine exited",
            running().machine_exited(&killed).failed(EndReason::MachineFailed),
            Verdict::MachineKilled,
        ),
        (
            "a command that a former server knew",
            exec(Case::requested()).failed(EndReason::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        (
            "a command whose turn did not come",
            waiting(Case::new()).failed(EndReason::CredentialInUse),
            Verdict::CredentialInUse,
        ),
        (
            "a command that was idle behind another one",
            waiting(Case::new()).ended(TimelineKind::Expired, EndReason::IdleExpired, ""),
            Verdict::CredentialInUse,
        ),
        (
            "deleted while queued",
            exec(Case::requested()).failed(EndReason::CredentialDeleted),
            Verdict::CredentialDeleted,
        ),
        (
            "deleted before the second machine",
            running()
                .machine_exited(&killed)
                .entry(TimelineKind::MachineRequested, json!({}))
                .failed(EndReason::CredentialDeleted),
            Verdict::CredentialDeleted,
        ),
        (
            "deleted before a check",
            of(Case::requested(), UsePurpose::Check).failed(EndReason::CredentialDeleted),
            Verdict::CredentialDeleted,
        ),
    ]
}

#[test]
fn credential_use_is_never_described_as_a_sign_in() {
    for (what, case, _) in rows() {
        let found = case.diagnosis();
        for wrong in ["the user", "sign-in", "no credential was delivered", "tool runs", "No file"] {
            let texts = found.chain.iter().map(|component| component.detail.as_str()).chain([found.sentence.as_str()]);
            let texts: Vec<_> = texts.filter(|text| text.contains(wrong)).collect();
            assert!(texts.is_empty(), "{what}: {texts:?}");
        }
    }
}

#[test]
fn command_behind_a_proxy_that_inspects_tls_is_reported_with_what_the_gate_found() {
    let untrusted = || running().egress_failed("a.example", Problem::EgressUnknownAuthority);
    let mut ended = untrusted().exited(1, &["fetch failed"]).entry(TimelineKind::UseCompleted, json!({ "code": 1 }));
    ended = ended.ended(TimelineKind::Completed, EndReason::UseCompleted, "");
    ended.row.exit_code = Some(1);
    for case in [untrusted(), ended] {
        let found = case.diagnosis();
        assert!(found.sentence.contains("this server asked a.example:443 itself"), "{}", found.sentence);
        assert!(found.evidence.iter().any(|entry| entry.kind == TimelineKind::EgressDenied), "{:?}", found.evidence);
    }
}

#[test]
fn end_of_a_command_is_reported_with_exit_code_and_last_lines() {
    let found = over(7).diagnosis();
    let id = CredentialId::from_parts(1, [4; 10]);
    let expected = format!("The command with the stored credential {id} ended with exit code 7 at ");
    assert!(found.sentence.starts_with(&expected), "{}", found.sentence);
    assert!(found.sentence.contains("“last lines”"), "{}", found.sentence);
    assert_eq!(
        (state_of(&found, Component::Cli), state_of(&found, Component::Credential)),
        (ComponentState::Ok, ComponentState::Ok)
    );
    let running = running().diagnosis().sentence;
    assert!(running.ends_with(&format!("{id} has been running since {}.", at(5))), "{running}");
}
