//! A new server binary adopts the machines of the old one, whose keepers run from a deleted file.

use crate::Flags;
use anteroom_testbed::{ApiClient, MachineProcesses, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Copies the programs into a new directory; returns the path of the server.
fn install(dir: &Path) -> PathBuf {
    fs::create_dir(dir).unwrap();
    for name in ["anteroom-testbed", "anteroom-agent"] {
        fs::copy(built_program(name).unwrap(), dir.join(name)).unwrap();
    }
    dir.join("anteroom-testbed")
}

/// The program with which a process was started. (The link `/proc/PID/exe` of an undumpable process is readable only by the superuser.)
fn program_of(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

async fn desktop_name(api: &ApiClient, id: &SessionId) -> String {
    let mut viewer = api.connect_desktop(id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    viewer.desktop_name().to_owned()
}

#[tokio::test]
async fn new_server_binary_adopts_running_machines() {
    let flags = Flags::new();
    let mut server =
        TestServer::start(TestConfig::with_provider(flags.provider("{\"token\": \"across\"}"))).await.unwrap();
    let [old, new] = ["old", "new"].map(|name| server.path().join(name));
    server.stop_server().await.unwrap();
    server.set_program(install(&old));
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let before = desktop_name(&api, &id).await;
    let machines = server.list_machines();
    let living = MachineProcesses::from_run_dir(&server.run_dir(&machines[0])).unwrap();
    assert!(program_of(living.keeper.pid).starts_with(old.to_str().unwrap()));

    server.stop_server().await.unwrap();
    let program = install(&new);
    fs::remove_dir_all(&old).unwrap();
    server.set_program(program);
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    assert_eq!(server.list_machines(), machines, "the same machine");
    assert_eq!(desktop_name(&api, &id).await, before, "the same desktop");
    assert!(program_of(living.keeper.pid).starts_with(old.to_str().unwrap()), "the keeper is still the old binary");
    assert!(program_of(server.server_pid().unwrap().as_raw_nonzero().get().unsigned_abs()).contains("/new/"));
    // The old keeper still obeys the new server: it stops the machine and writes the receipt.
    flags.set("go");
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.generation, 1);
    let operator = server.operator_client().unwrap();
    let exited = operator.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    assert_eq!(exited.data["receipt"]["checks"]["leftovers"], serde_json::json!([]), "{:?}", exited.data);
    assert_eq!(exited.data["why"]["reason"]["kind"], "completed");
    // The new server can start machines.
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&second, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
