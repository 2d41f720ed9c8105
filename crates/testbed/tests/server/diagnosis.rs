//! Why a session is as it is: each cause is injected from outside, and this verdict and no other must be given.

use crate::{Scene, viewers::closing};
use anteroom_controller::rfb::DialError;
use anteroom_testbed::{ApiClient, TestConfig, WAIT_MAX, Step, ScriptedTool, TestServer, fake_rfb_server::Behaviour, plain_process::built_program};
use anteroom_wire::{
    SessionId,
    api::{Status, TimelineEntry},
    diagnosis::{Diagnosis, Link, LinkState, Verdict},
};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::time::Duration;
use tokio::{process::Command, time::sleep};

async fn diagnosis(api: &ApiClient, id: &SessionId) -> Diagnosis {
    api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap().read().unwrap()
}

/// Waits until the verdict is this one.
pub(crate) async fn verdict(api: &ApiClient, id: &SessionId, wanted: Verdict) -> Diagnosis {
    let until = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let found = diagnosis(api, id).await;
        assert_ne!(found.verdict, Verdict::Unknown, "{found:#?}");
        if found.verdict == wanted {
            // Every proof stands on the timeline as it is quoted.
            let timeline = api.timeline(id).await.unwrap();
            for proof in &found.evidence {
                let quoted = |entry: &&TimelineEntry| entry.number == proof.number;
                let entry = timeline.iter().find(quoted).expect("the entry exists");
                assert_eq!((&entry.at, &entry.kind, &entry.sentence), (&proof.at, &proof.kind, &proof.sentence));
            }
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "not {wanted:?}: {found:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn state(found: &Diagnosis, link: Link) -> LinkState {
    found.chain.iter().find(|seen| seen.link == link).unwrap().state
}

/// One session of a world whose tool does this.
async fn one(tool: ScriptedTool, settings: &str) -> (TestServer, ApiClient, SessionId) {
    let world = TestServer::start(TestConfig::with_tool(tool).with_settings(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    (world, api, id)
}

#[tokio::test]
async fn diagnosis_of_a_viewer_rejected_after_the_machine_was_killed_is_one_sentence() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.idle_tool(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_entry(&id, "cli_started").await.unwrap();
    let ticket = api.ticket(&id, "desktop").await.unwrap().ticket;
    world.kill_machine(&world.machines().remove(0)).unwrap();
    api.wait_status(&id, Status::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut viewer = api.open_websocket(&path, &format!("binary, ticket.{ticket}"), true).await.unwrap();
    assert_eq!(closing(&mut viewer).await.0, 4410);
    let refused = api.wait_entry(&id, "viewer_rejected").await.unwrap();
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    let found = verdict(&api, &id, Verdict::MachineKilled).await;
    let expected = format!(
        "The machine ended at {} because its process was killed by signal 9, which this server did not send; the viewer's WebSocket was refused at {} for that reason; no credential was delivered.",
        gone.at, refused.at
    );
    assert_eq!(found.sentence, expected);
    let proof: Vec<_> = found.evidence.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(proof, ["machine_exited", "failed", "viewer_rejected"]);
    assert_eq!(state(&found, Link::Machine), LinkState::Failed);
    assert_eq!(state(&found, Link::Tunnel), LinkState::Failed);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_requeued_session_names_the_end_of_its_machine() {
    let scene = Scene::new();
    let (world, api, first) = one(scene.idle_tool(), "[machines]\nmachines_max = 1\n").await;
    api.wait_status(&first, Status::VmStarted).await.unwrap();
    let second = api.start("scripted").await.unwrap().session.id;
    verdict(&api, &second, Verdict::WaitingForCapacity).await;
    world.kill_machine(&world.machines().remove(0)).unwrap();
    // The room goes to whoever waited for it first.
    verdict(&api, &second, Verdict::WaitingForUser).await;
    let found = verdict(&api, &first, Verdict::WaitingForCapacity).await;
    let gone = api.wait_entry(&first, "machine_exited").await.unwrap();
    let words = format!("the former one ended at {} because its process was killed by signal 9", gone.at);
    assert!(found.sentence.contains(&words), "{}", found.sentence);
    api.cancel(&second).await.unwrap();
    verdict(&api, &first, Verdict::WaitingForUser).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_killed_keeper_is_keeper_lost() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.idle_tool(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let found = world.leaks().processes();
    let keeper = found.iter().find(|found| found.command.contains(" keeper ")).expect("a keeper");
    let pid = rustix::process::Pid::from_raw(keeper.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    verdict(&api, &id, Verdict::KeeperLost).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_failed_tool_quotes_its_last_lines() {
    let scene = Scene::new();
    let tool = scene.tool_that([Step::print_line("Error: the organisation is disabled"), Step::Exit { code: 3 }]);
    let (world, api, id) = one(tool, "").await;
    let found = verdict(&api, &id, Verdict::CliFailed).await;
    for words in ["exit code 3", "the organisation is disabled", "no credential was delivered"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    assert_eq!(state(&found, Link::Cli), LinkState::Failed);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_tool_closed_without_an_error_is_cli_ended() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.tool_that([Step::print_line("Bye")]), "").await;
    verdict(&api, &id, Verdict::CliExitedWithoutCredential).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_wrong_credential_format_names_keys_without_values() {
    let scene = Scene::new();
    let tool = scene.tool_that([Step::write(ScriptedTool::CREDENTIAL, "{\"key\": \"canary-why\"}"), scene.wait("never")]);
    let (world, api, id) = one(tool, "").await;
    let found = verdict(&api, &id, Verdict::CredentialInvalidFormat).await;
    assert!(found.sentence.contains("/token") && found.sentence.contains(ScriptedTool::CREDENTIAL), "{}", found.sentence);
    assert_eq!(state(&found, Link::Credential), LinkState::Failed);
    assert!(api.responses().iter().all(|text| !text.contains("canary-why")), "keys, never values");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_an_unconfirmed_credential_is_credential_not_confirmed() {
    let scene = Scene::new();
    let status = anteroom_testbed::Script::new([Step::Exit { code: 1 }]);
    let tool = scene.tool_that([Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}"), scene.wait("never")]);
    let (world, api, id) = one(tool.with_status(status, "Logged in"), "").await;
    verdict(&api, &id, Verdict::CredentialNotConfirmed).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_rejected_host_is_egress_refused() {
    let scene = Scene::new();
    let tool = scene.tool_that([Step::Connect { authority: "login.example:443".into() }, Step::Exit { code: 1 }]);
    let (world, api, id) = one(tool, "").await;
    let found = verdict(&api, &id, Verdict::EgressDenied).await;
    for words in ["login.example:443", "egress list", "exit code 1"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    assert_eq!(state(&found, Link::Egress), LinkState::Failed);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_an_unreachable_allowed_host_is_egress_unreachable() {
    let scene = Scene::new();
    let tool = scene.tool_that([Step::Connect { authority: "login.example:443".into() }, Step::Exit { code: 1 }]);
    // A port that nobody listens on: it was this test's a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = TestConfig::with_tool(tool.reaching("login.example", 443)).host_override("login.example:443", closed);
    let world = TestServer::start(plan).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    verdict(&api, &id, Verdict::EgressUnreachable).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_cancelled_completed_or_expired_session_names_that_end() {
    let scene = Scene::new();
    let tool = scene.tool("{\"token\": \"x\"}");
    let world = TestServer::start(TestConfig::with_tool(tool).with_settings("[sessions]\nidle_s_max = 5\nsweep_every_ms = 50\n")).await.unwrap();
    let api = world.backend().unwrap();
    let [left, cancelled] = [api.start("scripted").await.unwrap(), api.start("scripted").await.unwrap()];
    api.cancel(&cancelled.session.id).await.unwrap();
    let found = verdict(&api, &cancelled.session.id, Verdict::Cancelled).await;
    assert_eq!(state(&found, Link::Session), LinkState::Failed);
    api.wait_status(&left.session.id, Status::Expired).await.unwrap();
    verdict(&api, &left.session.id, Verdict::IdleExpired).await;
    scene.raise("go");
    let completed = api.start("scripted").await.unwrap().session.id;
    let view = api.wait_status(&completed, Status::Completed).await.unwrap();
    api.wait_entry(&completed, "machine_exited").await.unwrap();
    let found = verdict(&api, &completed, Verdict::Completed).await;
    assert!(found.sentence.contains(view.credential.unwrap().id.as_str()), "{}", found.sentence);
    assert!(found.chain.iter().all(|link| link.state != LinkState::Failed), "{:#?}", found.chain);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_session_waiting_for_a_user_or_capacity_is_healthy() {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(scene.tool("{}")).with_settings("[machines]\nmachines_max = 1\n")).await.unwrap();
    let api = world.backend().unwrap();
    let first = api.start("scripted").await.unwrap().session.id;
    api.wait_until(&first, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let second = api.start("scripted").await.unwrap().session.id;
    let found = verdict(&api, &second, Verdict::WaitingForCapacity).await;
    assert!(found.sentence.contains("number 1 in line"), "{}", found.sentence);
    assert_eq!(state(&found, Link::Machine), LinkState::Waiting);
    let mut viewer = api.desktop(&first).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let found = verdict(&api, &first, Verdict::WaitingForUser).await;
    assert!(found.sentence.contains("one viewer looks"), "{}", found.sentence);
    assert!(found.chain.iter().all(|link| link.state != LinkState::Failed), "{:#?}", found.chain);
    drop(viewer);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_missing_desktop_is_desktop_unreachable_until_it_returns() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.idle_tool(), "[sessions]\nsocket_wait_ms_max = 1000\n").await;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let machine = world.machines().remove(0);
    world.set_desktop_behaviour(&machine, Behaviour::Closed).await.unwrap();
    assert_eq!(closing(&mut api.desktop_socket(&id).await.unwrap()).await.0, 4502);
    verdict(&api, &id, Verdict::DesktopUnreachable).await;
    world.set_desktop_behaviour(&machine, Behaviour::Normal).await.unwrap();
    let seen = async {
        // The desktop needs a moment to take connections again.
        loop {
            if let Ok(mut viewer) = api.desktop(&id).await {
                return viewer.whole_frame().await.map(drop);
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, seen).await.expect("the desktop comes back").unwrap();
    verdict(&api, &id, Verdict::WaitingForUser).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_during_a_database_lock_is_delivery_failing() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.tool("{\"token\": \"x\"}"), "[store]\nbusy_ms_max = 200\n").await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let database = SqliteConnectOptions::new().filename(world.state_dir().join("anteroom.db"));
    let mut holder: SqliteConnection = database.busy_timeout(WAIT_MAX).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    scene.raise("go");
    let found = verdict(&api, &id, Verdict::DeliveryFailing).await;
    assert!(found.sentence.contains("503"), "{}", found.sentence);
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    verdict(&api, &id, Verdict::Completed).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_of_a_machine_that_ended_without_a_server_is_server_restarted() {
    let scene = Scene::new();
    let (mut world, api, id) = one(scene.idle_tool(), "[sessions]\nrestarts_max = 0\n").await;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    world.kill_server().await.unwrap();
    let machine = world.machines().remove(0);
    world.kill_machine(&machine).unwrap();
    let until = tokio::time::Instant::now() + WAIT_MAX;
    while !world.machines().is_empty() {
        assert!(tokio::time::Instant::now() < until, "the machine's keeper does not end");
        sleep(Duration::from_millis(20)).await;
    }
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    let found = verdict(&api, &id, Verdict::ServerRestarted).await;
    let machine = found.chain.iter().find(|link| link.link == Link::Machine).unwrap();
    assert!(machine.seen.contains("killed by signal 9"), "the receipt has the machine's end: {}", machine.seen);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnosis_requires_session_access_and_anonymous_requests_are_not_recorded() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.idle_tool(), "[sessions]\nviewers_max = 1\n").await;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let path = format!("/api/auth/session/{id}/diagnosis");
    assert_eq!(world.anonymous().unwrap().get(&path).await.unwrap().status, 401);
    assert_eq!(world.other_backend().unwrap().get(&path).await.unwrap().status, 403);
    assert_eq!(world.operator().unwrap().get(&path).await.unwrap().status, 200);
    let unknown = "/api/auth/session/ses_00000000000000000000000000/diagnosis";
    assert_eq!(api.get(unknown).await.unwrap().status, 404);
    for _ in 0..5 {
        let socket = format!("/api/auth/session/{id}/novnc/websock");
        let dialled = world.anonymous().unwrap().open_websocket(&socket, "binary, ticket.0000", false).await;
        assert!(matches!(dialled, Err(DialError::Refused { status: 401, .. })), "{dialled:?}");
    }
    let viewer = api.desktop(&id).await.unwrap();
    for _ in 0..25 {
        assert_eq!(closing(&mut api.desktop_socket(&id).await.unwrap()).await.0, 4429);
    }
    let refused = || async {
        let timeline = api.timeline(&id).await.unwrap();
        timeline.into_iter().filter(|entry| entry.kind == "viewer_rejected").collect::<Vec<_>>()
    };
    api.wait_entry(&id, "viewer_rejected").await.unwrap();
    let refused = refused().await;
    assert_eq!(refused.len(), 1, "one for its cause and minute: {refused:#?}");
    assert_eq!(refused[0].data["reason"], "too_many_viewers");
    drop(viewer);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn diagnose_command_prints_text_and_json() {
    let scene = Scene::new();
    let (world, api, id) = one(scene.tool_that([Step::Exit { code: 4 }]), "").await;
    let found = verdict(&api, &id, Verdict::CliFailed).await;
    let why = |json: bool| {
        let mut command = Command::new(built_program("anteroom").unwrap());
        command.arg("--state-dir").arg(world.state_dir()).args(["why", id.as_str()]);
        command.args(json.then_some("--json")).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(WAIT_MAX, command.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }
    };
    let words = why(false).await;
    for part in [&found.sentence, &found.remedy, "cli_failed", "credential  ", "cli_exited"] {
        assert!(words.contains(part), "{part}:\n{words}");
    }
    let json: Diagnosis = serde_json::from_str(&why(true).await).unwrap();
    assert_eq!((json.verdict, json.sentence), (found.verdict, found.sentence));
    world.finish().await.unwrap();
}
