//! Sessions that use a stored credential.

use super::*;
use anteroom_store::{SessionPurpose, CredentialUse};
use anteroom_wire::agent::UsePurpose;

fn of(mut case: Case, purpose: UsePurpose) -> Case {
    case.timeline[0].data = json!({ "purpose": purpose, "credential": CredentialId::from_parts(1, [4; 10]) });
    let credential = CredentialId::from_parts(1, [4; 10]);
    case.row.purpose = SessionPurpose::UseCredential(CredentialUse { purpose, credential, revision: 1 });
    case
}

fn exec(case: Case) -> Case {
    of(case, UsePurpose::Exec)
}

/// Claimed, with the credential.
fn opened(purpose: UsePurpose) -> Case {
    let case = Case::asked().entry("credential_unsealed", json!({ "revision": 1 }));
    of(case.entry("machine_ready", json!({})).at(MachineProgress::Open), purpose)
}

fn running() -> Case {
    let mut case = opened(UsePurpose::Exec).entry("cli_started", Value::Null);
    case.supervisor.as_mut().unwrap().cli = CliState::Running;
    case
}

/// It ran to its end, well or not.
fn over(code: i32) -> Case {
    let case = running().exited(code, &["last words"]).entry("use_completed", json!({ "code": code, "changed": false }));
    let mut case = case.ended("completed", Problem::UseCompleted, "");
    case.row.exit_code = Some(code);
    case
}

pub(super) fn rows() -> Vec<Row> {
    let killed = ExitReason::Killed { signal: 9 };
    let retry = json!({ "attempts": 3, "error": "503 Service Unavailable" });
    vec![
        ("a command in line", exec(Case::new()), Verdict::WaitingForCapacity),
        ("a command's machine starts", exec(Case::asked()), Verdict::MachineStarting),
        ("a command that is being started", opened(UsePurpose::Exec), Verdict::CommandRunning),
        ("a command that runs", running(), Verdict::CommandRunning),
        ("a check", opened(UsePurpose::Check), Verdict::CommandRunning),
        ("a sign-out", opened(UsePurpose::Logout).entry("cli_started", Value::Null), Verdict::CommandRunning),
        ("a command that has just failed", running().exited(1, &["no"]), Verdict::CommandRunning),
        (
            "a command that asks for a name in vain",
            running().refused("a.example", Problem::EgressDenied),
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
            running().accepted().entry("delivery_retry", retry),
            Verdict::DeliveryFailing,
        ),
        ("a command that ended well", over(0), Verdict::Completed),
        ("a command that ended badly", over(7), Verdict::Completed),
        ("a command that was cancelled", running().ended("cancelled", Problem::Cancelled, ""), Verdict::Cancelled),
        ("a command that nobody watched", running().ended("expired", Problem::IdleExpired, ""), Verdict::IdleExpired),
        (
            "a command that took too long",
            running().ended("expired", Problem::DeadlineExpired, ""),
            Verdict::DeadlineExpired,
        ),
        ("a command whose machine died", running().gone(&killed).failed(Problem::MachineFailed), Verdict::MachineKilled),
        (
            "a command that a former server knew",
            exec(Case::asked()).failed(Problem::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        ("deleted in line", exec(Case::asked()).failed(Problem::UnknownCredential), Verdict::CredentialDeleted),
        (
            "deleted before the second machine",
            running().gone(&killed).entry("machine_requested", json!({})).failed(Problem::UnknownCredential),
            Verdict::CredentialDeleted,
        ),
        (
            "deleted before a check",
            of(Case::asked(), UsePurpose::Check).failed(Problem::UnknownCredential),
            Verdict::CredentialDeleted,
        ),
    ]
}

#[test]
fn a_use_is_never_told_as_a_sign_in() {
    for (what, case, _) in rows() {
        let found = case.diagnosis();
        for wrong in ["person", "sign-in", "no credential was delivered", "tool runs", "No file"] {
            let said = found.chain.iter().map(|link| link.detail.as_str()).chain([found.sentence.as_str()]);
            let said: Vec<_> = said.filter(|said| said.contains(wrong)).collect();
            assert!(said.is_empty(), "{what}: {said:?}");
        }
    }
}

#[test]
fn the_end_of_a_command_is_told_with_its_code_and_last_words() {
    let found = over(7).diagnosis();
    let id = CredentialId::from_parts(1, [4; 10]);
    let expected = format!("The command with the stored credential {id} ended with exit code 7 at ");
    assert!(found.sentence.starts_with(&expected), "{}", found.sentence);
    assert!(found.sentence.contains("“last words”"), "{}", found.sentence);
    assert_eq!((link(&found, Component::Cli), link(&found, Component::Credential)), (ComponentState::Ok, ComponentState::Ok));
    let running = running().diagnosis().sentence;
    assert!(running.ends_with(&format!("{id} has been running since {}.", at(5))), "{running}");
}
