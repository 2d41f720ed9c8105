//! The contract with Claude Code.

use super::{
    SignIn,
    fixture::{Browser, Fixture},
    second_machine::verify_claude_prompt,
    user::grants_on_the_desktop,
};
use anteroom_testbed::{ClaudeIssuer, TestCa};
use anteroom_wire::api::SessionStatus;
use serde_json::json;

async fn open(browser: Browser) -> (ClaudeIssuer, Fixture) {
    let ca = TestCa::new().unwrap();
    let issuer = ClaudeIssuer::start(&ca).await.unwrap();
    issuer.require_consent();
    let fixture = Fixture::open("claude_code", ca, "NODE_EXTRA_CA_CERTS", browser, issuer.host_overrides()).await;
    (issuer, fixture)
}

#[tokio::test]
async fn qemu_claude_code_signs_in_by_link_and_pasted_code() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let link = sign_in.link().await;
    assert!(
        link.contains("redirect_uri=https%3A%2F%2Fplatform.claude.com"),
        "the link leads to a page with a code: {link}"
    );
    let code = fixture.user.open(&link).await.text();
    sign_in.wait_prompt("paste_code").await;
    assert_eq!(sign_in.paste(&code).await, json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    let completed = sign_in.wait("completed", |view| view.status == SessionStatus::Completed).await;
    assert_eq!(completed.credential.unwrap().account.as_deref(), Some("ada@example.test"));
    sign_in.succeeds(&fixture, "link", || issuer.issued_secrets()).await;
    assert_eq!(issuer.rejections(), Vec::<String>::new());
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_claude_code_signs_in_by_pasted_callback_url() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let ended = fixture.user.open(&sign_in.browser_link().await).await.address();
    assert!(ended.starts_with("http://localhost:"), "{ended}");
    assert_eq!(sign_in.paste(&ended).await["interpreted_as"], "callback");
    sign_in.succeeds(&fixture, "link, address pasted back", || issuer.issued_secrets()).await;
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_r28_claude_begins_at_its_prompt_with_a_stored_credential() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let ended = fixture.user.open(&sign_in.browser_link().await).await.address();
    sign_in.paste(&ended).await;
    let completed = sign_in.wait("completed", |view| view.status == SessionStatus::Completed).await;
    fixture.server.wait_machines_removed().await.unwrap();
    verify_claude_prompt(&sign_in.api, &completed.credential.unwrap().id).await;
    // At its prompt the tool asks for more than a sign-in does.
    drop(issuer.unknown_requests());
    fixture.close(Vec::new()).await;
}

#[tokio::test]
async fn qemu_claude_code_signs_in_with_machine_browser() {
    let (issuer, fixture) = open(Browser::TrustsTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    sign_in.browser_link().await;
    grants_on_the_desktop(
        &sign_in.api,
        &sign_in.id,
        || issuer.consent_view_count() > 0,
        || issuer.issued_code_count() > 0,
    )
    .await;
    sign_in.succeeds(&fixture, "desktop", || issuer.issued_secrets()).await;
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_sign_in_across_link_terminal_and_desktop_uses_one_process() {
    let (issuer, fixture) = open(Browser::TrustsTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    // Link: the user gets a code in the browser outside of the machine, and copies half of it.
    let code = fixture.user.open(&sign_in.link().await).await.text();
    sign_in.wait_prompt("paste_code").await;
    let granted = issuer.issued_code_count();
    // Terminal: the user types that half at the tool's prompt, which rejects it.
    let mut terminal = sign_in.api.open_terminal_socket(&sign_in.id).await.unwrap();
    terminal.send_text("{\"type\":\"resize\",\"cols\":120,\"rows\":40}").await.unwrap();
    let half = code.split('#').next().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut terminal, format!("{half}\r").as_bytes()).await.unwrap();
    let rejected = |view: &anteroom_wire::api::SessionView| {
        view.sign_in
            .prompt
            .as_ref()
            .and_then(|open| open.rejection.as_deref())
            .is_some_and(|why| why.contains("full code"))
    };
    sign_in.wait("rejected with the tool's message", rejected).await;
    // Desktop: the tool has opened the page in the machine's browser at its start.
    grants_on_the_desktop(
        &sign_in.api,
        &sign_in.id,
        || issuer.consent_view_count() > 0,
        || issuer.issued_code_count() > granted,
    )
    .await;
    sign_in.wait("completed", |view| view.status == anteroom_wire::api::SessionStatus::Completed).await;
    assert_eq!(
        fixture.reporter.processes().len(),
        1,
        "one process for the whole sign-in: {:?}",
        fixture.reporter.all()
    );
    sign_in.succeeds(&fixture, "link, then terminal, then desktop", || issuer.issued_secrets()).await;
    fixture.close(issuer.unknown_requests()).await;
}
