//! Whole sign-ins through the server's own doors, in a world of plain machines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{Plan, SOON, Script, Step, Tool, World, fake_rfb::ground_of, script::Way};
use anteroom_wire::api::Status;
use std::{fs, path::Path};

const URL: &str = "https://id.example/authorize?client=1&state=a%20b";

/// Shows an address through the browser shim, waits for the test, writes a credential.
fn signs_in(go: &str, content: &str) -> Tool {
    let go = Path::new(go).to_owned();
    Tool::new(
        "scripted",
        Script::new([
            Step::NeedTerminal,
            Step::Browser { url: URL.to_owned() },
            Step::say("Waiting for you in the browser"),
            Step::WaitFor { path: go, ms_max: 120_000 },
            Step::write(Tool::CREDENTIAL, content),
            Step::say("Login successful"),
        ]),
    )
}

/// A file outside of every world for which a script waits.
fn flag() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("go").to_string_lossy().into_owned();
    (dir, path)
}

#[tokio::test]
async fn a_person_signs_in_and_the_owner_gets_the_bytes_as_the_tool_wrote_them() {
    let (_dir, go) = flag();
    let content = "{\"token\": \"canary-1\",\n  \"unknown\" : [1, 2.50]}\n";
    let world = World::start(Plan::with(signs_in(&go, content))).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    let view = api.wait(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!((view.status, view.sign_in.url.as_deref()), (Status::Authenticating, Some(URL)));
    fs::write(&go, "").unwrap();
    let view = api.wait_status(&id, Status::Completed).await.unwrap();
    let credential = view.credential.unwrap();
    let lease = api.lease(&credential.id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), content.as_bytes());
    assert_eq!((lease.files[0].path.as_str(), lease.files[0].mode), (Tool::CREDENTIAL, 0o600));
    world.finish().await.unwrap();
}
