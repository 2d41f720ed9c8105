//! Tools whose own words name the cause.

use super::*;

/// A tool that ended with 1 after this line.
fn said(line: &str) -> Case {
    Case::running().exited(1, &["$ tool login", line])
}

/// A tool that runs on and reported this failure.
fn reported(why: &str) -> Case {
    Case::running().entry(TimelineKind::ToolFailed, json!({ "why": why }))
}

fn not_found(code: Value, line: &str) -> Case {
    let data = json!({ "name": "scripted", "code": code, "restarts": 0, "last_lines": [line] });
    Case::ready().entry(TimelineKind::ChildExited, data)
}

fn tracker(by: &str) -> Case {
    let data =
        json!({ "host": "ads.example", "port": 443, "reason": Problem::EgressDenied.code(), "detail": "", "by": by });
    Case::running().entry(TimelineKind::EgressDenied, data)
}

pub(super) fn rows() -> Vec<Row> {
    let denied = || Case::running().egress_failed("ads.example", Problem::EgressDenied);
    vec![
        ("OAuth's code", said("login failed: access_denied"), Verdict::SignInDeclined),
        ("the descriptor's words", said("anteroom-demo: the sign-in was denied: no"), Verdict::SignInDeclined),
        ("declined, reported by a tool that runs on", reported("access_denied"), Verdict::SignInDeclined),
        ("declined after a name was denied", denied().exited(1, &["access_denied"]), Verdict::SignInDeclined),
        (
            "declined, then another address",
            reported("access_denied").entry(TimelineKind::SignInUrl, json!({})),
            Verdict::WaitingForUser,
        ),
        ("an expired code", said("error: expired_token"), Verdict::CodeExpired),
        ("an expired code in words", said("Your device code has expired, try again"), Verdict::CodeExpired),
        ("an expired code, reported by a tool that runs on", reported("the code expired"), Verdict::CodeExpired),
        ("a certificate of tomorrow", said("certificate is not yet valid"), Verdict::CertificateNotValidNow),
        ("a certificate of yesterday", said("Error: CERT_HAS_EXPIRED"), Verdict::CertificateNotValidNow),
        (
            "a certificate of yesterday, in Go's words",
            said("tls: failed to verify certificate: x509: certificate has expired or is not yet valid"),
            Verdict::CertificateNotValidNow,
        ),
        ("a full disk", said("cannot write: No space left on device (os error 28)"), Verdict::GuestDiskFull),
        ("a full disk in Node's words", said("Error: ENOSPC: no space left on device, write"), Verdict::GuestDiskFull),
        ("a full disk, reported by a tool that runs on", reported("No space left on device"), Verdict::GuestDiskFull),
        (
            "an expired code before another failure",
            Case::running().exited(1, &["the code expired, here is another", "access_denied"]),
            Verdict::SignInDeclined,
        ),
        (
            "a program that is not there",
            not_found(Value::Null, "tol: No such file or directory"),
            Verdict::CliNotStarted,
        ),
        ("a supervised program that ended", not_found(json!(1), "no display"), Verdict::WaitingForUser),
        (
            "a shell that does not find the command",
            Case::running().exited(127, &["sh: 1: tol: not found"]),
            Verdict::CliNotStarted,
        ),
        (
            "a name denied to a page, then a failure that speaks of no connection",
            denied().exited(1, &["the account is disabled"]),
            Verdict::CliFailed,
        ),
        ("a name denied to the browser, then exit 1", tracker("browser").exited(1, &[]), Verdict::CliFailed),
        ("a name denied to the tool, then exit 1", tracker("tool").exited(1, &[]), Verdict::EgressDenied),
    ]
}

#[test]
fn declined_sign_in_is_reported_with_the_tools_words() {
    let found = said("login failed: access_denied").diagnosis();
    let part = format!(
        "Scripted tool ended with exit code 1 at {} because access was declined at the provider; no credential was delivered; \
         its last lines: “$ tool login / login failed: access_denied”.",
        at(5)
    );
    assert_eq!(found.sentence, part);
}

#[test]
fn program_that_is_not_there_is_named_in_the_chain() {
    let found = not_found(Value::Null, "tol: No such file or directory").diagnosis();
    let cli = found.chain.iter().find(|status| status.component == Component::Cli).unwrap();
    assert_eq!(cli.state, ComponentState::Failed);
    assert!(cli.detail.contains("tol: No such file"), "{}", cli.detail);
}
