//! The demo tool, whose sign-in happens in the machine's browser, operated through the page.

use super::{assert_stored_nowhere, browser, lease, wait_session, wait_success};
use anteroom_testbed::{TestConfig, TestServer};
use anteroom_wire::api::SessionStatus;

#[tokio::test]
async fn journey_demo_sign_in_by_mouse_and_keyboard_through_the_page() {
    let config = TestConfig { demo: true, ..TestConfig::qemu("") };
    let server = TestServer::start(config).await.unwrap();
    let page = browser(&server, "demo.mjs");
    let id = wait_session(&server).await;
    wait_success(page).await;
    let api = server.operator_client().unwrap();
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let files = lease(&server, &id).await;
    let written: serde_json::Value = serde_json::from_slice(files[0].content.expose()).unwrap();
    let tokens = ["access_token", "refresh_token"].map(|key| written[key].as_str().unwrap().to_owned());
    assert!(tokens[0].starts_with("demo_at_"), "a token of the demo provider");
    server.wait_machines_removed().await.unwrap();
    assert_stored_nowhere(&server, &id, &tokens).await;
    server.stop_and_check_leaks().await.unwrap();
}
