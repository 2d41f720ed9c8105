//! The contract with Codex.

use super::{
    SignIn,
    fixture::{Browser, Fixture},
    user::grants_on_the_desktop,
};
use anteroom_testbed::{CodexIssuer, QEMU_WAIT_TIMEOUT, TestCa, codex_issuer::DeviceCodeApproval, eventually};

async fn open(browser: Browser) -> (CodexIssuer, Fixture) {
    let ca = TestCa::new().unwrap();
    let issuer = CodexIssuer::start_tls(&ca, DeviceCodeApproval::OnCommand).await.unwrap();
    issuer.require_consent();
    let fixture = Fixture::open("codex", ca, "CODEX_CA_CERTIFICATE", browser, issuer.host_overrides()).await;
    (issuer, fixture)
}

#[tokio::test]
async fn qemu_codex_signs_in_by_device_code() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, None).await;
    let shown = sign_in.wait("showing a device code", |view| view.sign_in.device_code.is_some()).await.sign_in;
    assert_eq!(shown.device_code, Some(issuer.user_code()));
    assert_eq!(shown.url.as_deref(), Some("https://auth.openai.com/codex/device"));
    issuer.approve_device_code();
    sign_in.succeeds(&fixture, "device code", || issuer.issued_secrets()).await;
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_with_machine_browser() {
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
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn r40_qemu_machine_browser_does_not_show_pages_that_a_program_drives_it() {
    let (issuer, fixture) = open(Browser::TrustsTestCa).await;
    let sign_in = SignIn::start(&fixture, Some("browser")).await;
    sign_in.browser_link().await;
    let is_shown = async || Ok((issuer.consent_view_count() > 0).then_some(()));
    eventually("a browser that is not driven shows the page", QEMU_WAIT_TIMEOUT, is_shown).await.unwrap();
    sign_in.api.cancel_session(&sign_in.id).await.unwrap();
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_by_pasted_callback_url() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, Some("browser")).await;
    let ended = fixture.user.open(&sign_in.link().await).await.address();
    assert!(ended.contains(":1455/auth/callback?"), "{ended}");
    assert_eq!(sign_in.paste(&ended).await["interpreted_as"], "callback");
    sign_in.succeeds(&fixture, "link, address pasted back", || issuer.issued_secrets()).await;
    fixture.close(issuer.unknown_requests()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_with_api_key() {
    let (issuer, fixture) = open(Browser::WithoutTestCa).await;
    let sign_in = SignIn::start(&fixture, Some("api_key")).await;
    sign_in.wait_prompt("key_entry").await;
    let key = "sk-contract-0123456789abcdefghijklmnopqrstuvwxyz".to_owned();
    assert_eq!(sign_in.paste(&key).await["interpreted_as"], "stdin");
    sign_in.succeeds(&fixture, "key", || vec![key.clone()]).await;
    fixture.close(issuer.unknown_requests()).await;
}
