//! Gemini CLI.

use super::{
    Attempt,
    user::grants_on_the_desktop,
    fixture::{Browser, Fixture},
};
use anteroom_testbed::{GoogleIssuer, TestCa, google_issuer::Account};
use serde_json::json;

async fn open(browser: Browser) -> (GoogleIssuer, Fixture) {
    let ca = TestCa::new().unwrap();
    let issuer = GoogleIssuer::start(&ca, Account::Onboarded).await.unwrap();
    issuer.require_consent();
    let fixture = Fixture::open("gemini_cli", ca, "NODE_EXTRA_CA_CERTS", browser, issuer.host_overrides()).await;
    (issuer, fixture)
}

/// Browsers of Google's own make ask for more than the page.
fn strangers(issuer: &GoogleIssuer) -> Vec<String> {
    issuer.unknown_calls().into_iter().filter(|call| !call.contains("/ListAccounts")).collect()
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_by_link_and_pasted_code() {
    let (issuer, fixture) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&fixture, None).await;
    let code = fixture.user.opens(&attempt.link().await).await.text();
    attempt.asked("paste_code").await;
    assert_eq!(attempt.pastes(&code).await, json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    attempt.succeeds(&fixture, "link", || issuer.canaries()).await;
    fixture.close(strangers(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_code_typed_into_terminal() {
    let (issuer, fixture) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&fixture, None).await;
    let code = fixture.user.opens(&attempt.link().await).await.text();
    attempt.asked("paste_code").await;
    let mut terminal = attempt.api.terminal(&attempt.id).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut terminal, format!("{code}\r").as_bytes()).await.unwrap();
    attempt.succeeds(&fixture, "terminal", || issuer.canaries()).await;
    fixture.close(strangers(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_machine_browser() {
    let (issuer, fixture) = open(Browser::Believes).await;
    let attempt = Attempt::start(&fixture, Some("browser")).await;
    attempt.browser_link().await;
    grants_on_the_desktop(&attempt.api, &attempt.id, || issuer.consent_views() > 0, || issuer.codes_granted() > 0)
        .await;
    attempt.succeeds(&fixture, "desktop", || issuer.canaries()).await;
    fixture.close(strangers(&issuer)).await;
}
