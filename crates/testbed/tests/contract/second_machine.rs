//! A second machine, where the stored credential is installed and the tool reports whether it is signed in.

use super::fixture::Fixture;
use anteroom_testbed::{ApiClient, QEMU_WAIT_TIMEOUT};
use anteroom_wire::{
    CredentialId, SessionId, TimelineKind,
    agent::UsePurpose,
    api::{ScreenView, SessionStatus, StartResponse},
};
use regex_lite::Regex;
use serde_json::json;
use std::process::Stdio;
use tokio::time::timeout;

/// Gemini CLI without arguments. The credential use installs the setting that selects its sign-in method.
const GEMINI: [&str; 1] = ["gemini"];
/// The prompt of Gemini CLI once it is signed in. It has no status command.
const GEMINI_PROMPT: &str = "Type your message";

/// Checks in other machines that the tool is signed in with this credential; returns the result for the document.
pub(crate) async fn verify(fixture: &Fixture, api: &ApiClient, credential: &CredentialId) -> &'static str {
    if fixture.provider.credential.status_argv.is_empty() {
        verify_prompt(api, credential).await;
        return "shows its prompt, requires no sign-in";
    }
    verify_by_check(api, credential).await;
    fixture.server.wait_machines_removed().await.unwrap();
    verify_by_exec(fixture, credential).await;
    "its status command reports signed in"
}

async fn start_use(api: &ApiClient, credential: &CredentialId, purpose: UsePurpose, argv: &[&str]) -> SessionId {
    let request = json!({ "purpose": purpose, "argv": argv });
    let response = api.post(&format!("/api/credentials/{credential}/use"), request).await;
    response.unwrap().parse::<StartResponse>().unwrap().session.id
}

/// Runs a credential check, as the server does periodically.
async fn verify_by_check(api: &ApiClient, credential: &CredentialId) {
    let id = start_use(api, credential, UsePurpose::Check, &[]).await;
    let view = api.wait_until(&id, "ended", |view| view.status.is_ended()).await.unwrap();
    assert_eq!(view.status, SessionStatus::Completed, "{view:#?}");
    let checked = api.wait_entry(&id, TimelineKind::CredentialChecked).await.unwrap();
    assert_eq!(checked.data["signed_in"], true, "{checked:#?}");
}

/// Runs the tool's status command by `anteroom exec`, which returns its output and exit code.
async fn verify_by_exec(fixture: &Fixture, credential: &CredentialId) {
    let rules = &fixture.provider.credential;
    let mut line = vec!["exec", "--credential", credential.as_str(), "--"];
    line.extend(rules.status_argv.iter().map(String::as_str));
    let mut command = fixture.server.anteroom_command().unwrap();
    let output = timeout(QEMU_WAIT_TIMEOUT, command.args(&line).stdin(Stdio::null()).output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{line:?}: {output:?}");
    // Codex prints its status as an error message.
    let output = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let wanted = Regex::new(rules.status_matches.as_deref().expect("a pattern for the status output")).unwrap();
    assert!(wanted.is_match(&output), "{line:?}: {output}");
}

/// Checks that a tool without a status command shows its prompt.
async fn verify_prompt(api: &ApiClient, credential: &CredentialId) {
    let screen = wait_screen(api, credential, &GEMINI, GEMINI_PROMPT).await;
    assert!(!screen.is_empty());
}

/// Checks that Claude Code shows its prompt, without the dialogs of its first start.
pub(crate) async fn verify_claude_prompt(api: &ApiClient, credential: &CredentialId) {
    let screen = wait_screen(api, credential, &["claude"], "❯").await;
    for dialog in ["get started", "text style", "Select login method", "Do you trust"] {
        assert!(!screen.contains(dialog), "{dialog}:\n{screen}");
    }
    assert!(screen.contains("Claude Code v") && screen.lines().any(|line| line.trim() == "❯"), "{screen}");
}

/// Runs the command until its screen has this text; returns the screen, and ends the command.
async fn wait_screen(api: &ApiClient, credential: &CredentialId, argv: &[&str], expected: &str) -> String {
    let id = start_use(api, credential, UsePurpose::Exec, argv).await;
    let deadline = tokio::time::Instant::now() + anteroom_testbed::QEMU_WAIT_TIMEOUT;
    let mut last = String::new();
    loop {
        let answer = api.get(&format!("/api/auth/session/{id}/screen")).await.unwrap();
        let lines = answer.parse::<ScreenView>().map(|screen| screen.lines.join("\n")).unwrap_or_default();
        if lines.contains(expected) {
            api.cancel_session(&id).await.unwrap();
            return lines;
        }
        if !lines.trim().is_empty() {
            last = lines;
        }
        let ended = api.get_session(&id).await.unwrap().status.is_ended() || tokio::time::Instant::now() > deadline;
        assert!(!ended, "the tool shows no prompt: {} {}; its last screen:\n{last}", answer.status, answer.text);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
