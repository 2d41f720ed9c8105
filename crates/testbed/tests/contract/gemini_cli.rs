//! The contract with Gemini CLI.

use super::{
    SignIn,
    fixture::{Browser, Fixture},
    user::grants_on_the_desktop,
};
use anteroom_testbed::{GoogleIssuer, TestCa, google_issuer::Account};
use anteroom_wire::situation::Situation;
use serde_json::json;

async fn open(browser: Browser) -> (GoogleIssuer, Fixture) {
    open_for(Account::Onboarded, browser).await
}

async fn open_for(account: Account, browser: Browser) -> (GoogleIssuer, Fixture) {
    let ca = TestCa::new().unwrap();
    let issuer = GoogleIssuer::start(&ca, account).await.unwrap();
    issuer.require_consent();
    let fixture = Fixture::open("gemini_cli", ca, "NODE_EXTRA_CA_CERTS", browser, issuer.host_overrides()).await;
    (issuer, fixture)
}

/// The unknown requests, without those that Google's browsers send along with the page.
fn unknown_calls(issuer: &GoogleIssuer) -> Vec<String> {
    issuer.unknown_requests().into_iter().filter(|call| !call.contains("/ListAccounts")).collect()
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_by_link_and_pasted_code() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let code = fixture.user.open(&sign_in.link().await).await.text();
    sign_in.wait_prompt("paste_code").await;
    assert_eq!(sign_in.paste(&code).await, json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    sign_in.succeeds(&fixture, "link", || issuer.issued_secrets()).await;
    fixture.close(unknown_calls(&issuer)).await;
}

#[tokio::test]
async fn r07_qemu_gemini_cli_is_connected_only_after_an_organisation_account_got_its_project() {
    let (issuer, fixture) = open_for(Account::Workspace, Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let code = fixture.user.open(&sign_in.link().await).await.text();
    sign_in.wait_prompt("paste_code").await;
    sign_in.paste(&code).await;
    sign_in.wait_prompt("google_cloud_project").await;
    let view = sign_in.api.get_session(&sign_in.id).await.unwrap();
    let refusal = view.sign_in.failed.expect("the reason of the tool");
    assert!(refusal.starts_with("This account requires setting the GOOGLE_CLOUD_PROJECT"), "{refusal}");
    assert_eq!((view.for_person.situation, view.credential), (Situation::SettingNeeded, None));
    let given = sign_in.paste("my-project-123").await;
    assert_eq!(given, json!({ "interpreted_as": "setting", "id": "google_cloud_project" }));
    sign_in.succeeds(&fixture, "link, then the id of a project", || issuer.issued_secrets()).await;
    fixture.close(unknown_calls(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_code_typed_into_terminal() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let code = fixture.user.open(&sign_in.link().await).await.text();
    sign_in.wait_prompt("paste_code").await;
    let mut terminal = sign_in.api.open_terminal_socket(&sign_in.id).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut terminal, format!("{code}\r").as_bytes()).await.unwrap();
    sign_in.succeeds(&fixture, "terminal", || issuer.issued_secrets()).await;
    fixture.close(unknown_calls(&issuer)).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_with_machine_browser() {
    let (issuer, fixture) = open(Browser::TrustsTestCa).await;
    let sign_in = SignIn::start(&fixture, Some("browser")).await;
    sign_in.browser_link().await;
    grants_on_the_desktop(
        &sign_in.api,
        &sign_in.id,
        || issuer.consent_view_count() > 0,
        || issuer.issued_code_count() > 0,
    )
    .await;
    sign_in.succeeds(&fixture, "desktop", || issuer.issued_secrets()).await;
    fixture.close(unknown_calls(&issuer)).await;
}
