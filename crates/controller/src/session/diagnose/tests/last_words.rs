//! Tools whose own words name the cause.

use super::*;
use crate::{config::Config, providers::Providers};

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

/// Codes that are no longer valid, accounts that are refused, certificates that are not accepted.
fn rows_of_words() -> Vec<Row> {
    let denied = || Case::running().egress_failed("ads.example", Problem::EgressDenied);
    vec![
        ("an expired code", said("error: expired_token"), Verdict::CodeExpired),
        ("an expired code in words", said("Your device code has expired, try again"), Verdict::CodeExpired),
        ("an expired code, reported by a tool that runs on", reported("the code expired"), Verdict::CodeExpired),
        (
            "a code that was used",
            said("Token exchange failed: status 400 Bad Request: invalid_grant"),
            Verdict::CodeExpired,
        ),
        ("a page without an answer", said("Authorization timed out after 5 minutes."), Verdict::CodeExpired),
        ("an expired code in the descriptor's words", said("device auth failed with status 400"), Verdict::CodeExpired),
        ("an account without the plan", said("Your account is not eligible for the tool"), Verdict::AccountRefused),
        ("an account, reported by a tool that runs on", reported("this user is not entitled"), Verdict::AccountRefused),
        (
            "an account, after a name was denied",
            denied().exited(1, &["the account is not eligible"]),
            Verdict::AccountRefused,
        ),
        ("an authority in OpenSSL's words", said("unable to get local issuer certificate"), Verdict::UnknownAuthority),
        ("… in Node's", said("Error: SELF_SIGNED_CERT_IN_CHAIN"), Verdict::UnknownAuthority),
        ("… in rustls's", said("invalid peer certificate: UnknownIssuer"), Verdict::UnknownAuthority),
        (
            "… in Go's",
            said("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
            Verdict::UnknownAuthority,
        ),
        (
            "… and a tool that runs on",
            reported("self-signed certificate in certificate chain"),
            Verdict::UnknownAuthority,
        ),
        ("a certificate of tomorrow", said("certificate is not yet valid"), Verdict::CertificateNotValidNow),
        ("a certificate of yesterday", said("Error: CERT_HAS_EXPIRED"), Verdict::CertificateNotValidNow),
        (
            "a certificate of yesterday, in Go's words",
            said("tls: failed to verify certificate: x509: certificate has expired or is not yet valid"),
            Verdict::CertificateNotValidNow,
        ),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let denied = || Case::running().egress_failed("ads.example", Problem::EgressDenied);
    let mut rows = vec![
        ("OAuth's code", said("login failed: access_denied"), Verdict::SignInDeclined),
        ("the descriptor's words", said("anteroom-demo: the sign-in was denied: no"), Verdict::SignInDeclined),
        ("declined, reported by a tool that runs on", reported("access_denied"), Verdict::SignInDeclined),
        ("declined after a name was denied", denied().exited(1, &["access_denied"]), Verdict::SignInDeclined),
        (
            "declined, then another address",
            reported("access_denied").entry(TimelineKind::SignInUrl, json!({})),
            Verdict::WaitingForUser,
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
    ];
    rows.extend(rows_of_words());
    rows
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

/// What released tools print, from their screens and from the texts in their programs.
const RELEASED: [(&str, &str, Verdict); 14] = [
    ("codex", "Error logging in: device auth failed with status 400 Bad Request", Verdict::CodeExpired),
    ("codex", "Error logging in: device auth timed out after 15 minutes", Verdict::CodeExpired),
    (
        "codex",
        "Error logging in: Token exchange failed: token endpoint returned status 400 Bad Request: invalid_grant",
        Verdict::CodeExpired,
    ),
    ("codex", "Error logging in: Login is restricted to workspace id(s) org-1", Verdict::AccountRefused),
    ("codex", "Error logging in: Codex is not enabled for your workspace.", Verdict::AccountRefused),
    ("codex", "Error logging in: device auth failed with status 500 Internal Server Error", Verdict::CliFailed),
    (
        "claude_code",
        "Couldn't log in: That code wasn't accepted. It may be incomplete, expired, already used, or from an earlier sign-in attempt.",
        Verdict::CodeExpired,
    ),
    ("claude_code", "Couldn't log in: OAuth error: access_denied", Verdict::SignInDeclined),
    ("claude_code", "Couldn't log in: self signed certificate in certificate chain", Verdict::UnknownAuthority),
    ("gemini_cli", "Failed to authenticate with authorization code: invalid_grant", Verdict::CodeExpired),
    ("gemini_cli", "Failed to sign in. Message: Authorization timed out after 5 minutes.", Verdict::CodeExpired),
    ("gemini_cli", "Your current account is not eligible for Gemini Code Assist", Verdict::AccountRefused),
    (
        "github_cli",
        "failed to authenticate via web browser: This 'device_code' has expired. (expired_token)",
        Verdict::CodeExpired,
    ),
    (
        "github_cli",
        "failed to authenticate via web browser: The authorization request was denied. (access_denied)",
        Verdict::SignInDeclined,
    ),
];

#[test]
fn words_of_released_tools_name_their_cause() {
    let providers = Providers::load(&Config::default()).unwrap();
    for (provider, line, verdict) in RELEASED {
        let words = ToolWords::of(providers.get(&provider.parse().unwrap()).unwrap());
        let exited = said(line);
        let found = exited.diagnosis_with(words.clone());
        assert_eq!(found.verdict, verdict, "{provider}, exited: {line}");
        // A report without a cause is no fault as long as the tool runs.
        let running = if verdict == Verdict::CliFailed { Verdict::WaitingForUser } else { verdict };
        assert_eq!(reported(line).diagnosis_with(words).verdict, running, "{provider}, runs on: {line}");
    }
}

#[test]
fn proxy_of_the_environment_that_is_not_used_is_named() {
    let case = Case::running().egress_failed("login.example", Problem::EgressUnreachable);
    for case in [case.exited(1, &[]), Case::running().egress_failed("login.example", Problem::EgressTimeout)] {
        let mut input = case.input(ToolWords::default());
        assert!(!evaluate(&input).sentence.contains("HTTPS_PROXY"));
        input.unused_proxy_variable = Some("HTTPS_PROXY");
        let found = evaluate(&input);
        assert_eq!(found.verdict, Verdict::EgressUnreachable);
        assert!(found.sentence.contains("HTTPS_PROXY in this server's environment"), "{}", found.sentence);
    }
}
