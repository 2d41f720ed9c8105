//! A use of a stored credential that is interrupted before it has begun, or that can show nothing, is told and ended as it was.

use crate::{
    Scene,
    command_line::{anteroom, signed_in, text, used},
};
use anteroom_testbed::{
    ApiClient, PausePoint, TestConfig, Script, Step, ScriptedTool, TestServer, processes,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{
    MachineId, SessionId,
    api::{CredentialHealth, CredentialMeta, SessionView, Status},
    diagnosis::{Diagnosis, Verdict},
};
use serde_json::json;
use tokio::net::TcpListener;

const AWAY: &str = "away.example:80";

/// Says that it is signed in while the flag `in` is raised; asks for a name first that its provider grants.
fn tool(scene: &Scene) -> ScriptedTool {
    let status = Script::new([
        Step::Connect { authority: AWAY.to_owned() },
        Step::ExpectFile { path: scene.flag("in"), says: "Logged in".to_owned() },
    ]);
    scene.raise("in");
    scene.tool("{\"token\": \"first\"}").with_status(status, "Logged in").reaching("away.example", 80)
}

/// A world with one stored credential; beside it a tool that does nothing.
async fn world(settings: &str) -> (Scene, TestServer, String) {
    let scene = Scene::new();
    let idle = ScriptedTool::new("idle", Script::new([Step::print_line("Nothing to do"), scene.wait("never")]));
    let plan = TestConfig { tools: vec![tool(&scene), idle], ..TestConfig::default() }.host_override(AWAY, "127.0.0.1:1".parse().unwrap());
    let world = TestServer::start(plan.with_settings(&format!("[sessions]\nsweep_every_ms = 100\n{settings}"))).await.unwrap();
    let id = signed_in(&scene, &world).await;
    (scene, world, id)
}

async fn restarted(world: &mut TestServer) -> ApiClient {
    world.kill_server().await.unwrap();
    world.start_server().await.unwrap();
    world.backend().unwrap()
}

/// Waits until the machine that was asked for has its process; it lacks its display as long as that is held.
async fn held(world: &TestServer, api: &ApiClient, session: &SessionId) -> MachineId {
    let requested = api.wait_entry(session, "machine_requested").await.unwrap();
    let machine: MachineId = requested.data["machine"].as_str().unwrap().parse().unwrap();
    let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while processes::machine_pid(&world.state_dir(), &machine).is_none() {
        assert!(tokio::time::Instant::now() < until, "no machine");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    machine
}

async fn opened(api: &ApiClient, session: &SessionId) -> usize {
    let timeline = api.timeline(session).await.unwrap();
    timeline.iter().filter(|entry| entry.kind == "credential_unsealed").count()
}

async fn diagnosis(api: &ApiClient, session: &SessionId) -> Diagnosis {
    api.get(&format!("/api/auth/session/{session}/diagnosis")).await.unwrap().read().unwrap()
}

/// Its command was lost with the server, nothing was opened, and that is what is told.
async fn is_lost(api: &ApiClient, view: &SessionView) {
    let reason = view.reason.clone().unwrap();
    assert_eq!(reason.code, "controller_restarted");
    assert!(reason.sentence.contains("a server that has ended"), "{reason:?}");
    assert_eq!(view.uses.as_ref().unwrap().exit_code, None);
    let found = diagnosis(api, &view.id).await;
    assert_eq!(found.verdict, Verdict::ServerRestarted);
    assert!(found.sentence.contains("restarted before the command was run"), "{}", found.sentence);
    assert_eq!(opened(api, &view.id).await, 0);
}

async fn health(api: &ApiClient, id: &str) -> CredentialMeta {
    api.get(&format!("/api/credentials/{id}")).await.unwrap().read().unwrap()
}

#[tokio::test]
async fn queued_exec_fails_after_a_server_restart_and_a_queued_check_continues() {
    let (_scene, mut world, id) = world("[machines]\nmachines_max = 1\n").await;
    let api = world.backend().unwrap();
    let person = api.start("idle").await.unwrap().session.id;
    api.wait_status(&person, Status::VmStarted).await.unwrap();
    let exec = used(&api, &id, json!({ "purpose": "exec", "argv": ["true"] })).await;
    let check = used(&api, &id, json!({ "purpose": "check" })).await;
    let api = restarted(&mut world).await;
    let view = api.wait_status(&exec.id, Status::Failed).await.unwrap();
    is_lost(&api, &view).await;
    assert!(!api.session(&check.id).await.unwrap().status.is_terminal(), "it stands in line");
    assert!(!api.session(&person).await.unwrap().status.is_terminal());
    api.cancel(&person).await.unwrap();
    api.wait_status(&check.id, Status::Completed).await.unwrap();
    assert_eq!(api.wait_entry(&check.id, "credential_checked").await.unwrap().data["agrees"], true);
    assert_eq!(opened(&api, &check.id).await, 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_with_a_pending_machine_is_not_run_after_a_server_restart_and_opens_no_credential() {
    let (_scene, mut world, id) = world("").await;
    let api = world.backend().unwrap();
    world.pause(PausePoint::DesktopStart).unwrap();
    let exec = used(&api, &id, json!({ "purpose": "exec", "argv": ["true"] })).await;
    held(&world, &api, &exec.id).await;
    let api = restarted(&mut world).await;
    world.resume(PausePoint::DesktopStart).unwrap();
    let view = api.wait_status(&exec.id, Status::Failed).await.unwrap();
    is_lost(&api, &view).await;
    assert_eq!(health(&api, &id).await.health, CredentialHealth::Valid);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn check_is_completed_by_the_next_server_after_a_crash_at_credential_open() {
    for (moment, times) in [(CrashTiming::Before, 1), (CrashTiming::After, 2)] {
        let (_scene, mut world, id) = world("").await;
        world.crash_at(&CrashPoint { moment, write: "transition credential_unsealed".to_owned(), nth: 1 }).unwrap();
        let check = used(&world.backend().unwrap(), &id, json!({ "purpose": "check" })).await;
        let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
        let pid = world.server_pid().unwrap();
        while !is_dead(pid.as_raw_nonzero().get()) {
            assert!(tokio::time::Instant::now() < until, "the server lives");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let api = restarted(&mut world).await;
        api.wait_status(&check.id, Status::Completed).await.unwrap();
        assert_eq!(api.wait_entry(&check.id, "credential_checked").await.unwrap().data["agrees"], true);
        assert_eq!(opened(&api, &check.id).await, times, "{moment:?}: each opening is on record");
        world.finish().await.unwrap();
    }
}

/// Killed, and not yet reaped by this process.
fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[tokio::test]
async fn exec_runs_once_when_its_machine_is_replaced_before_the_claim() {
    let (scene, world, id) = world("").await;
    let api = world.backend().unwrap();
    world.pause(PausePoint::DesktopStart).unwrap();
    let runs = scene.flag("runs");
    let script = format!("echo run >> {}; exit 3", runs.display());
    let session = used(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", script] })).await;
    let machine = held(&world, &api, &session.id).await;
    // Its process is there before it has become the machine (fork, then exec).
    let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while let Err(error) = world.kill_machine(&machine) {
        assert!(tokio::time::Instant::now() < until, "{error:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    api.wait_until(&session.id, "replaced", |view| view.generation == 2).await.unwrap();
    world.resume(PausePoint::DesktopStart).unwrap();
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    assert_eq!((view.uses.unwrap().exit_code, view.generation), (Some(3), 2));
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    assert_eq!(opened(&api, &session.id).await, 1, "the first machine never had it");
    assert_eq!(diagnosis(&api, &session.id).await.verdict, Verdict::Completed);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn check_without_egress_reports_no_result_and_leaves_the_health_unchanged() {
    // Somebody listens there, until nobody does.
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scene = Scene::new();
    let plan = TestConfig::with_tool(tool(&scene)).host_override(AWAY, there.local_addr().unwrap());
    let world = TestServer::start(plan).await.unwrap();
    let id = signed_in(&scene, &world).await;
    let api = world.backend().unwrap();
    drop(there);
    std::fs::remove_file(scene.flag("in")).unwrap();
    let before = health(&api, &id).await;
    let session = used(&api, &id, json!({ "purpose": "check" })).await;
    let told = api.wait_entry(&session.id, "credential_check_inconclusive").await.unwrap();
    assert!(told.sentence.contains("says nothing of the credential"), "{told:?}");
    api.wait_status(&session.id, Status::Completed).await.unwrap();
    let after = health(&api, &id).await;
    assert_eq!((after.health, &after.checked_at), (CredentialHealth::Valid, &before.checked_at), "nobody was asked");
    let done = anteroom(&world, &["credentials", "check", &id]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains("could reach nothing"), "{}", text(&done.stderr));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn changing_the_method_of_an_exec_is_rejected_and_the_command_continues() {
    let (scene, world, id) = world("").await;
    let api = world.backend().unwrap();
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", scene.flag("enough").display());
    let session = used(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", wait] })).await;
    api.wait_entry(&session.id, "cli_started").await.unwrap();
    for method in [session.method.as_str(), "other"] {
        let path = format!("/api/auth/session/{}/method", session.id);
        let answer = api.post(&path, json!({ "method": method })).await.unwrap();
        let problem = answer.problem().unwrap();
        assert_eq!(problem.code, "unknown_method", "{method}");
        assert!(problem.detail.unwrap().contains("nobody signs in"), "{method}");
    }
    let view = api.session(&session.id).await.unwrap();
    assert_eq!((view.generation, view.method.as_str()), (1, session.method.as_str()));
    scene.raise("enough");
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    assert_eq!(view.uses.unwrap().exit_code, Some(5));
    assert!(api.timeline(&session.id).await.unwrap().iter().all(|entry| entry.kind != "method_chosen"));
    world.finish().await.unwrap();
}
