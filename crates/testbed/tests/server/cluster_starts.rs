//! Where sessions of two hosts start: the asked host takes them at once; labels, limits and lists count over all hosts.

use crate::{
    Flags, cluster,
    hosts::{join, start_with, wait_hosts},
    postgres::own_server::OwnServer,
};
use anteroom_controller::limits::PeerLimits;
use anteroom_testbed::{ApiClient, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionList, SessionStatus, SessionView, StartRequest},
    hosts::HostState,
};
use rustix::process::{Signal, kill_process};
use serde_json::json;

const CLUSTER: &str = "liveness = 'database'\nheartbeat_interval_ms = 200\nrenew_deadline_s = 3\nfence_after_s = 5\n";

async fn listed(api: &ApiClient, id: &SessionId) -> SessionView {
    let list: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
    list.sessions.into_iter().find(|view| view.id == *id).unwrap()
}

async fn wait_on(api: &ApiClient, id: &SessionId, host: &str) {
    api.wait_until(id, "on its host", |view| view.host.as_deref() == Some(host)).await.unwrap();
}

async fn start_on(api: &ApiClient, disk: &str) -> SessionId {
    let labels = [("disk".to_owned(), disk.to_owned())].into();
    api.start_session_with(&StartRequest { labels, ..StartRequest::new("scripted") }).await.unwrap().session.id
}

#[tokio::test]
async fn start_is_taken_at_once_by_a_host_with_room_and_its_labels_and_lists_show_all_hosts_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let more = |disk: &str| format!("labels = {{ disk = '{disk}' }}\n[machines]\nmachines_max = 1\n");
    let (first, _) = start_with(&postgres, &flags, keys.path(), "first", &more("slow"), PeerLimits::default()).await;
    let (mut second, _) =
        start_with(&postgres, &flags, keys.path(), "second", &more("fast"), PeerLimits::default()).await;
    let operator = first.operator_client().unwrap();
    join(&operator, &mut second).await;
    let other = second.client_with_token(first.operator_token()).unwrap();
    wait_hosts(&operator, HostState::Answers, 2).await;
    wait_hosts(&other, HostState::Answers, 2).await;

    // The second host is asked for by its label, and takes it itself: nothing has to wait for its look.
    let there = start_on(&operator, "fast").await;
    wait_on(&operator, &there, "second").await;
    let given = async || Ok(first.read_log().contains("session_given").then_some(()));
    eventually("the first host gave it", WAIT_MAX, given).await.unwrap();
    let unknown = json!({ "provider": "scripted", "labels": { "disk": "none" } });
    let refused = operator.post("/api/auth/start", unknown).await.unwrap();
    assert!(refused.status == 400 && refused.text.contains("disk=none"), "{refused:?}");
    let requested = other.wait_entry(&there, TimelineKind::MachineRequested).await.unwrap();
    assert!(requested.sentence.ends_with("on host second."), "{requested:?}");

    // The first host lists what is live on the second, and says so when that does not answer.
    operator.wait_until(&there, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let view = listed(&operator, &there).await;
    assert!(view.sign_in.url.is_some() && !view.host_is_silent, "{view:?}");
    let pid = second.server_pid().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let view = listed(&operator, &there).await;
    assert!(view.sign_in.url.is_none() && view.host_is_silent && view.host.as_deref() == Some("second"), "{view:?}");
    kill_process(pid, Signal::CONT).unwrap();

    // Without room on both, they wait in one line.
    let here = start_on(&operator, "slow").await;
    wait_on(&operator, &here, "first").await;
    let mut waiting = Vec::new();
    for position in [1, 2] {
        let view = operator.start_session("scripted").await.unwrap().session;
        let view = other.get_session(&view.id).await.unwrap();
        assert_eq!((view.queue_position, view.host), (Some(position), None));
        waiting.push(view.id);
    }
    operator.cancel_session(&there).await.unwrap();
    wait_on(&operator, &waiting[0], "second").await;
    for id in [&here, &waiting[0], &waiting[1]] {
        operator.cancel_session(id).await.unwrap();
    }
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machines_of_a_caller_count_over_hosts_and_hosts_need_the_same_times_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let settings = format!("{CLUSTER}[machines]\nmachines_by_caller_max = 1\n");
    let first = cluster::start(&postgres, &flags, keys.path(), "first", &settings).await;
    let second = cluster::start(&postgres, &flags, keys.path(), "second", &settings).await;
    let api = first.backend_client().unwrap();
    let other = second.client_with_token(&first.backend_tokens()[0]).unwrap();
    let one = api.start_session("scripted").await.unwrap().session.id;
    wait_on(&api, &one, "first").await;
    let two = other.start_session("scripted").await.unwrap().session;
    assert_eq!((two.host, two.queue_position), (None, Some(1)), "another host counts it, too");
    api.cancel_session(&one).await.unwrap();
    let taken = other.wait_until(&two.id, "on a host", |view| view.host.is_some()).await.unwrap();
    // The second host has no certificate: what is live must be asked of the host that has taken the session.
    let holder = if taken.host.as_deref() == Some("first") { &api } else { &other };
    holder.wait_until(&two.id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    holder.cancel_session(&two.id).await.unwrap();
    holder.wait_status(&two.id, SessionStatus::Cancelled).await.unwrap();

    let others = CLUSTER.replace("renew_deadline_s = 3", "renew_deadline_s = 2");
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n[vault]\nkey_file = '{}'\n\
         [cluster]\nname = 'test'\nhost_name = 'third'\npeer_listen = '127.0.0.1:0'\n{others}",
        postgres.directory(),
        keys.path().join("vault.key").display()
    );
    let config = TestConfig::with_provider(flags.provider("{}")).with_settings(&settings);
    let refused = format!("{:#}", TestServer::start(config).await.unwrap_err());
    assert!(refused.contains("renew_deadline_s = 2 and fence_after_s = 5, but "), "{refused}");
    assert!(refused.contains("works with renew_deadline_s = 3 and fence_after_s = 5"), "{refused}");
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}
