//! Deadlines during clock jumps: a running server uses the monotonic clock; after a restart, when only the wall clock is known,
//! no session exceeds its limit.

use crate::inject::JUMP_MS;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, SessionView},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const IDLE_S: u64 = 4;
const SESSION_LIMIT_S: u64 = 9;
/// Allowed delay of a deadline on a busy host, seconds; far below the jump of two hours.
const LATE_S_MAX: u64 = 30;
/// Allowed difference between the start of the session and the response of the start request, milliseconds.
const EARLY_MS_MAX: u64 = 500;

/// A server with an idle timeout of `idle_s` and a session limit of [`SESSION_LIMIT_S`].
async fn start_server(idle_s: u64) -> TestServer {
    let provider =
        ScriptedProvider::new("idle", Script::new([Step::WaitForFile { path: "never".into(), ms_max: 3_600_000 }]));
    let limits = format!(
        "[sessions]\nidle_s_max = {idle_s}\nsession_s_max = {SESSION_LIMIT_S}\n[limits.sessions]\nreconcile_every_ms = 100\n"
    );
    TestServer::start(TestConfig::with_provider(provider).with_settings(&limits)).await.unwrap()
}

async fn start_session(server: &TestServer) -> SessionId {
    server.backend_client().unwrap().start_session("idle").await.unwrap().session.id
}

/// Sends heartbeats until the session ends; returns the time since `since`.
async fn use_until_expired(server: &TestServer, id: &SessionId, since: Instant) -> (SessionView, Duration) {
    let api = server.backend_client().unwrap();
    loop {
        let view = api.get_session(id).await.unwrap();
        if view.status.is_ended() {
            return (view, since.elapsed());
        }
        assert!(since.elapsed() < Duration::from_secs(SESSION_LIMIT_S + LATE_S_MAX), "still {:?}", view.status);
        // The response does not matter: the session may have ended since.
        api.post(&format!("/api/auth/session/{id}/heartbeat"), serde_json::json!({})).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
}

fn assert_expired_by(view: &SessionView, code: &str) {
    assert_eq!((view.status, view.reason.as_ref().unwrap().code.as_str()), (SessionStatus::Expired, code));
}

/// One session is idle, one is used; the clock jumps during both.
async fn sessions_expire_on_time(ahead_ms: i64) {
    let server = start_server(IDLE_S).await;
    let since = Instant::now();
    let (idle, used) = (start_session(&server).await, start_session(&server).await);
    server.set_clock_offset(ahead_ms).await.unwrap();
    let api = server.backend_client().unwrap();
    let idle_end = async {
        let view = api.wait_status(&idle, SessionStatus::Expired).await.unwrap();
        (view, since.elapsed())
    };
    let (idle_end, used_end) = tokio::join!(idle_end, use_until_expired(&server, &used, since));
    for ((view, took), (due_s, code)) in
        [(idle_end, (IDLE_S, "idle_expired")), (used_end, (SESSION_LIMIT_S, "deadline_expired"))]
    {
        assert_expired_by(&view, code);
        eprintln!("{code} after {took:?}");
        let due = Duration::from_secs(due_s);
        assert!(took + Duration::from_millis(EARLY_MS_MAX) >= due, "{code} after {took:?}, due after {due:?}");
        assert!(took <= due + Duration::from_secs(LATE_S_MAX), "{code} after {took:?}, due after {due:?}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn backward_clock_jump_extends_neither_idle_timeout_nor_session_limit() {
    sessions_expire_on_time(-JUMP_MS).await;
}

#[tokio::test]
async fn forward_clock_jump_shortens_neither_idle_timeout_nor_session_limit() {
    sessions_expire_on_time(JUMP_MS).await;
}

/// The clock jumps while no server runs; the next one ends the session at its limit.
async fn session_ends_at_its_limit_after_a_jump_during_downtime(jump_ms: i64) {
    let mut server = start_server(SESSION_LIMIT_S).await;
    let id = start_session(&server).await;
    server.kill_server().await.unwrap();
    server.set_next_clock_offset(jump_ms).unwrap();
    let since = Instant::now();
    server.start_server().await.unwrap();
    let (view, took) = use_until_expired(&server, &id, since).await;
    eprintln!("ended after {took:?}");
    assert_expired_by(&view, "deadline_expired");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn clock_set_back_during_downtime_does_not_extend_the_session_limit() {
    session_ends_at_its_limit_after_a_jump_during_downtime(-JUMP_MS).await;
}

#[tokio::test]
async fn clock_set_forward_during_downtime_expires_overdue_sessions() {
    // The next server cannot distinguish this from two hours of downtime.
    session_ends_at_its_limit_after_a_jump_during_downtime(JUMP_MS).await;
}
