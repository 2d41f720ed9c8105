//! A helper in a second browser: the person sees the helper come and ends the access on the session's page.

use crate::start_session;
use anteroom_testbed::WAIT_MAX;
use serde::Deserialize;
use std::{path::Path, process::Stdio};
use tokio::{process::Command, time::timeout};

/// What `web/e2e/real/helpers.mjs` prints.
#[derive(Debug, Deserialize)]
struct Observed {
    /// The helper's row on the person's page.
    listed: String,
    /// What a screen reader gets.
    announced: String,
    helper_sees: HelperSees,
    /// The time from the person's click until the helper's page showed that the access was ended.
    ended_after_ms: u64,
    helper_title: String,
}

/// The parts of the person's page on the helper's page.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct HelperSees {
    list: u32,
    controls: u32,
}

#[tokio::test]
async fn helper_is_invited_seen_and_ended_on_the_sessions_page() {
    let (_dir, server, _, link) = start_session("").await;
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut script = Command::new("node");
    script.arg("e2e/real/helpers.mjs").current_dir(web).env("ANTEROOM_E2E_LINK", &link);
    let script = script.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = timeout(2 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed; its error is above");
    let observed: Observed = serde_json::from_slice(&output.stdout).unwrap();
    println!("the helper's page showed the end {} ms after the click", observed.ended_after_ms);
    assert!(observed.listed.contains("Grace") && observed.listed.contains("Watching now"), "{observed:?}");
    assert_eq!(observed.announced, "Grace is watching.");
    assert_eq!(observed.helper_sees, HelperSees { list: 0, controls: 0 });
    assert_eq!(observed.helper_title, "You are not watching any more");
    server.stop_and_check_leaks().await.unwrap();
}
