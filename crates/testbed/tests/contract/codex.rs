//! Codex.

use super::{
    Attempt,
    person::allows_on_the_desktop,
    rig::{Browser, Rig},
};
use anteroom_testbed::{CodexIssuer, TestCa, codex_issuer::Approval};

async fn open(browser: Browser) -> (CodexIssuer, Rig) {
    let ca = TestCa::new().unwrap();
    let issuer = CodexIssuer::start_tls(&ca, Approval::OnCommand).await.unwrap();
    issuer.require_consent();
    let rig = Rig::open("codex", ca, "CODEX_CA_CERTIFICATE", browser, issuer.host_overrides()).await;
    (issuer, rig)
}

#[tokio::test]
async fn qemu_codex_signs_in_by_device_code() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, None).await;
    let shown = attempt.wait("at a device code", |view| view.sign_in.device_code.is_some()).await.sign_in;
    assert_eq!(shown.device_code, Some(issuer.user_code()));
    assert_eq!(shown.url.as_deref(), Some("https://auth.openai.com/codex/device"));
    issuer.approve();
    attempt.succeeds(&rig, "device code", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_with_the_browser_of_the_machine() {
    let (issuer, rig) = open(Browser::Believes).await;
    let attempt = Attempt::start(&rig, Some("browser")).await;
    attempt.browser_link().await;
    allows_on_the_desktop(&attempt.api, &attempt.id, || issuer.consent_views() > 0, || issuer.codes_granted() > 0)
        .await;
    attempt.succeeds(&rig, "desktop", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_by_the_address_at_which_the_persons_browser_ended() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, Some("browser")).await;
    let ended = rig.person.opens(&attempt.link().await).await.address();
    assert!(ended.contains(":1455/auth/callback?"), "{ended}");
    assert_eq!(attempt.pastes(&ended).await["interpreted_as"], "callback");
    attempt.succeeds(&rig, "link, address pasted back", || issuer.canaries()).await;
    rig.close(issuer.unknown_calls()).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_with_an_api_key() {
    let (issuer, rig) = open(Browser::DoesNot).await;
    let attempt = Attempt::start(&rig, Some("api_key")).await;
    attempt.asked("key_entry").await;
    let key = "sk-contract-0123456789abcdefghijklmnopqrstuvwxyz".to_owned();
    assert_eq!(attempt.pastes(&key).await["interpreted_as"], "stdin");
    attempt.succeeds(&rig, "key", || vec![key.clone()]).await;
    rig.close(issuer.unknown_calls()).await;
}
