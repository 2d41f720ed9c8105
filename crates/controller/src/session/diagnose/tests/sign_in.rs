//! Failed sign-ins in a working machine.

use super::*;
use anteroom_wire::TimelineKind;

fn unstarted(error: &str) -> Case {
    let failed =
        Case::ready().entry(TimelineKind::StageFailed, json!({ "stage": "cli", "attempts": 1, "error": error }));
    failed.entry(
        TimelineKind::ChildExited,
        json!({ "name": "scripted", "code": null, "restarts": 0, "last_lines": [error] }),
    )
}

fn retry(case: Case, attempts: u32) -> Case {
    case.entry(TimelineKind::DeliveryRetry, json!({ "attempts": attempts, "error": "503 Service Unavailable" }))
}

fn turned_down(code: &str) -> CaptureState {
    CaptureState::DeliveryRejected { code: code.into() }
}

fn delivering(attempts: u32, error: Option<&str>) -> CaptureState {
    CaptureState::Delivering { attempts, last_error: error.map(Into::into) }
}

fn killed(case: Case) -> Case {
    case.entry(TimelineKind::OutOfMemory, json!({ "victim": "chromium", "kills": 1 }))
}

fn low(case: Case) -> Case {
    case.entry(TimelineKind::MemoryLow, json!({ "available_mib": 40, "some_avg10": 12.3 }))
}

fn looping(case: Case) -> Case {
    let data = json!({ "name": "Xtigervnc", "exits": 5, "window_s": 120, "code": 1, "last_lines": ["no display"] });
    case.entry(TimelineKind::CrashLoop, data)
}

const MISSING: &str = "no such file, although the tool reports that it is signed in: .scripted/other.json";

fn signed_in() -> Case {
    Case::running().entry(TimelineKind::ToolSignedIn, json!({}))
}

fn idle(case: Case) -> Case {
    case.ended(TimelineKind::Expired, EndReason::IdleExpired, "")
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let denied = |host: &str| Case::running().egress_failed(host, Problem::EgressDenied);
    let unreachable = |host: &str| Case::running().egress_failed(host, Problem::EgressUnreachable);
    let untrusted = |host: &str| {
        let reached = Case::running().entry(TimelineKind::EgressAllowed, json!({ "host": host, "port": 443 }));
        reached.egress_failed(host, Problem::EgressUnknownAuthority)
    };
    let by_proxy = |host: &str| Case::running().egress_failed(host, Problem::EgressProxy);
    let disagree = "the tool's status command ended with 1";
    vec![
        ("exit 3", Case::running().exited(3, &["error: no"]), Verdict::CliFailed),
        ("a signal", Case::running().exited(139, &[]), Verdict::CliFailed),
        (
            "exit 1 after an address",
            Case::running().entry(TimelineKind::SignInUrl, json!({})).exited(1, &["timeout"]),
            Verdict::CliFailed,
        ),
        ("exit 1 with a broken file", Case::running().rejected("not JSON").exited(1, &[]), Verdict::CliFailed),
        ("exit 1 long after noise", denied("ads.example").exited(1, &["bad code"]).later(60_000), Verdict::CliFailed),
        (
            "exit 1 after names were reached",
            Case::running().entry(TimelineKind::EgressAllowed, json!({"host": "a.example"})).exited(1, &[]),
            Verdict::CliFailed,
        ),
        ("the tool was killed for want of memory", killed(Case::running()).exited(137, &[]), Verdict::GuestOutOfMemory),
        ("… in the other order", killed(Case::running().exited(137, &[])), Verdict::GuestOutOfMemory),
        ("another program was", killed(Case::running()), Verdict::GuestOutOfMemory),
        ("unknown victim", Case::running().entry(TimelineKind::OutOfMemory, json!({})), Verdict::GuestOutOfMemory),
        (
            "… and the sign-in went on",
            killed(Case::running()).entry(TimelineKind::SignInUrl, json!({})),
            Verdict::WaitingForUser,
        ),
        (
            "… and the tool failed later",
            killed(Case::running()).later(60_000).exited(1, &[]).later(90_000),
            Verdict::CliFailed,
        ),
        ("… and the session idled out", idle(killed(Case::running()).exited(137, &[])), Verdict::GuestOutOfMemory),
        ("the display crashes again and again", looping(Case::running()), Verdict::GuestCrashLoop),
        ("… and the tool with it", looping(Case::running()).exited(129, &[]), Verdict::GuestCrashLoop),
        (
            "… and then holds",
            looping(Case::running()).entry(TimelineKind::CrashLoopEnded, json!({ "name": "Xtigervnc" })),
            Verdict::WaitingForUser,
        ),
        (
            "another than the one that holds",
            looping(Case::running()).entry(TimelineKind::CrashLoopEnded, json!({ "name": "openbox" })),
            Verdict::GuestCrashLoop,
        ),
        ("little memory", low(Case::running()), Verdict::GuestMemoryLow),
        ("little memory and a tool that failed", low(Case::running()).exited(1, &[]), Verdict::CliFailed),
        (
            "little memory for a while",
            low(Case::running()).entry(TimelineKind::MemoryRecovered, json!({ "available_mib": 500 })),
            Verdict::WaitingForUser,
        ),
        ("exit 0", Case::running().exited(0, &[]), Verdict::CliExitedWithoutCredential),
        ("signed in, then exit 0", signed_in().exited(0, &["bye"]), Verdict::CredentialNotFound),
        ("signed in, and no file in time", signed_in().rejected(MISSING), Verdict::CredentialNotFound),
        ("… and the session idled out", idle(signed_in().rejected(MISSING)), Verdict::CredentialNotFound),
        (
            "… and a complete file after all",
            signed_in().rejected(MISSING).accepted().capture(delivering(1, None)),
            Verdict::Delivering,
        ),
        (
            "signed in, then an incomplete file",
            signed_in().rejected("/token").exited(0, &[]),
            Verdict::CredentialInvalidFormat,
        ),
        (
            "signed in, and then started again",
            signed_in().entry(TimelineKind::CliStarted, json!({})).exited(0, &[]),
            Verdict::CliExitedWithoutCredential,
        ),
        ("exit 0 with output", Case::running().exited(0, &["bye"]), Verdict::CliExitedWithoutCredential),
        ("exit 0 with noise", denied("ads.example").exited(0, &[]), Verdict::CliExitedWithoutCredential),
        ("no such program", unstarted("No such file or directory"), Verdict::CliNotStarted),
        ("not executable", unstarted("Permission denied"), Verdict::CliNotStarted),
        ("no reason", unstarted(""), Verdict::CliNotStarted),
        ("a denied name, then exit 1", denied("login.example").exited(1, &["network error"]), Verdict::EgressDenied),
        (
            "a denied name that the tool names",
            denied("login.example").exited(1, &["cannot reach login.example"]).later(90_000),
            Verdict::EgressDenied,
        ),
        (
            "a denial that is written a moment after exit 1",
            Case::running().exited(1, &[]).egress_failed("login.example", Problem::EgressDenied),
            Verdict::EgressDenied,
        ),
        (
            "a denial long after exit 1",
            Case::running().exited(1, &[]).egress_failed("login.example", Problem::EgressDenied).later(10_000),
            Verdict::CliFailed,
        ),
        (
            "a private address, then exit 2",
            Case::running().egress_failed("intra.example", Problem::EgressPrivate).exited(2, &[]),
            Verdict::EgressDenied,
        ),
        (
            "denied and unreachable, then exit 1",
            unreachable("a.example").egress_failed("b.example", Problem::EgressDenied).exited(1, &[]),
            Verdict::EgressDenied,
        ),
        ("an unreachable name, then exit 1", unreachable("login.example").exited(1, &[]), Verdict::EgressUnreachable),
        (
            "a silent name, then exit 1",
            Case::running().egress_failed("login.example", Problem::EgressTimeout).exited(1, &["timed out"]),
            Verdict::EgressUnreachable,
        ),
        ("a tool that waits without egress", unreachable("login.example"), Verdict::EgressUnreachable),
        (
            "a certificate that was given up, then exit 1",
            untrusted("login.example").exited(1, &["error sending request"]),
            Verdict::UnknownAuthority,
        ),
        (
            "… and a name that is denied",
            untrusted("login.example")
                .egress_failed("ads.example", Problem::EgressDenied)
                .exited(1, &["network error"]),
            Verdict::UnknownAuthority,
        ),
        ("… and a tool that waits", untrusted("login.example"), Verdict::UnknownAuthority),
        (
            "… on a page that the tool opened",
            untrusted("login.example").entry(TimelineKind::SignInUrl, json!({})),
            Verdict::UnknownAuthority,
        ),
        (
            "a certificate of the clock's future that was given up",
            Case::running().egress_failed("login.example", Problem::EgressCertificateDates),
            Verdict::CertificateNotValidNow,
        ),
        (
            "… and then the tool is signed in",
            untrusted("login.example").entry(TimelineKind::ToolSignedIn, json!({})),
            Verdict::WaitingForUser,
        ),
        (
            "named with noise",
            denied("ads.example")
                .egress_failed("login.example", Problem::EgressUnreachable)
                .exited(1, &["ENOTFOUND login.example"]),
            Verdict::EgressUnreachable,
        ),
        ("a proxy that refuses, then exit 1", by_proxy("login.example").exited(1, &["403"]), Verdict::EgressProxy),
        ("a tool that waits for a proxy", by_proxy("login.example"), Verdict::EgressProxy),
        (
            "a proxy that refuses some hosts and not others",
            by_proxy("login.example").egress_failed("b.example", Problem::EgressTimeout),
            Verdict::EgressProxy,
        ),
        (
            "a proxy that refuses a host which the tool does not need",
            Case::running()
                .entry(TimelineKind::EgressAllowed, json!({"host": "a.example"}))
                .egress_failed("ads.example", Problem::EgressProxy),
            Verdict::WaitingForUser,
        ),
        (
            "rejected by the server",
            Case::running().accepted().capture(turned_down("invalid_credential_format")),
            Verdict::CredentialInvalidFormat,
        ),
        (
            "rejected for its token",
            Case::running().accepted().capture(turned_down("wrong_agent_token")),
            Verdict::DeliveryFailing,
        ),
        (
            "rejected by the server, and the machine is silent",
            Case::running().accepted().delivery_rejected("machine", Problem::InvalidCredentialFormat),
            Verdict::CredentialInvalidFormat,
        ),
        (
            "rejected by the server, then another file",
            Case::running().accepted().delivery_rejected("machine", Problem::TooLarge).accepted(),
            Verdict::Delivering,
        ),
        (
            "a stranger's delivery",
            Case::running().delivery_rejected("unauthorized", Problem::WrongAgentToken),
            Verdict::WaitingForUser,
        ),
        ("keys are missing", Case::running().rejected("/token"), Verdict::CredentialInvalidFormat),
        ("no JSON", Case::running().rejected("not JSON"), Verdict::CredentialInvalidFormat),
        (
            "another shape and a tool that ended",
            Case::running().rejected("/a, /b").exited(0, &[]),
            Verdict::CredentialInvalidFormat,
        ),
        ("the status command ended with 1", Case::running().rejected(disagree), Verdict::CredentialNotConfirmed),
        (
            "the status command denies",
            Case::running().rejected("the tool's status command does not report that it is signed in"),
            Verdict::CredentialNotConfirmed,
        ),
        (
            "the status command did not run",
            Case::running().rejected("the tool's status command did not run: not found").exited(0, &[]),
            Verdict::CredentialNotConfirmed,
        ),
        ("one try failed", retry(Case::running().accepted(), 1), Verdict::DeliveryFailing),
        (
            "many tries failed and the tool has ended",
            retry(Case::running().accepted().exited(0, &[]), 20),
            Verdict::DeliveryFailing,
        ),
        (
            "a database that stores no entries either",
            Case::running().capture(delivering(3, Some("503"))),
            Verdict::DeliveryFailing,
        ),
        ("found", Case::running().accepted(), Verdict::Delivering),
        ("found after a rejected one", Case::running().rejected("/token").accepted(), Verdict::Delivering),
        (
            "found by a tool that ended",
            Case::running().accepted().exited(0, &[]).capture(delivering(1, None)),
            Verdict::Delivering,
        ),
    ]
}

#[test]
fn a_missing_credential_is_reported_with_the_files_that_were_written() {
    let found = signed_in().rejected(MISSING).diagnosis();
    let expected = format!(
        "Scripted tool reported at {} that it is signed in, and no file appeared where the credential is expected (.scripted/auth.json); \
         files that were written since its start: “.scripted/other.json”; nothing was delivered.",
        at(5)
    );
    assert_eq!(found.sentence, expected);
    assert!(found.remedy.starts_with("Compare the provider's `credential.paths`"), "{}", found.remedy);
}

#[test]
fn remedies_name_the_rule_that_did_not_match() {
    let unconfirmed = Case::running().rejected("it is complete, but the tool does not show that it can work with it");
    let found = unconfirmed.diagnosis();
    assert_eq!(found.verdict, Verdict::CredentialNotConfirmed);
    assert!(found.remedy.contains("`sign_in.done`") && !found.remedy.contains("status_argv"), "{}", found.remedy);
    let mut case = Case::running().entry(TimelineKind::SignInUrl, json!({}));
    case.supervisor.as_mut().unwrap().code = DeviceCodeState::Unrecognized;
    let found = case.diagnosis();
    assert_eq!(found.verdict, Verdict::WaitingForUser);
    assert!(found.sentence.contains("`sign_in.code`") && found.remedy.contains("`sign_in.code`"), "{found:?}");
    case.supervisor.as_mut().unwrap().code = DeviceCodeState::Expired;
    assert_eq!(case.diagnosis().verdict, Verdict::CodeExpired);
}

#[test]
fn exit_of_a_tool_is_reported_with_code_and_last_lines() {
    let lines = ["", "one", "two", "three", "", "four\u{1b}[31m", "Error: \u{7}expired", ""];
    let found = Case::running().exited(3, &lines).diagnosis();
    let part = format!("Scripted tool ended with exit code 3 at {}; no credential was delivered", at(5));
    assert!(found.sentence.starts_with(&part), "{}", found.sentence);
    assert!(found.sentence.contains("two / three / four\u{fffd}[31m / Error: \u{fffd}expired"), "{}", found.sentence);
    assert_eq!(state_of(&found, Component::Cli), ComponentState::Failed);
}

#[test]
fn long_text_of_a_guest_is_truncated() {
    let long = "é".repeat(4_000);
    for case in [Case::running().exited(1, &[&long, &long]), Case::running().rejected(&long), unstarted(&long)] {
        assert!(case.diagnosis().sentence.chars().count() < 700);
    }
}

#[test]
fn denied_host_is_reported_with_the_exit_of_the_tool() {
    let found =
        Case::running().egress_failed("login.example", Problem::EgressDenied).exited(7, &["fetch failed"]).diagnosis();
    let part = format!(
        "The machine requested login.example:443 at {}, which the egress list of this provider does not allow; then Scripted tool ended with exit code 7 at {}",
        at(5),
        at(6)
    );
    assert!(found.sentence.starts_with(&part), "{}", found.sentence);
    assert_eq!(state_of(&found, Component::Egress), ComponentState::Failed);
}

#[test]
fn only_the_last_run_of_a_restarted_tool_counts() {
    let case = Case::running().exited(1, &["first"]).entry(TimelineKind::CliStarted, Value::Null);
    assert_eq!(case.diagnosis().verdict, Verdict::WaitingForUser);
    let again = case
        .entry(TimelineKind::MachineExited, json!({ "why": ExitReason::OutOfMemory }))
        .entry(TimelineKind::MachineRequested, json!({}));
    let again = again.entry(TimelineKind::MachineReady, json!({})).entry(TimelineKind::CliStarted, Value::Null);
    assert_eq!(again.diagnosis().verdict, Verdict::WaitingForUser, "faults of the previous machine are ignored");
}

#[test]
fn rejected_delivery_is_reported_with_its_keys_after_the_end_too() {
    let rejected = Case::running().accepted().delivery_rejected("machine", Problem::InvalidCredentialFormat);
    let ended = rejected.clone().ended(TimelineKind::Expired, EndReason::IdleExpired, "");
    for case in [rejected, ended] {
        let found = case.diagnosis();
        assert_eq!(found.verdict, Verdict::CredentialInvalidFormat, "{}", found.sentence);
        assert!(found.sentence.contains("missing /token"), "{}", found.sentence);
        assert!(found.evidence.iter().any(|entry| entry.kind == TimelineKind::DeliveryRejected));
        assert_eq!(state_of(&found, Component::Credential), ComponentState::Failed);
    }
}

#[test]
fn rejected_file_is_reported_with_its_keys() {
    let found = Case::running().rejected("missing /tokens/access").diagnosis();
    assert!(found.sentence.contains(".scripted/auth.json") && found.sentence.contains("/tokens/access"));
    assert_eq!(state_of(&found, Component::Credential), ComponentState::Failed);
}

#[test]
fn killed_and_crashing_programs_are_reported_with_details() {
    let found = killed(low(Case::running())).exited(137, &[]).diagnosis();
    for part in ["chromium", "exit code 137", &at(6), &at(7)] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    let kinds: Vec<_> = found.evidence.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [TimelineKind::MemoryLow, TimelineKind::OutOfMemory, TimelineKind::CliExited]);
    let found = looping(Case::running()).diagnosis();
    for part in ["Xtigervnc", "5 times within 120 s", "exit code 1", "no display"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    let unstarted = json!({ "name": "xterm", "exits": 6, "window_s": 120, "code": null, "last_lines": [] });
    let found = Case::running().entry(TimelineKind::CrashLoop, unstarted).diagnosis();
    assert!(found.sentence.contains("could not be started 6 times"), "{}", found.sentence);
    let found = low(Case::running()).diagnosis();
    assert!(found.sentence.contains("40 MiB") && found.sentence.contains("12 %"), "{}", found.sentence);
}

#[test]
fn an_unreachable_host_is_named_with_its_cause_and_the_command_that_checks_its_provider() {
    let detail =
        "connect to login.example at 127.0.x.x (1 tried): Connection refused; its address is from egress.overrides";
    let failed = json!({ "host": "login.example", "port": 443, "reason": "egress_unreachable", "detail": detail });
    let waits = || Case::running().entry(TimelineKind::EgressDenied, failed.clone());
    for case in [waits(), waits().exited(1, &["cannot connect to login.example"])] {
        let found = case.diagnosis();
        assert_eq!(found.verdict, Verdict::EgressUnreachable);
        assert!(found.sentence.contains("login.example:443") && found.sentence.contains(detail), "{}", found.sentence);
        assert!(found.remedy.contains("`anteroom doctor --network scripted`"), "{}", found.remedy);
    }
}
