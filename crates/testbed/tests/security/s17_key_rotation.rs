//! Keys are rotated and retired while the server works.

use crate::{
    fake_agent::{FakeAgent, store},
    stored_credentials::{content, deliver, key_report, lease, retire, rotate, start_server, wait_rewrapped},
};
use anteroom_testbed::{
    TestServer, WAIT_MAX, eventually,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{CredentialId, operator_reports::KeyReport};
use serde_json::json;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Leases these credentials again and again until `stop`; counts the leases. Each must open with its content.
fn lease_continuously(
    server: &TestServer,
    stored: &[(CredentialId, String)],
    stop: &Arc<AtomicBool>,
    leases: &Arc<AtomicU64>,
) -> tokio::task::JoinHandle<()> {
    let (api, stored) = (server.backend_client().unwrap(), stored.to_vec());
    let (stop, leases) = (Arc::clone(stop), Arc::clone(leases));
    tokio::spawn(async move {
        while !stop.load(Relaxed) {
            for (id, token) in &stored {
                let lease = api.lease_credential(id).await.unwrap();
                assert_eq!(lease.files[0].content.expose(), content(token).as_bytes());
                leases.fetch_add(1, Relaxed);
            }
        }
    })
}

#[tokio::test]
async fn s17_leases_and_deliveries_work_before_during_and_after_rotations_and_nothing_is_left_under_a_retired_key() {
    let (_flags, server) = start_server("").await;
    let mut stored = Vec::new();
    for number in 0..3 {
        let token = format!("token {number}");
        stored.push((deliver(&server, &token).await, token));
    }
    let (refreshed, _) = stored.pop().unwrap();
    let using = FakeAgent::start_using(&server, &refreshed).await;
    let session = using.session.clone();
    let (stop, leases) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = lease_continuously(&server, &stored, &stop, &leases);
    let writer = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut revision = 0;
            while !stop.load(Relaxed) {
                let answer = using.deliver(&using.delivery(&content(&format!("revision {revision}")))).await;
                // A delivery that was sealed with a key that was retired since is sent again by the agent.
                assert!([200, 503].contains(&answer.status), "{}", answer.text);
                revision += u64::from(answer.status == 200);
            }
            revision
        })
    };
    let report = key_report(&server).await;
    assert_eq!(report.keys.iter().map(|key| (key.id, key.is_primary)).collect::<Vec<_>>(), [(1, true)]);
    for old in 1..=3 {
        let before = leases.load(Relaxed);
        assert_eq!(rotate(&server).await, old + 1);
        let retired = async || {
            let answer = retire(&server, old).await;
            Ok((answer.0 == 200).then_some(()))
        };
        // A delivery that was in flight may have stored one more record under it, which the next pass rewraps.
        eventually("the old key is retired", WAIT_MAX, retired).await.unwrap();
        let further = async || Ok((leases.load(Relaxed) > before + 4).then_some(()));
        eventually("leases continue", WAIT_MAX, further).await.unwrap();
    }
    stop.store(true, Relaxed);
    reader.await.unwrap();
    let revisions = writer.await.unwrap();
    assert!(revisions > 3, "{revisions}");
    // A lease waits for the end of a use.
    server.backend_client().unwrap().cancel_session(&session).await.unwrap();
    assert_eq!(lease(&server, &refreshed).await, content(&format!("revision {}", revisions - 1)));
    let report = key_report(&server).await;
    assert_eq!(report.keys.iter().map(|key| (key.id, key.records)).collect::<Vec<_>>(), [(4, 3)]);
    let database = store(&server).await;
    assert_eq!(database.list_keys_in_use().await.unwrap().iter().map(|key| key.0).collect::<Vec<_>>(), [4]);
    database.close().await;
    let file = fs::read_to_string(server.state_dir().join("vault.key")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["keys"].as_array().unwrap().len(), 1, "the retired keys are not in the file");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_only_an_operator_changes_keys_and_a_needed_key_is_not_retired() {
    let (_flags, server) = start_server("").await;
    deliver(&server, "one").await;
    for (path, status) in [("/api/keys/rotate", 403), ("/api/keys/1/retire", 403)] {
        let answer = server.backend_client().unwrap().post(path, json!({})).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(server.backend_client().unwrap().get("/api/keys").await.unwrap().status, 403);
    assert_eq!(retire(&server, 1).await, (409, "key_in_use".into()), "the primary key");
    assert_eq!(retire(&server, 9).await, (404, "unknown_key".into()));
    rotate(&server).await;
    assert_eq!(retire(&server, 1).await, (200, String::new()));
    assert_eq!(retire(&server, 1).await, (404, "unknown_key".into()));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_rotation_interrupted_by_a_crash_at_any_write_is_completed_by_the_next_server() {
    let (_flags, mut server) = start_server("").await;
    let mut stored = Vec::new();
    for token in ["one", "two"] {
        stored.push((deliver(&server, token).await, token));
    }
    for write_kind in ["key_fingerprint", "replace_sealed", "retire_key"] {
        for timing in [CrashTiming::Before, CrashTiming::After] {
            let old = wait_rewrapped(&server).await;
            server.crash_at(&CrashPoint { timing, write_kind: write_kind.into(), nth: 1 }).unwrap();
            // The server may crash before it answers, or after it.
            let api = server.operator_client().unwrap();
            let rotated = api.post("/api/keys/rotate", json!({})).await;
            if write_kind == "retire_key" {
                assert_eq!(rotated.unwrap().status, 200);
                wait_rewrapped(&server).await;
                assert!(api.post(&format!("/api/keys/{old}/retire"), json!({})).await.is_err(), "it crashed");
            }
            wait_exited(&server).await;
            server.kill_server().await.unwrap();
            server.start_server().await.unwrap();
            let primary = wait_rewrapped(&server).await;
            assert!(primary > old, "{write_kind} {timing:?}: the new key is durable before anything else");
            for (id, token) in &stored {
                assert_eq!(lease(&server, id).await, content(token), "{write_kind} {timing:?}");
            }
        }
    }
    let newest = wait_rewrapped(&server).await;
    for key in key_report(&server).await.keys.iter().filter(|key| key.id != newest) {
        assert_eq!(retire(&server, key.id).await.0, 200, "{key:?}");
    }
    let unfinished = fs::read_dir(server.state_dir()).unwrap().flatten();
    let unfinished = unfinished.filter(|entry| entry.file_name().to_string_lossy().contains(".new-")).count();
    assert_eq!(unfinished, 0, "no temporary key file is left");
    server.stop_and_check_leaks().await.unwrap();
}

async fn wait_exited(server: &TestServer) {
    let exited = async || {
        let Ok(pid) = server.server_pid() else { return Ok(Some(())) };
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        // `pid (name) state …`; a zombie has exited.
        Ok(state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z')).then_some(()))
    };
    eventually("the server has crashed", WAIT_MAX, exited).await.unwrap();
}

#[tokio::test]
async fn s17_command_line_rotates_and_retires_with_and_without_a_server() {
    let (_flags, mut server) = start_server("").await;
    let id = deliver(&server, "one").await;
    let report = |text: String| serde_json::from_str::<KeyReport>(&text).unwrap();
    let rotated = report(server.run_anteroom(&["keys", "rotate", "--json"]).await.unwrap());
    assert_eq!((rotated.keys.len(), rotated.records_to_rewrap), (2, 0));
    assert!(server.run_anteroom(&["keys", "list"]).await.unwrap().contains("primary"));
    server.run_anteroom(&["keys", "retire", "1"]).await.unwrap();
    server.stop_server().await.unwrap();
    let rotated = report(server.run_anteroom(&["keys", "rotate", "--json"]).await.unwrap());
    assert_eq!(rotated.keys.iter().map(|key| (key.id, key.records)).collect::<Vec<_>>(), [(2, 0), (3, 1)]);
    server.run_anteroom(&["keys", "retire", "2"]).await.unwrap();
    let error = server.run_anteroom(&["keys", "retire", "3"]).await.unwrap_err().to_string();
    assert!(error.contains("key 3 is the primary key"), "{error}");
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &id).await, content("one"));
    server.stop_and_check_leaks().await.unwrap();
}
