//! One backend against another, in the queue for machines.

use crate::fixture::start_idle;
use anteroom_testbed::{ApiClient, ApiResponse, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId,
    api::{SessionView, StartResponse},
};
use serde_json::json;
use std::collections::BTreeMap;

const ONE_MACHINE: &str = "[machines]\nmachines_max = 1\n";

async fn start(api: &ApiClient, user: Option<&str>) -> ApiResponse {
    api.post("/api/auth/start", json!({ "provider": "scripted", "user_id": user })).await.unwrap()
}

/// Starts sessions as fast as one connection can. Returns the accepted ones and the number of each rejection's code.
async fn start_many(api: &ApiClient, count: usize, user: Option<&str>) -> (Vec<SessionId>, BTreeMap<String, usize>) {
    let (mut accepted, mut rejected) = (Vec::new(), BTreeMap::new());
    for _ in 0..count {
        let response = start(api, user).await;
        match response.parse::<StartResponse>() {
            Ok(started) => accepted.push(started.session.id),
            Err(_) => *rejected.entry(response.problem().unwrap().code).or_insert(0) += 1,
        }
    }
    (accepted, rejected)
}

async fn wait_for_machine(api: &ApiClient, id: &SessionId) -> SessionView {
    api.wait_until(id, "given a machine", |view| view.queue_position.is_none()).await.unwrap()
}

#[tokio::test]
async fn s09_another_backends_first_session_gets_the_next_free_machine_although_200_were_started_before() {
    let (_flags, server) = start_idle(ONE_MACHINE).await;
    let (many, one) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let (accepted, rejected) = start_many(&many, 200, None).await;
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["caller_quota"], "{rejected:?}");
    wait_for_machine(&many, &accepted[0]).await;
    let session = start(&one, None).await.parse::<StartResponse>().unwrap().session;
    assert_eq!(session.queue_position, Some(1), "{session:?}");
    let second_of_many = async || {
        let view = many.get_session(&accepted[1]).await.unwrap();
        Ok((view.queue_position == Some(2)).then_some(()))
    };
    eventually("the other backend's sessions move back by one", WAIT_MAX, second_of_many).await.unwrap();

    many.cancel_session(&accepted[0]).await.unwrap();
    wait_for_machine(&one, &session.id).await;
    for id in &accepted[1..] {
        assert!(many.get_session(id).await.unwrap().queue_position.is_some(), "{id} has a machine");
    }
    one.cancel_session(&session.id).await.unwrap();
    wait_for_machine(&many, &accepted[1]).await;
    for id in &accepted {
        many.cancel_session(id).await.unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s09_a_full_queue_accepts_the_first_sessions_of_each_other_backend() {
    let settings = format!("{ONE_MACHINE}[sessions]\nqueue_max = 8\n");
    let (_flags, server) = start_idle(&settings).await;
    let (many, one) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let (_, rejected) = start_many(&many, 20, None).await;
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["no_capacity"]);
    let (accepted, _) = start_many(&one, 3, None).await;
    assert_eq!(accepted.len(), 3);
    many.cancel_all_sessions().await.unwrap();
    one.cancel_all_sessions().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s09_users_of_one_backend_take_turns_and_have_a_quota() {
    let settings = format!("{ONE_MACHINE}[sessions]\nqueue_by_user_max = 5\n");
    let (_flags, server) = start_idle(&settings).await;
    let api = server.backend_client().unwrap();
    let (of_busy_user, rejected) = start_many(&api, 20, Some("busy")).await;
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["user_quota"]);
    wait_for_machine(&api, &of_busy_user[0]).await;
    let of_other_user = start(&api, Some("other")).await.parse::<StartResponse>().unwrap().session;
    assert_eq!(of_other_user.queue_position, Some(1));
    api.cancel_session(&of_busy_user[0]).await.unwrap();
    wait_for_machine(&api, &of_other_user.id).await;
    api.cancel_all_sessions().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s09_a_backend_with_all_its_machines_leaves_the_others_free() {
    let settings = "[machines]\nmachines_max = 3\nmachines_by_caller_max = 2\n";
    let (_flags, server) = start_idle(settings).await;
    let (many, one) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let (accepted, _) = start_many(&many, 5, None).await;
    wait_for_machine(&many, &accepted[0]).await;
    wait_for_machine(&many, &accepted[1]).await;
    let session = start(&one, None).await.parse::<StartResponse>().unwrap().session;
    wait_for_machine(&one, &session.id).await;
    assert!(many.get_session(&accepted[2]).await.unwrap().queue_position.is_some());
    many.cancel_all_sessions().await.unwrap();
    one.cancel_all_sessions().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s09_heartbeats_do_not_keep_a_session_in_the_queue() {
    let settings = format!("{ONE_MACHINE}[sessions]\nqueue_s_max = 2\n");
    let (_flags, server) = start_idle(&settings).await;
    let api = server.backend_client().unwrap();
    let (accepted, _) = start_many(&api, 2, None).await;
    let ended = async || {
        api.post(&format!("/api/auth/session/{}/heartbeat", accepted[1]), json!({})).await.unwrap();
        let view = api.get_session(&accepted[1]).await.unwrap();
        Ok(view.status.is_ended().then_some(view))
    };
    let view = eventually("the waiting session ends", WAIT_MAX, ended).await.unwrap();
    let end = format!("{view:?}");
    assert!(end.contains("no_capacity") && end.contains("sessions.queue_s_max"), "{end}");
    assert!(!api.get_session(&accepted[0]).await.unwrap().status.is_ended());
    api.cancel_all_sessions().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
