//! Another machine: the stored credential is laid down there and the tool itself is asked.

use super::fixture::Fixture;
use anteroom_testbed::ApiClient;
use anteroom_wire::{
    CredentialId, SessionId,
    agent::UsePurpose,
    api::{ScreenView, StartResponse, Status},
};
use regex_lite::Regex;
use serde_json::json;

/// As its owner would use it: the setting that says which way of signing in counts comes with the use.
const GEMINI: [&str; 1] = ["gemini"];
/// What Gemini CLI shows once it is signed in; it has no command that tells.
const GEMINI_PROMPT: &str = "Type your message";

/// Asks the tool in other machines whether it is signed in with this credential; what it said, for the document.
pub(crate) async fn agrees(fixture: &Fixture, api: &ApiClient, credential: &CredentialId) -> &'static str {
    if fixture.provider.credential.status_argv.is_empty() {
        at_its_prompt(api, credential).await;
        return "at its prompt, asks nobody to sign in";
    }
    checked(api, credential).await;
    fixture.server.wait_machines_removed().await.unwrap();
    executed(fixture, credential).await;
    "its status command says signed in"
}

async fn used(api: &ApiClient, credential: &CredentialId, purpose: UsePurpose, argv: &[&str]) -> SessionId {
    let wanted = json!({ "purpose": purpose, "argv": argv });
    let answer = api.post(&format!("/api/credentials/{credential}/use"), wanted).await;
    answer.unwrap().read::<StartResponse>().unwrap().session.id
}

/// As the server asks by itself.
async fn checked(api: &ApiClient, credential: &CredentialId) {
    let id = used(api, credential, UsePurpose::Check, &[]).await;
    let view = api.wait_until(&id, "over", |view| view.status.is_terminal()).await.unwrap();
    assert_eq!(view.status, Status::Completed, "{view:#?}");
    let checked = api.wait_entry(&id, "credential_checked").await.unwrap();
    assert_eq!(checked.data["signed_in"], true, "{checked:#?}");
}

/// As a user asks at the command line: by the tool's own command, whose words and exit code come back.
async fn executed(fixture: &Fixture, credential: &CredentialId) {
    let rules = &fixture.provider.credential;
    let mut line = vec!["exec", "--credential", credential.as_str(), "--"];
    line.extend(rules.status_argv.iter().map(String::as_str));
    let said = fixture.server.run_anteroom(&line).await.unwrap();
    let wanted = Regex::new(rules.status_matches.as_deref().expect("words that say so")).unwrap();
    assert!(wanted.is_match(&said), "{line:?}: {said}");
}

/// A tool without such a command stays at its prompt: what it shows there is its word.
async fn at_its_prompt(api: &ApiClient, credential: &CredentialId) {
    let id = used(api, credential, UsePurpose::Exec, &GEMINI).await;
    let until = tokio::time::Instant::now() + anteroom_testbed::qemu_server::QEMU_WAIT_MAX;
    let mut last = String::new();
    loop {
        let answer = api.get(&format!("/api/auth/session/{id}/screen")).await.unwrap();
        let lines = answer.read::<ScreenView>().map(|screen| screen.lines.join("\n")).unwrap_or_default();
        if lines.contains(GEMINI_PROMPT) {
            break;
        }
        if !lines.trim().is_empty() {
            last = lines;
        }
        let over = api.session(&id).await.unwrap().status.is_terminal() || tokio::time::Instant::now() > until;
        assert!(!over, "it is not at its prompt: {} {}; its last screen:\n{last}", answer.status, answer.text);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    api.cancel(&id).await.unwrap();
}
