//! A state directory on a file system of a network is named by `doctor` and refused at the start (report R44). The list of mounts is
//! replaced in a mount namespace, since no file server is at hand.

use anteroom_testbed::{Script, ScriptedProvider, TestConfig, TestServer};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// Runs `anteroom ARGUMENTS` where the state directory seems to be mounted with this type. Exit code, and both streams.
async fn run_on(server: &TestServer, type_name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mounts = server.path().join("mountinfo");
    let state_dir = server.state_dir().canonicalize().unwrap();
    let mount = format!("99 1 0:99 / {} rw,relatime - {type_name} files:/home rw\n", state_dir.display());
    std::fs::write(&mounts, std::fs::read_to_string("/proc/self/mountinfo").unwrap() + &mount).unwrap();
    let anteroom = server.anteroom_command().unwrap();
    let anteroom = anteroom.as_std();
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
    ]);
    // The shell is process 1 of its namespace, and so is what it executes.
    command.arg("mount --bind \"$0\" /proc/1/mountinfo && exec \"$@\"").arg(&mounts);
    command.arg(anteroom.get_program()).args(anteroom.get_args()).args(arguments);
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let done = timeout(Duration::from_secs(60), done).await.unwrap().unwrap();
    (done.status.code(), [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

#[tokio::test]
async fn r44_network_file_system_is_refused_and_a_shared_one_is_named() {
    let script = Script::new(std::iter::empty());
    let mut server =
        TestServer::start(TestConfig::with_provider(ScriptedProvider::new("scripted", script))).await.unwrap();
    server.kill_server().await.unwrap();
    let database = std::fs::read(Path::new(&server.state_dir()).join("anteroom.db")).unwrap();
    for type_name in ["nfs4", "cifs", "fuse.sshfs"] {
        let (code, output) = run_on(&server, type_name, &["serve"]).await;
        let expected = format!("the state directory is on {type_name} (");
        assert!(code != Some(0) && output.contains(&expected) && output.contains("set state_dir"), "{output}");
        let (_, output) = run_on(&server, type_name, &["doctor"]).await;
        assert!(output.contains(&expected) && output.contains("MISSING  state directory"), "{output}");
    }
    assert!(database == std::fs::read(server.state_dir().join("anteroom.db")).unwrap(), "nothing was written");
    let (_, output) = run_on(&server, "9p", &["doctor"]).await;
    assert!(output.contains("degraded state directory") && output.contains("is on 9p ("), "{output}");
    let (_, output) = run_on(&server, "ext4", &["doctor"]).await;
    assert!(output.contains("state directory") && output.contains("on ext4 ("), "{output}");
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
