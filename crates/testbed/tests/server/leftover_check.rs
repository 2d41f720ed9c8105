//! The harness itself: a world that leaves something behind fails its test.

use crate::Scene;
use anteroom_testbed::{TestConfig, Script, Step, TestServer, plain_process::built_program};
use std::process::Stdio;
use tokio::process::Command;

#[tokio::test]
async fn leftover_process_fails_the_finish_of_the_test_server() {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(scene.idle_tool())).await.unwrap();
    let script = scene.flag("script.json");
    Script::new([Step::Pause { ms: 600_000 }]).save(&script).unwrap();
    let mut forgotten = Command::new(built_program("anteroom-testbed").unwrap());
    forgotten.arg("tool").arg(script).current_dir(world.path()).stdin(Stdio::null()).kill_on_drop(true);
    let mut forgotten = forgotten.spawn().unwrap();
    let left = format!("{:#}", world.finish().await.unwrap_err());
    assert!(left.contains("processes are left"), "{left}");
    assert!(!forgotten.wait().await.unwrap().success(), "and it was ended");
}

#[tokio::test]
#[should_panic(expected = "a world must be finished")]
async fn test_server_dropped_without_finish_panics() {
    let scene = Scene::new();
    drop(TestServer::start(TestConfig::with_tool(scene.idle_tool())).await.unwrap());
}
