//! A second machine: the stored credential is laid down there and the tool itself is asked.

use super::rig::Rig;
use anteroom_testbed::Api;
use anteroom_wire::{
    CredentialId,
    agent::UsePurpose,
    api::{ScreenView, Started, Status},
};
use serde_json::json;

/// As its owner would use it: the setting that says which way of signing in counts comes with the use.
const GEMINI: [&str; 1] = ["gemini"];
/// What Gemini CLI shows once it is signed in; it has no command that tells.
const GEMINI_PROMPT: &str = "Type your message";

/// Asks the tool in another machine whether it is signed in with this credential; what it said, for the document.
pub(crate) async fn agrees(rig: &Rig, api: &Api, credential: &CredentialId) -> &'static str {
    let asks = !rig.provider.credential.status_argv.is_empty();
    let (purpose, argv) = if asks { (UsePurpose::Check, &[][..]) } else { (UsePurpose::Exec, &GEMINI[..]) };
    let answer =
        api.post(&format!("/api/credentials/{credential}/use"), json!({ "purpose": purpose, "argv": argv })).await;
    let id = answer.unwrap().read::<Started>().unwrap().session.id;
    if asks {
        let view = api.wait(&id, "over", |view| view.status.is_terminal()).await.unwrap();
        assert_eq!(view.status, Status::Completed, "{view:#?}");
        let checked = api.wait_entry(&id, "credential_checked").await.unwrap();
        assert_eq!(checked.data["agrees"], true, "{checked:#?}");
        return "its status command says signed in";
    }
    // It stays at its prompt: what it shows there is its word.
    let until = tokio::time::Instant::now() + anteroom_testbed::house::LONG;
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
    "at its prompt, asks nobody to sign in"
}
