//! Ends of machines, sessions and servers, in different orders.

use crate::{Flags, fake_agent::FakeAgent, start_idle, start_idle_session, start_session_with, viewers::wait_close};
use anteroom_testbed::{ScriptedProvider, Step, TestConfig, TestServer, machine_processes::send_signal};
use anteroom_wire::{TimelineKind, api::SessionStatus, diagnosis::Verdict};
use rustix::process::Signal;

#[tokio::test]
async fn killed_machine_is_replaced_and_its_viewer_is_closed_with_restarted() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let old = viewer.desktop_name().to_owned();
    let machine = server.list_machines().remove(0);
    server.kill_machine(&machine).unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!(code, 4510, "{reason}");
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    assert_ne!(viewer.desktop_name(), old);
    assert_eq!(api.get_session(&id).await.unwrap().generation, 2);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn killed_machine_without_restarts_left_fails_the_session_with_machine_failed() {
    let (_flags, server, api, id) = start_idle_session("[sessions]\nrestarts_max = 0\n").await;
    let viewer = api.connect_desktop(&id).await.unwrap();
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")));
    let view = api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "machine_failed");
    // A later request gets the same reason as an API error.
    let rejected =
        api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({"purpose": "desktop"})).await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (410, "machine_failed"));
    server.stop_and_check_leaks().await.unwrap();
}

/// The keeper's receipt of a machine that was killed for a system call, as a server that was away for that time finds it.
#[tokio::test]
async fn compromised_machine_ends_its_session_although_restarts_are_left() {
    let (_flags, mut server, api, id) = start_idle_session("").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let (machine, living) = server.only_machine().unwrap();
    server.kill_server().await.unwrap();
    send_signal(living.keeper, Signal::KILL).unwrap();
    living.wait_exited().await.unwrap();
    let receipt = serde_json::json!({
        "machine": machine, "began_unix_ms": 1, "ended_unix_ms": 2, "console_tail": "", "output_tail": "",
        "cause": { "kind": "forbidden_system_call", "system_call": "ptrace" },
        "checks": { "pids": [], "sockets": [], "paths": [], "leftovers": [] },
    });
    let receipts = server.state_dir().join("receipts");
    std::fs::create_dir_all(&receipts).unwrap();
    std::fs::write(receipts.join(format!("{machine}.json")), receipt.to_string()).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let view = api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    assert_eq!((view.reason.unwrap().code.as_str(), view.generation), ("machine_compromised", 1));
    let found = api.wait_verdict(&id, Verdict::ForbiddenSystemCall).await.unwrap();
    assert!(found.sentence.contains("ptrace") && found.sentence.contains("broken out"), "{}", found.sentence);
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    assert!(exited.sentence.contains("the system call ptrace"), "{}", exited.sentence);
    server.stop_and_check_leaks().await.unwrap();
}

/// A page does not reconnect after 4410: the session has ended, whatever the reason.
#[tokio::test]
async fn viewer_of_a_renewal_whose_credential_was_deleted_is_closed_with_4410() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let first = FakeAgent::start(&server).await;
    assert_eq!(first.deliver(&first.delivery("{\"token\": \"one\"}")).await.status, 200);
    let credential = api.wait_status(&first.session, SessionStatus::Completed).await.unwrap().credential.unwrap().id;
    let again = FakeAgent::start_renewing(&server, &credential).await;
    let mut viewer = api.connect_desktop(&again.session).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let deleted = api.call(reqwest::Method::DELETE, &format!("/api/credentials/{credential}"), None).await.unwrap();
    assert_eq!(deleted.status, 204);
    assert_eq!(again.deliver(&again.delivery("{\"token\": \"two\"}")).await.status, 404);
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("credential_deleted")), "{reason}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn session_whose_provider_was_removed_rejects_viewers_and_tickets_as_ended() {
    let (_flags, mut server, api, id) = start_idle_session("").await;
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    let offered = format!("binary, ticket.{}", api.create_ticket(&id, "desktop").await.unwrap().ticket);
    server.stop_server().await.unwrap();
    std::fs::remove_file(server.path().join("providers/scripted.toml")).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let view = api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "provider_removed");
    let socket = format!("/api/auth/session/{id}/novnc/websock");
    let (code, reason) = wait_close(&mut api.open_websocket(&socket, &offered, true).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("provider_removed")), "{reason}");
    let rejected =
        api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({"purpose": "desktop"})).await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (410, "provider_removed"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn cancelled_session_stays_cancelled_and_closes_its_viewer() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let viewer = api.connect_desktop(&id).await.unwrap();
    assert_eq!(api.cancel_session(&id).await.unwrap().status, SessionStatus::Cancelled);
    assert_eq!(wait_close(&mut viewer.into_inner()).await.0, 4410);
    assert_eq!(api.cancel_session(&id).await.unwrap().status, SessionStatus::Cancelled);
    assert_eq!(api.get_session(&id).await.unwrap().reason.unwrap().code, "cancelled");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn idle_session_expires_and_heartbeats_prevent_it() {
    let (_flags, server) = start_idle("[sessions]\nidle_s_max = 4\n[limits.sessions]\nreconcile_every_ms = 50\n").await;
    let api = server.backend_client().unwrap();
    let left = api.start_session("scripted").await.unwrap().session.id;
    let used = api.start_session("scripted").await.unwrap().session.id;
    loop {
        let beat = api.post(&format!("/api/auth/session/{used}/heartbeat"), serde_json::json!({})).await.unwrap();
        assert_eq!(beat.status, 200, "{}", beat.text);
        if api.get_session(&left).await.unwrap().status == SessionStatus::Expired {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(api.get_session(&left).await.unwrap().reason.unwrap().code, "idle_expired");
    assert!(!api.get_session(&used).await.unwrap().status.is_ended());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r15_no_session_ends_before_the_code_that_it_shows() {
    let flags = Flags::new();
    let shows =
        [Step::print_line("Open https://id.example/device and enter code: ABCD-1234"), flags.wait_step("never")];
    let rules = serde_json::json!({ "url": r"https?://[^\s]+", "code": r"code: ([A-Z0-9-]+)", "code_s_max": 8 });
    let provider = flags.provider_with_steps(shows).with_descriptor_key("sign_in", rules);
    let settings = "[sessions]\nidle_s_max = 2\n[limits.sessions]\nreconcile_every_ms = 50\n";
    let config = TestConfig::with_providers([provider, ScriptedProvider::idle("silent")]).with_settings(settings);
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let view = api.wait_until(&id, "showing the code", |view| view.sign_in.device_code_until.is_some()).await.unwrap();
    let until = view.sign_in.device_code_until.unwrap();
    assert_eq!(view.idle_deadline_at.as_ref(), Some(&until), "the page shows the same moment");
    assert!(until < view.deadline_at);
    let silent = api.start_session("silent").await.unwrap().session.id;
    let silent = api.wait_status(&silent, SessionStatus::Expired).await.unwrap();
    assert!(silent.ended_at.unwrap() < until, "a session that shows no code ends when it is idle");
    let view = api.wait_status(&id, SessionStatus::Expired).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "idle_expired");
    assert!(view.ended_at.as_ref() >= Some(&until), "{:?} {until}", view.ended_at);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sign_in_survives_a_server_crash() {
    let flags = Flags::new();
    let (mut server, api, id) =
        start_session_with(TestConfig::with_provider(flags.provider("{\"token\": \"after the crash\"}"))).await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let before = viewer.desktop_name().to_owned();
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    server.kill_server().await.unwrap();
    assert_eq!(server.list_machines().len(), 1, "the machine is still running");
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    assert_eq!(viewer.desktop_name(), before, "the same machine");
    flags.set("go");
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_written_while_the_server_is_down_is_delivered_to_the_next_server() {
    let flags = Flags::new();
    let (mut server, api, id) =
        start_session_with(TestConfig::with_provider(flags.provider("{\"token\": \"kept\"}"))).await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let machine = server.list_machines().remove(0);
    server.stop_server().await.unwrap();
    flags.set("go");
    let file = server.tool_home(&machine).join(anteroom_testbed::ScriptedProvider::CREDENTIAL_PATH);
    while !file.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let stored =
        api.get_timeline(&id).await.unwrap().into_iter().filter(|entry| entry.kind == TimelineKind::Completed).count();
    assert_eq!(stored, 1);
    assert_eq!(
        api.lease_credential(&view.credential.unwrap().id).await.unwrap().files[0].content.expose(),
        b"{\"token\": \"kept\"}"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn completed_session_is_readable_after_its_machine_is_removed() {
    let flags = Flags::new();
    let (server, api, id) = start_session_with(TestConfig::with_provider(flags.provider("{\"token\": \"x\"}"))).await;
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    while !server.list_machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(api.get_session(&id).await.unwrap().status, SessionStatus::Completed);
    let metadata = api.get(&format!("/api/auth/session/{id}/credentials")).await.unwrap();
    assert_eq!(metadata.status, 200);
    assert!(metadata.text.contains(anteroom_testbed::ScriptedProvider::CREDENTIAL_PATH));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn restart_without_restarts_left_is_rejected_and_the_session_continues() {
    let (_flags, server, api, id) = start_idle_session("[sessions]\nrestarts_max = 1\n").await;
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    let restart = format!("/api/auth/session/{id}/restart");
    assert_eq!(api.post(&restart, serde_json::json!({})).await.unwrap().status, 202);
    api.wait_until(&id, "at its second machine", |view| view.generation == 2).await.unwrap();
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    let rejected = api.post(&restart, serde_json::json!({})).await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (409, "no_restart_left"));
    assert!(!api.get_session(&id).await.unwrap().status.is_ended());
    server.stop_and_check_leaks().await.unwrap();
}
