//! The demo tool: its sign-in happens in the browser inside the machine, driven through the page.

use super::{arrived, browser, leased, nowhere, the_session};
use anteroom_testbed::QemuServer;
use anteroom_wire::api::Status;

#[tokio::test]
async fn journey_demo_sign_in_by_mouse_and_keyboard_through_the_page() {
    let house = QemuServer::start("", &Default::default(), true).await.unwrap();
    let page = browser(&house, "demo.mjs");
    let id = the_session(&house).await;
    arrived(page).await;
    let api = house.operator().unwrap();
    api.wait_status(&id, Status::Completed).await.unwrap();
    let files = leased(&house, &id).await;
    let written: serde_json::Value = serde_json::from_slice(files[0].content.expose()).unwrap();
    let tokens = ["access_token", "refresh_token"].map(|key| written[key].as_str().unwrap().to_owned());
    assert!(tokens[0].starts_with("demo_at_"), "the demo provider's own token");
    house.wait_machines_removed().await.unwrap();
    nowhere(&house, &id, &tokens).await;
    house.finish().await.unwrap();
}
