//! Other programs on the same host, which browsers do not distinguish by their ports.

use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::Stdio};
use tokio::{process::Command, time::timeout};

/// What `web/e2e/real/neighbours.mjs` prints.
#[derive(Debug, Deserialize)]
struct Observed {
    /// The host name of the pages.
    host: String,
    /// The cookies that the other program received, by the host name under which it was requested.
    received: BTreeMap<String, Vec<String>>,
    /// The status of each request with the cookie.
    answers: Value,
    after_sign_out: u16,
    cookies_left: usize,
}

#[tokio::test]
async fn s05_programs_on_other_ports_receive_no_cookie_and_cannot_use_one() {
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do")]));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let link: Value = server.operator_client().unwrap().post("/api/links", json!({})).await.unwrap().parse().unwrap();
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut script = Command::new("node");
    script.arg("e2e/real/neighbours.mjs").current_dir(web).env("ANTEROOM_E2E_LINK", link["url"].as_str().unwrap());
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(2 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed: {}", String::from_utf8_lossy(&output.stderr));
    let observed: Observed = serde_json::from_slice(&output.stdout).unwrap();
    assert!(observed.host.ends_with(".localhost"), "{observed:?}");
    for name in ["127.0.0.1", "localhost"] {
        let received = &observed.received[name];
        assert!(received.len() >= 2 && received.iter().all(String::is_empty), "{name} received {received:?}");
    }
    // A program that knows the name receives the cookie, which is worth nothing without the key.
    assert!(observed.received[&observed.host].iter().any(|cookies| !cookies.is_empty()), "{observed:?}");
    let expected = json!({
        "own_browser": 200, "cookie_alone": 401, "cookie_with_guard": 401, "cookie_with_another_key": 401,
        "cookie_as_bearer": 401, "cookie_as_bearer_with_key": 401,
    });
    assert_eq!(observed.answers, expected);
    assert_eq!((observed.after_sign_out, observed.cookies_left), (401, 0));
    server.stop_and_check_leaks().await.unwrap();
}
