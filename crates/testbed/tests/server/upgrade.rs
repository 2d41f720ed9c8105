//! A new server binary takes over the machines that an old one started: their keepers run from a file that is gone.

use crate::Scene;
use anteroom_testbed::{ApiClient, MachineProcesses, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::{SessionId, api::Status};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Copies the programs of a world into a directory of their own; the server's among them.
fn install(dir: &Path) -> PathBuf {
    fs::create_dir(dir).unwrap();
    for name in ["anteroom-testbed", "anteroom-agent"] {
        fs::copy(built_program(name).unwrap(), dir.join(name)).unwrap();
    }
    dir.join("anteroom-testbed")
}

/// Which file a process was started from, as the kernel shows it.
fn program_of(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap().to_string_lossy().into_owned()
}

async fn desktop_name(api: &ApiClient, id: &SessionId) -> String {
    let mut viewer = api.desktop(id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    viewer.name().to_owned()
}

#[tokio::test]
async fn new_server_binary_adopts_running_machines() {
    let scene = Scene::new();
    let mut world = TestServer::start(TestConfig::with_tool(scene.tool("{\"token\": \"across\"}"))).await.unwrap();
    let [old, new] = ["old", "new"].map(|name| world.path().join(name));
    world.stop_server().await.unwrap();
    world.set_program(install(&old));
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let before = desktop_name(&api, &id).await;
    let machines = world.machines();
    let living = MachineProcesses::from_run_dir(&world.run_dir(&machines[0])).unwrap();
    assert!(program_of(living.keeper.pid).starts_with(old.to_str().unwrap()));

    world.stop_server().await.unwrap();
    let program = install(&new);
    fs::remove_dir_all(&old).unwrap();
    world.set_program(program);
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    assert_eq!(world.machines(), machines, "the same machine");
    assert_eq!(desktop_name(&api, &id).await, before, "the same desktop");
    assert!(program_of(living.keeper.pid).ends_with("(deleted)"), "the keeper is still the old binary");
    assert!(program_of(world.server_pid().unwrap().as_raw_nonzero().get().unsigned_abs()).contains("/new/"));
    // What the old keeper was started for, it still does for the new server: an order, and its last words.
    scene.raise("go");
    let view = api.wait_status(&id, Status::Completed).await.unwrap();
    assert_eq!(view.generation, 1);
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    assert_eq!(gone.data["receipt"]["checks"]["leftovers"], serde_json::json!([]), "{:?}", gone.data);
    assert_eq!(gone.data["why"]["why"]["reason"], "completed");
    // And the new server starts its own.
    let second = api.start("scripted").await.unwrap().session.id;
    api.wait_status(&second, Status::Completed).await.unwrap();
    world.finish().await.unwrap();
}
