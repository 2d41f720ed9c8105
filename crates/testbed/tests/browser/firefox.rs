//! A whole sign-in on a session's page in Firefox.

use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::api::SessionStatus;
use serde::Deserialize;
use std::{path::Path, process::Stdio};
use tokio::{process::Command, time::timeout};

const LINE: &str = "é@{}[]|~€漢";

/// What `web/e2e/real/firefox.mjs` prints.
#[derive(Debug, Deserialize)]
struct Observed {
    /// How many colours the desktop's picture has, up to 64.
    colours: u32,
    heading: String,
    page_errors: Vec<String>,
}

#[tokio::test]
async fn tool_is_signed_in_on_the_sessions_page_in_firefox() {
    let credential = Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"{line}\"}");
    let script = Script::new([Step::print_line("Type the word:"), Step::ReadLine, credential]);
    let provider = ScriptedProvider::new("scripted", script)
        .with_descriptor_key("lanes", serde_json::json!(["link", "desktop", "terminal"]));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let started = api.start_session("scripted").await.unwrap();
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut script = Command::new("node");
    script.arg("e2e/real/firefox.mjs").current_dir(web);
    script.env("ANTEROOM_E2E_LINK", &started.viewer_url).env("ANTEROOM_E2E_LINE", LINE);
    let script = script.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = timeout(2 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed; its error is above");
    let observed: Observed = serde_json::from_slice(&output.stdout).unwrap();
    assert!(observed.colours > 0, "{observed:?}");
    assert_eq!((observed.heading.as_str(), observed.page_errors), ("Connected", vec![]));
    let view = api.wait_status(&started.session.id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), format!("{{\"token\": \"{LINE}\"}}").as_bytes());
    server.stop_and_check_leaks().await.unwrap();
}
