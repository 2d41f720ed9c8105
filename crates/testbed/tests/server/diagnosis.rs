//! Diagnoses: each cause is injected, and the expected verdict must be returned.

use crate::{Flags, start_session_with, viewers::wait_close};
use anteroom_rfb::client::ViewerConnectError;
use anteroom_testbed::{
    ApiClient, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, fake_rfb_server::ServerBehaviour,
    plain_process::built_program,
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::SessionStatus,
    diagnosis::{Component, ComponentState, Diagnosis, Verdict},
};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::time::Duration;
use tokio::{process::Command, time::sleep};

fn link_state(found: &Diagnosis, component: Component) -> ComponentState {
    found.chain.iter().find(|seen| seen.component == component).unwrap().state
}

/// Starts a session with this provider.
async fn start_session(provider: ScriptedProvider, settings: &str) -> (TestServer, ApiClient, SessionId) {
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider).with_settings(settings)).await;
    (server, api, id)
}

#[tokio::test]
async fn diagnosis_of_a_viewer_rejected_after_the_machine_was_killed_is_one_sentence() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.idle_provider(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    let ticket = api.create_ticket(&id, "desktop").await.unwrap().ticket;
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut viewer = api.open_websocket(&path, &format!("binary, ticket.{ticket}"), true).await.unwrap();
    assert_eq!(wait_close(&mut viewer).await.0, 4410);
    let rejected = api.wait_entry(&id, TimelineKind::ViewerRejected).await.unwrap();
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    let found = api.wait_verdict(&id, Verdict::MachineKilled).await.unwrap();
    let expected = format!(
        "The machine ended at {} because its process was killed by signal 9, which this server did not send; the viewer's WebSocket was rejected at {} for that reason; no credential was delivered.",
        exited.at, rejected.at
    );
    assert_eq!(found.sentence, expected);
    let proof: Vec<_> = found.evidence.iter().map(|entry| entry.kind).collect();
    assert_eq!(proof, [TimelineKind::MachineExited, TimelineKind::Failed, TimelineKind::ViewerRejected]);
    assert_eq!(link_state(&found, Component::Machine), ComponentState::Failed);
    assert_eq!(link_state(&found, Component::Tunnel), ComponentState::Failed);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_requeued_session_names_the_end_of_its_machine() {
    let flags = Flags::new();
    let (server, api, first) = start_session(flags.idle_provider(), "[machines]\nmachines_max = 1\n").await;
    api.wait_status(&first, SessionStatus::VmStarted).await.unwrap();
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.wait_verdict(&second, Verdict::WaitingForCapacity).await.unwrap();
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    // The free slot goes to the first session in the queue.
    api.wait_verdict(&second, Verdict::WaitingForUser).await.unwrap();
    let found = api.wait_verdict(&first, Verdict::WaitingForCapacity).await.unwrap();
    let exited = api.wait_entry(&first, TimelineKind::MachineExited).await.unwrap();
    let clause = format!("the previous machine ended at {} because its process was killed by signal 9", exited.at);
    assert!(found.sentence.contains(&clause), "{}", found.sentence);
    api.cancel_session(&second).await.unwrap();
    api.wait_verdict(&first, Verdict::WaitingForUser).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_killed_keeper_is_keeper_lost() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.idle_provider(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let found = server.leak_scan().find_processes();
    let keeper = found.iter().find(|found| found.command.contains(" keeper ")).expect("a keeper");
    let pid = rustix::process::Pid::from_raw(keeper.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    api.wait_verdict(&id, Verdict::KeeperLost).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_failed_tool_quotes_its_last_lines() {
    let flags = Flags::new();
    let provider =
        flags.provider_with_steps([Step::print_line("Error: the organisation is disabled"), Step::Exit { code: 3 }]);
    let (server, api, id) = start_session(provider, "").await;
    let found = api.wait_verdict(&id, Verdict::CliFailed).await.unwrap();
    for part in ["exit code 3", "the organisation is disabled", "no credential was delivered"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    assert_eq!(link_state(&found, Component::Cli), ComponentState::Failed);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_tool_closed_without_an_error_is_cli_ended() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.provider_with_steps([Step::print_line("Bye")]), "").await;
    api.wait_verdict(&id, Verdict::CliExitedWithoutCredential).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_wrong_credential_format_names_keys_without_values() {
    let flags = Flags::new();
    let provider = flags.provider_with_steps([
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"key\": \"canary-why\"}"),
        flags.wait_step("never"),
    ]);
    let (server, api, id) = start_session(provider, "").await;
    let found = api.wait_verdict(&id, Verdict::CredentialInvalidFormat).await.unwrap();
    assert!(
        found.sentence.contains("/token") && found.sentence.contains(ScriptedProvider::CREDENTIAL_PATH),
        "{}",
        found.sentence
    );
    assert_eq!(link_state(&found, Component::Credential), ComponentState::Failed);
    assert!(
        api.recorded_responses().iter().all(|text| !text.contains("canary-why")),
        "the diagnosis contains no values"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_an_unconfirmed_credential_is_credential_not_confirmed() {
    let flags = Flags::new();
    let status = anteroom_testbed::Script::new([Step::Exit { code: 1 }]);
    let provider = flags.provider_with_steps([
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
        flags.wait_step("never"),
    ]);
    let (server, api, id) = start_session(provider.with_status(status, "Logged in"), "").await;
    api.wait_verdict(&id, Verdict::CredentialNotConfirmed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_denied_host_is_egress_denied() {
    let flags = Flags::new();
    let provider = flags
        .provider_with_steps([Step::ProxyConnect { authority: "login.example:443".into() }, Step::Exit { code: 1 }]);
    let (server, api, id) = start_session(provider, "").await;
    let found = api.wait_verdict(&id, Verdict::EgressDenied).await.unwrap();
    for part in ["login.example:443", "egress list", "exit code 1"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    assert_eq!(link_state(&found, Component::Egress), ComponentState::Failed);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_an_unreachable_allowed_host_is_egress_unreachable() {
    let flags = Flags::new();
    let provider = flags
        .provider_with_steps([Step::ProxyConnect { authority: "login.example:443".into() }, Step::Exit { code: 1 }]);
    // A port without a listener: it was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = TestConfig::with_provider(provider.with_egress("login.example", 443))
        .with_host_override("login.example:443", closed);
    let (server, api, id) = start_session_with(config).await;
    api.wait_verdict(&id, Verdict::EgressUnreachable).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_cancelled_completed_or_expired_session_names_that_end() {
    let flags = Flags::new();
    let provider = flags.provider("{\"token\": \"x\"}");
    let server = TestServer::start(
        TestConfig::with_provider(provider)
            .with_settings("[sessions]\nidle_s_max = 5\n[limits.sessions]\nreconcile_every_ms = 50\n"),
    )
    .await
    .unwrap();
    let api = server.backend_client().unwrap();
    let [left, cancelled] =
        [api.start_session("scripted").await.unwrap(), api.start_session("scripted").await.unwrap()];
    api.cancel_session(&cancelled.session.id).await.unwrap();
    let found = api.wait_verdict(&cancelled.session.id, Verdict::Cancelled).await.unwrap();
    assert_eq!(link_state(&found, Component::Session), ComponentState::Failed);
    api.wait_status(&left.session.id, SessionStatus::Expired).await.unwrap();
    api.wait_verdict(&left.session.id, Verdict::IdleExpired).await.unwrap();
    flags.set("go");
    let completed = api.start_session("scripted").await.unwrap().session.id;
    let view = api.wait_status(&completed, SessionStatus::Completed).await.unwrap();
    api.wait_entry(&completed, TimelineKind::MachineExited).await.unwrap();
    let found = api.wait_verdict(&completed, Verdict::Completed).await.unwrap();
    assert!(found.sentence.contains(view.credential.unwrap().id.as_str()), "{}", found.sentence);
    assert!(found.chain.iter().all(|link| link.state != ComponentState::Failed), "{:#?}", found.chain);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_session_waiting_for_a_user_or_capacity_is_healthy() {
    let flags = Flags::new();
    let server = TestServer::start(
        TestConfig::with_provider(flags.provider("{}")).with_settings("[machines]\nmachines_max = 1\n"),
    )
    .await
    .unwrap();
    let api = server.backend_client().unwrap();
    let first = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&first, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let second = api.start_session("scripted").await.unwrap().session.id;
    let found = api.wait_verdict(&second, Verdict::WaitingForCapacity).await.unwrap();
    assert!(found.sentence.contains("number 1 in the queue"), "{}", found.sentence);
    assert_eq!(link_state(&found, Component::Machine), ComponentState::Waiting);
    let mut viewer = api.connect_desktop(&first).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let found = api.wait_verdict(&first, Verdict::WaitingForUser).await.unwrap();
    assert!(found.sentence.contains("one viewer is connected"), "{}", found.sentence);
    assert!(found.chain.iter().all(|link| link.state != ComponentState::Failed), "{:#?}", found.chain);
    drop(viewer);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_missing_desktop_is_desktop_unreachable_until_it_returns() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.idle_provider(), "[sessions]\nsocket_wait_ms_max = 1000\n").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let machine = server.list_machines().remove(0);
    server.set_desktop_behaviour(&machine, ServerBehaviour::Closed).await.unwrap();
    assert_eq!(wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await.0, 4502);
    api.wait_verdict(&id, Verdict::DesktopUnreachable).await.unwrap();
    server.set_desktop_behaviour(&machine, ServerBehaviour::Normal).await.unwrap();
    let seen = async {
        // The desktop needs a moment to accept connections again.
        loop {
            if let Ok(mut viewer) = api.connect_desktop(&id).await {
                return viewer.request_full_frame().await.map(drop);
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, seen).await.expect("the desktop returns").unwrap();
    api.wait_verdict(&id, Verdict::WaitingForUser).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_during_a_database_lock_is_delivery_failing() {
    let flags = Flags::new();
    let (server, api, id) =
        start_session(flags.provider("{\"token\": \"x\"}"), "[limits.store]\nbusy_ms_max = 200\n").await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let database = SqliteConnectOptions::new().filename(server.state_dir().join("anteroom.db"));
    let mut holder: SqliteConnection = database.busy_timeout(WAIT_MAX).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    flags.set("go");
    let found = api.wait_verdict(&id, Verdict::DeliveryFailing).await.unwrap();
    assert!(found.sentence.contains("503"), "{}", found.sentence);
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    api.wait_verdict(&id, Verdict::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_machine_that_ended_without_a_server_is_server_restarted() {
    let flags = Flags::new();
    let (mut server, api, id) = start_session(flags.idle_provider(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    server.kill_server().await.unwrap();
    let machine = server.list_machines().remove(0);
    server.kill_machine(&machine).unwrap();
    let until = tokio::time::Instant::now() + WAIT_MAX;
    while !server.list_machines().is_empty() {
        assert!(tokio::time::Instant::now() < until, "the keeper does not exit");
        sleep(Duration::from_millis(20)).await;
    }
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let found = api.wait_verdict(&id, Verdict::ServerRestarted).await.unwrap();
    let machine = found.chain.iter().find(|link| link.component == Component::Machine).unwrap();
    assert!(machine.detail.contains("killed by signal 9"), "the reason is taken from the receipt: {}", machine.detail);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnosis_requires_session_access_and_anonymous_requests_are_not_recorded() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.idle_provider(), "[limits.sessions]\nviewers_max = 1\n").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let path = format!("/api/auth/session/{id}/diagnosis");
    assert_eq!(server.anonymous_client().unwrap().get(&path).await.unwrap().status, 401);
    assert_eq!(server.other_backend_client().unwrap().get(&path).await.unwrap().status, 403);
    assert_eq!(server.operator_client().unwrap().get(&path).await.unwrap().status, 200);
    let unknown = "/api/auth/session/ses_00000000000000000000000000/diagnosis";
    assert_eq!(api.get(unknown).await.unwrap().status, 404);
    for _ in 0..5 {
        let socket = format!("/api/auth/session/{id}/novnc/websock");
        let dialled = server.anonymous_client().unwrap().open_websocket(&socket, "binary, ticket.0000", false).await;
        assert!(matches!(dialled, Err(ViewerConnectError::Rejected { status: 401, .. })), "{dialled:?}");
    }
    let viewer = api.connect_desktop(&id).await.unwrap();
    for _ in 0..25 {
        assert_eq!(wait_close(&mut api.open_view_only_socket(&id).await.unwrap()).await.0, 4429);
    }
    let rejected = || async {
        let timeline = api.get_timeline(&id).await.unwrap();
        timeline.into_iter().filter(|entry| entry.kind == TimelineKind::ViewerRejected).collect::<Vec<_>>()
    };
    api.wait_entry(&id, TimelineKind::ViewerRejected).await.unwrap();
    let rejected = rejected().await;
    assert_eq!(rejected.len(), 1, "one entry for each reason and interval: {rejected:#?}");
    assert_eq!(rejected[0].data["reason"], "too_many_viewers");
    drop(viewer);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn diagnose_command_prints_text_and_json() {
    let flags = Flags::new();
    let (server, api, id) = start_session(flags.provider_with_steps([Step::Exit { code: 4 }]), "").await;
    let found = api.wait_verdict(&id, Verdict::CliFailed).await.unwrap();
    let diagnose = |json: bool| {
        let mut command = Command::new(built_program("anteroom").unwrap());
        command.arg("--state-dir").arg(server.state_dir()).args(["diagnose", id.as_str()]);
        command.args(json.then_some("--json")).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(WAIT_MAX, command.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }
    };
    let output = diagnose(false).await;
    for part in [&found.sentence, &found.remedy, "cli_failed", "credential  ", "cli_exited"] {
        assert!(output.contains(part), "{part}:\n{output}");
    }
    let json: Diagnosis = serde_json::from_str(&diagnose(true).await).unwrap();
    assert_eq!((json.verdict, json.sentence), (found.verdict, found.sentence));
    server.stop_and_check_leaks().await.unwrap();
}
