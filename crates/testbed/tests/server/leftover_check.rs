//! The leftover check of the test server.

use crate::Flags;
use anteroom_testbed::{Script, Step, TestConfig, TestServer, plain_process::built_program};
use std::process::Stdio;
use tokio::process::Command;

#[tokio::test]
async fn leftover_process_fails_the_leak_check_of_the_test_server() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(flags.idle_provider())).await.unwrap();
    let script = flags.path("script.json");
    Script::new([Step::Pause { ms: 600_000 }]).save(&script).unwrap();
    let mut leftover = Command::new(built_program("anteroom-testbed").unwrap());
    leftover.arg("tool").arg(script).current_dir(server.path()).stdin(Stdio::null()).kill_on_drop(true);
    let mut leftover = leftover.spawn().unwrap();
    let left = format!("{:#}", server.stop_and_check_leaks().await.unwrap_err());
    assert!(left.contains("processes are left"), "{left}");
    assert!(!leftover.wait().await.unwrap().success(), "the leftover process was killed");
}

#[tokio::test]
#[should_panic(expected = "a test server was not finished")]
async fn test_server_dropped_without_its_leak_check_panics() {
    let flags = Flags::new();
    drop(TestServer::start(TestConfig::with_provider(flags.idle_provider())).await.unwrap());
}
