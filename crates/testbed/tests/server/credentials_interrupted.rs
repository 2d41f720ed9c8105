//! Uses of a stored credential that are interrupted before they begin, and checks without a result.

use crate::{
    Flags,
    command_line::{run_cli, sign_in, start_use, text},
};
use anteroom_testbed::{
    ApiClient, PausePoint, Script, ScriptedProvider, Step, TestConfig, TestServer, processes,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{
    MachineId, SessionId, TimelineKind,
    api::{CredentialHealth, CredentialMeta, SessionStatus, SessionView},
    diagnosis::Verdict,
};
use serde_json::json;
use tokio::net::TcpListener;

const EXTERNAL: &str = "away.example:80";

/// Its status command connects to an allowed host, then prints "Logged in" while the flag `in` is set.
fn provider(flags: &Flags) -> ScriptedProvider {
    let status = Script::new([
        Step::ProxyConnect { authority: EXTERNAL.to_owned() },
        Step::ExpectFile { path: flags.path("in"), output: "Logged in".to_owned() },
    ]);
    flags.set("in");
    flags.provider("{\"token\": \"first\"}").with_status(status, "Logged in").with_egress("away.example", 80)
}

/// A server with one stored credential, and a second tool that does nothing.
async fn start_with_credential(settings: &str) -> (Flags, TestServer, String) {
    let flags = Flags::new();
    let idle =
        ScriptedProvider::new("idle", Script::new([Step::print_line("Nothing to do"), flags.wait_step("never")]));
    let config = TestConfig::with_providers([provider(&flags), idle])
        .with_host_override(EXTERNAL, "127.0.0.1:1".parse().unwrap())
        .with_settings(&format!("[limits.sessions]\nreconcile_every_ms = 100\n{settings}"));
    let server = TestServer::start(config).await.unwrap();
    let id = sign_in(&flags, &server).await;
    (flags, server, id)
}

async fn restart_server(server: &mut TestServer) -> ApiClient {
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    server.backend_client().unwrap()
}

/// Waits until the process of the requested machine exists; its display is paused.
async fn wait_machine_process(server: &TestServer, api: &ApiClient, session: &SessionId) -> MachineId {
    let requested = api.wait_entry(session, TimelineKind::MachineRequested).await.unwrap();
    let machine: MachineId = requested.data["machine"].as_str().unwrap().parse().unwrap();
    let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while processes::find_machine_pid(&server.state_dir(), &machine).is_none() {
        assert!(tokio::time::Instant::now() < until, "no machine process");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    machine
}

async fn times_opened(api: &ApiClient, session: &SessionId) -> usize {
    let timeline = api.get_timeline(session).await.unwrap();
    timeline.iter().filter(|entry| entry.kind == TimelineKind::CredentialUnsealed).count()
}

/// The command was lost with the server, no credential was unsealed, and reason and diagnosis say so.
async fn assert_command_lost(api: &ApiClient, view: &SessionView) {
    let reason = view.reason.clone().unwrap();
    assert_eq!(reason.code, "controller_restarted");
    assert!(reason.sentence.contains("lost with the restart of the server"), "{reason:?}");
    assert_eq!(view.credential_use.as_ref().unwrap().exit_code, None);
    let found = api.get_diagnosis(&view.id).await.unwrap();
    assert_eq!(found.verdict, Verdict::ServerRestarted);
    assert!(found.sentence.contains("restarted before the command was run"), "{}", found.sentence);
    assert_eq!(times_opened(api, &view.id).await, 0);
}

async fn get_credential(api: &ApiClient, id: &str) -> CredentialMeta {
    api.get(&format!("/api/credentials/{id}")).await.unwrap().parse().unwrap()
}

#[tokio::test]
async fn queued_exec_fails_after_a_server_restart_and_a_queued_check_continues() {
    let (_flags, mut server, id) = start_with_credential("[machines]\nmachines_max = 1\n").await;
    let api = server.backend_client().unwrap();
    let user_session = api.start_session("idle").await.unwrap().session.id;
    api.wait_status(&user_session, SessionStatus::VmStarted).await.unwrap();
    let exec = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["true"] })).await;
    let check = start_use(&api, &id, json!({ "purpose": "check" })).await;
    let api = restart_server(&mut server).await;
    let view = api.wait_status(&exec.id, SessionStatus::Failed).await.unwrap();
    assert_command_lost(&api, &view).await;
    assert!(!api.get_session(&check.id).await.unwrap().status.is_ended(), "it is queued");
    assert!(!api.get_session(&user_session).await.unwrap().status.is_ended());
    api.cancel_session(&user_session).await.unwrap();
    api.wait_status(&check.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(api.wait_entry(&check.id, TimelineKind::CredentialChecked).await.unwrap().data["signed_in"], true);
    assert_eq!(times_opened(&api, &check.id).await, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_with_a_pending_machine_is_not_run_after_a_server_restart_and_opens_no_credential() {
    let (_flags, mut server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    server.pause(PausePoint::DesktopStart).unwrap();
    let exec = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["true"] })).await;
    wait_machine_process(&server, &api, &exec.id).await;
    let api = restart_server(&mut server).await;
    server.resume(PausePoint::DesktopStart).unwrap();
    let view = api.wait_status(&exec.id, SessionStatus::Failed).await.unwrap();
    assert_command_lost(&api, &view).await;
    assert_eq!(get_credential(&api, &id).await.health, CredentialHealth::Valid);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn check_is_completed_by_the_next_server_after_a_crash_at_credential_open() {
    for (timing, times) in [(CrashTiming::Before, 1), (CrashTiming::After, 2)] {
        let (_flags, mut server, id) = start_with_credential("").await;
        server
            .crash_at(&CrashPoint { timing, write_kind: "transition credential_unsealed".to_owned(), nth: 1 })
            .unwrap();
        let check = start_use(&server.backend_client().unwrap(), &id, json!({ "purpose": "check" })).await;
        let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
        let pid = server.server_pid().unwrap();
        while !is_dead_process(pid.as_raw_nonzero().get()) {
            assert!(tokio::time::Instant::now() < until, "the server is still running");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let api = restart_server(&mut server).await;
        api.wait_status(&check.id, SessionStatus::Completed).await.unwrap();
        assert_eq!(api.wait_entry(&check.id, TimelineKind::CredentialChecked).await.unwrap().data["signed_in"], true);
        assert_eq!(times_opened(&api, &check.id).await, times, "{timing:?}: each unsealing is on the timeline");
        server.stop_and_check_leaks().await.unwrap();
    }
}

/// Whether the process has ended; a zombie has.
fn is_dead_process(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[tokio::test]
async fn exec_runs_once_when_its_machine_is_replaced_before_the_claim() {
    let (flags, server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    server.pause(PausePoint::DesktopStart).unwrap();
    let runs = flags.path("runs");
    let script = format!("echo run >> {}; exit 3", runs.display());
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", script] })).await;
    let machine = wait_machine_process(&server, &api, &session.id).await;
    // The process exists before it has become the machine (fork, then exec).
    let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while let Err(error) = server.kill_machine(&machine) {
        assert!(tokio::time::Instant::now() < until, "{error:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    api.wait_until(&session.id, "replaced", |view| view.generation == 2).await.unwrap();
    server.resume(PausePoint::DesktopStart).unwrap();
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    assert_eq!((view.credential_use.unwrap().exit_code, view.generation), (Some(3), 2));
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    assert_eq!(times_opened(&api, &session.id).await, 1, "the first machine never received the credential");
    assert_eq!(api.get_diagnosis(&session.id).await.unwrap().verdict, Verdict::Completed);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn check_without_egress_reports_no_result_and_leaves_the_health_unchanged() {
    // The external host listens until `there` is dropped.
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = Flags::new();
    let config = TestConfig::with_provider(provider(&flags)).with_host_override(EXTERNAL, there.local_addr().unwrap());
    let server = TestServer::start(config).await.unwrap();
    let id = sign_in(&flags, &server).await;
    let api = server.backend_client().unwrap();
    drop(there);
    std::fs::remove_file(flags.path("in")).unwrap();
    let before = get_credential(&api, &id).await;
    let session = start_use(&api, &id, json!({ "purpose": "check" })).await;
    let inconclusive = api.wait_entry(&session.id, TimelineKind::CredentialCheckInconclusive).await.unwrap();
    assert!(inconclusive.sentence.contains("the check is inconclusive"), "{inconclusive:?}");
    api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    let after = get_credential(&api, &id).await;
    assert_eq!(
        (after.health, &after.checked_at),
        (CredentialHealth::Valid, &before.checked_at),
        "the status command gave no result"
    );
    let done = run_cli(&server, &["credentials", "check", &id]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains("could reach none of the hosts"), "{}", text(&done.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn changing_the_method_of_an_exec_is_rejected_and_the_command_continues() {
    let (flags, server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", flags.path("enough").display());
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", wait] })).await;
    api.wait_entry(&session.id, TimelineKind::CliStarted).await.unwrap();
    for method in [session.method.as_str(), "other"] {
        let path = format!("/api/auth/session/{}/method", session.id);
        let answer = api.post(&path, json!({ "method": method })).await.unwrap();
        let problem = answer.problem().unwrap();
        assert_eq!(problem.code, "unknown_method", "{method}");
        assert!(problem.detail.unwrap().contains("has no sign-in"), "{method}");
    }
    let view = api.get_session(&session.id).await.unwrap();
    assert_eq!((view.generation, view.method.as_str()), (1, session.method.as_str()));
    flags.set("enough");
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential_use.unwrap().exit_code, Some(5));
    assert!(api.get_timeline(&session.id).await.unwrap().iter().all(|entry| entry.kind != TimelineKind::MethodChosen));
    server.stop_and_check_leaks().await.unwrap();
}
