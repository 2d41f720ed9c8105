//! Claude Code.

use super::{
    Attempt,
    person::allows_on_the_desktop,
    rig::{Browser, Rig},
};
use anteroom_testbed::{ClaudeIssuer, TestCa};
use serde_json::json;

async fn open(browser: Browser) -> (ClaudeIssuer, Rig) {
    let ca = TestCa::new().unwrap();
    let issuer = ClaudeIssuer::start(&ca).await.unwrap();
    issuer.require_consent();
    let rig = Rig::open("claude_code", ca, "NODE_EXTRA_CA_CERTS", browser, issuer.host_overrides()).await;
    (issuer, rig)
}

#[tokio::test]
async fn qemu_claude_code_signs_in_by_a_link_and_a_pasted_code() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, None).await;
    let link = attempt.link().await;
    assert!(link.contains("redirect_uri=https%3A%2F%2Fplatform.claude.com"), "it leads to a page with a code: {link}");
    let code = rig.person.opens(&link).await.text();
    attempt.asked("paste_code").await;
    assert_eq!(attempt.pastes(&code).await, json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    attempt.succeeds(&rig, "link", || issuer.canaries()).await;
    assert_eq!(issuer.rejections(), Vec::<String>::new());
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_claude_code_signs_in_by_the_address_at_which_the_persons_browser_ended() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, None).await;
    let ended = rig.person.opens(&attempt.browser_link().await).await.address();
    assert!(ended.starts_with("http://localhost:"), "{ended}");
    assert_eq!(attempt.pastes(&ended).await["interpreted_as"], "callback");
    attempt.succeeds(&rig, "link, address pasted back", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_claude_code_signs_in_with_the_browser_of_the_machine() {
    let (issuer, rig) = open(Browser::Believes).await;
    let attempt = Attempt::start(&rig, None).await;
    attempt.browser_link().await;
    allows_on_the_desktop(&attempt.api, &attempt.id, || issuer.consent_views() > 0, || issuer.codes_granted() > 0)
        .await;
    attempt.succeeds(&rig, "desktop", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_the_same_sign_in_started_by_link_moved_to_the_terminal_and_finished_on_the_desktop_is_one_process() {
    let (issuer, rig) = open(Browser::Believes).await;
    let attempt = Attempt::start(&rig, None).await;
    // Link: the person gets a code in their own browser, and copies half of it.
    let code = rig.person.opens(&attempt.link().await).await.text();
    attempt.asked("paste_code").await;
    let granted = issuer.codes_granted();
    // Terminal: they type it at the tool's own prompt, which does not take it.
    let mut terminal = attempt.api.terminal(&attempt.id).await.unwrap();
    terminal.send_text("{\"type\":\"resize\",\"cols\":120,\"rows\":40}").await.unwrap();
    let half = code.split('#').next().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut terminal, format!("{half}\r").as_bytes()).await.unwrap();
    let refused = |view: &anteroom_wire::api::SessionView| {
        view.sign_in
            .prompt
            .as_ref()
            .and_then(|open| open.rejected.as_deref())
            .is_some_and(|why| why.contains("full code"))
    };
    attempt.wait("refused in the tool's own words", refused).await;
    // Desktop: the page is there already, since the tool's first word.
    allows_on_the_desktop(
        &attempt.api,
        &attempt.id,
        || issuer.consent_views() > 0,
        || issuer.codes_granted() > granted,
    )
    .await;
    attempt.wait("completed", |view| view.status == anteroom_wire::api::Status::Completed).await;
    assert_eq!(rig.reports.processes().len(), 1, "one process throughout: {:?}", rig.reports.all());
    attempt.succeeds(&rig, "link, then terminal, then desktop", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}
