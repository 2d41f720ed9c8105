//! Released tools whose sign-in ends on a page with a code, which the user pastes into the page: Claude Code and Gemini CLI in QEMU
//! machines. The user's browser reaches the stand-in issuer under the provider's host names.

use super::{assert_stored_nowhere, browser_with, lease, wait_session, wait_success};
use anteroom_testbed::{
    ClaudeIssuer, GoogleIssuer, Issuer, TestCa, TestConfig, TestServer, google_issuer::Account,
    native_cli::load_descriptor,
};
use anteroom_wire::api::SessionStatus;
use std::collections::BTreeMap;

#[tokio::test]
async fn journey_claude_code_signs_in_by_link_and_code_pasted_into_the_page() {
    let ca = TestCa::new().unwrap();
    let issuer = ClaudeIssuer::start(&ca).await.unwrap();
    signs_in("claude_code", &ca, &issuer).await;
    assert_eq!(issuer.unknown_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn journey_gemini_cli_signs_in_by_link_and_code_pasted_into_the_page() {
    let ca = TestCa::new().unwrap();
    let issuer = GoogleIssuer::start(&ca, Account::Onboarded).await.unwrap();
    signs_in("gemini_cli", &ca, &issuer).await;
    // Chromium itself sends this along with pages of this host.
    let unknown: Vec<_> =
        issuer.unknown_requests().into_iter().filter(|call| !call.contains("/ListAccounts")).collect();
    assert_eq!(unknown, Vec::<String>::new());
}

/// Signs in through the page, and checks what is stored.
async fn signs_in<P>(id: &str, ca: &TestCa, issuer: &Issuer<P>) {
    issuer.require_consent();
    let mut provider = load_descriptor(id).unwrap();
    ca.trusted_by(&mut provider, "NODE_EXTRA_CA_CERTS");
    let mut settings = toml::Table::new();
    settings.insert("providers".to_owned(), toml::Value::try_from(BTreeMap::from([(id, &provider)])).unwrap());
    let host_overrides = issuer.host_overrides();
    let hosts: Vec<_> = host_overrides.iter().map(|(host, address)| format!("{host}={address}")).collect();
    let config = TestConfig { host_overrides, ..TestConfig::qemu(&settings.to_string()) };
    let server = TestServer::start(config).await.unwrap();
    let page = browser_with(&server, &format!("{id}.mjs"), &[("ANTEROOM_E2E_HOSTS", &hosts.join(","))]);

    let session = wait_session(&server).await;
    wait_success(page).await;
    let api = server.operator_client().unwrap();
    let view = api.wait_status(&session, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential.and_then(|stored| stored.account).as_deref(), Some("ada@example.test"));
    assert_eq!(issuer.rejections(), Vec::<String>::new());
    let secrets = issuer.issued_secrets();
    let files = lease(&server, &session).await;
    let stored = String::from_utf8_lossy(files[0].content.expose());
    assert!(secrets.iter().all(|secret| stored.contains(secret)), "an issued token is not in the file");
    server.wait_machines_removed().await.unwrap();
    assert_stored_nowhere(&server, &session, &secrets).await;
    server.stop_and_check_leaks().await.unwrap();
}
