//! Gemini CLI.

use super::{
    Attempt,
    person::allows_on_the_desktop,
    rig::{Browser, Rig},
};
use anteroom_testbed::{GoogleIssuer, TestCa, google_issuer::Account};
use serde_json::json;

async fn open(browser: Browser) -> (GoogleIssuer, Rig) {
    let ca = TestCa::new().unwrap();
    let issuer = GoogleIssuer::start(&ca, Account::Onboarded).await.unwrap();
    issuer.require_consent();
    let rig = Rig::open("gemini_cli", ca, "NODE_EXTRA_CA_CERTS", browser, issuer.host_overrides()).await;
    (issuer, rig)
}

/// Browsers of Google's own make ask for more than the page.
fn strangers(issuer: &GoogleIssuer) -> Vec<String> {
    issuer.unknown_calls().into_iter().filter(|call| !call.contains("/ListAccounts")).collect()
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_by_a_link_and_a_pasted_code() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, None).await;
    let code = rig.person.opens(&attempt.link().await).await.text();
    attempt.asked("paste_code").await;
    assert_eq!(attempt.pastes(&code).await, json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    attempt.succeeds(&rig, "link", || issuer.canaries()).await;
    rig.close(strangers(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_a_code_typed_into_the_terminal() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, None).await;
    let code = rig.person.opens(&attempt.link().await).await.text();
    attempt.asked("paste_code").await;
    let mut terminal = attempt.api.terminal(&attempt.id).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut terminal, format!("{code}\r").as_bytes()).await.unwrap();
    attempt.succeeds(&rig, "terminal", || issuer.canaries()).await;
    rig.close(strangers(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_the_browser_of_the_machine() {
    let (issuer, rig) = open(Browser::Believes).await;
    let attempt = Attempt::start(&rig, Some("browser")).await;
    attempt.browser_link().await;
    allows_on_the_desktop(&attempt.api, &attempt.id, || issuer.consent_views() > 0, || issuer.codes_granted() > 0)
        .await;
    attempt.succeeds(&rig, "desktop", || issuer.canaries()).await;
    rig.close(strangers(&issuer)).await;
}
