//! Deadlines under a clock that jumps: they are kept in the time that only goes forward, and after a restart, when there is
//! nothing but the wall clock to go by, no session gets more than its cap.

use crate::inject::JUMP_MS;
use anteroom_testbed::{TestConfig, Script, Step, ScriptedTool, TestServer};
use anteroom_wire::{
    SessionId,
    api::{SessionView, Status},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const IDLE_S: u64 = 4;
const CAP_S: u64 = 9;
/// What a deadline may be late on a busy host, seconds; two hours are not among it.
const LATE_S_MAX: u64 = 30;
/// What is lost between the session's beginning and the answer that it has begun.
const EARLY_MS_MAX: u64 = 500;

/// A world whose sessions may be idle for `idle_s` and last for [`CAP_S`].
async fn world(idle_s: u64) -> TestServer {
    let tool = ScriptedTool::new("idle", Script::new([Step::WaitFor { path: "never".into(), ms_max: 3_600_000 }]));
    let limits = format!("[sessions]\nidle_s_max = {idle_s}\nsession_s_max = {CAP_S}\nsweep_every_ms = 100\n");
    TestServer::start(TestConfig::with_tool(tool).with_settings(&limits)).await.unwrap()
}

async fn start(world: &TestServer) -> SessionId {
    world.backend().unwrap().start("idle").await.unwrap().session.id
}

/// Uses the session until it ends; how long that took.
async fn used_until_its_end(world: &TestServer, id: &SessionId, since: Instant) -> (SessionView, Duration) {
    let api = world.backend().unwrap();
    loop {
        let view = api.session(id).await.unwrap();
        if view.status.is_terminal() {
            return (view, since.elapsed());
        }
        assert!(since.elapsed() < Duration::from_secs(CAP_S + LATE_S_MAX), "still {:?}", view.status);
        // Its answer does not matter when the session has ended meanwhile.
        api.post(&format!("/api/auth/session/{id}/heartbeat"), serde_json::json!({})).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
}

fn ended_by(view: &SessionView, code: &str) {
    assert_eq!((view.status, view.reason.as_ref().unwrap().code.as_str()), (Status::Expired, code));
}

/// One session is left alone, one is used; the clock jumps under both.
async fn each_ends_when_it_is_due(ahead_ms: i64) {
    let world = world(IDLE_S).await;
    let since = Instant::now();
    let (left, used) = (start(&world).await, start(&world).await);
    world.set_clock_offset(ahead_ms).await.unwrap();
    let api = world.backend().unwrap();
    let alone = async {
        let view = api.wait_status(&left, Status::Expired).await.unwrap();
        (view, since.elapsed())
    };
    let (alone, whole) = tokio::join!(alone, used_until_its_end(&world, &used, since));
    for ((view, took), (due_s, code)) in [(alone, (IDLE_S, "idle_expired")), (whole, (CAP_S, "deadline_expired"))] {
        ended_by(&view, code);
        eprintln!("{code} after {took:?}");
        let due = Duration::from_secs(due_s);
        assert!(took + Duration::from_millis(EARLY_MS_MAX) >= due, "{code} after {took:?}, due after {due:?}");
        assert!(took <= due + Duration::from_secs(LATE_S_MAX), "{code} after {took:?}, due after {due:?}");
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn backward_clock_jump_extends_neither_idle_timeout_nor_session_limit() {
    each_ends_when_it_is_due(-JUMP_MS).await;
}

#[tokio::test]
async fn forward_clock_jump_shortens_neither_idle_timeout_nor_session_limit() {
    each_ends_when_it_is_due(JUMP_MS).await;
}

#[tokio::test]
async fn clock_set_back_during_downtime_does_not_extend_the_session_limit() {
    let mut world = world(CAP_S).await;
    let id = start(&world).await;
    world.kill_server().await.unwrap();
    world.set_next_clock_offset(-JUMP_MS).unwrap();
    let since = Instant::now();
    world.start_server().await.unwrap();
    let (view, took) = used_until_its_end(&world, &id, since).await;
    eprintln!("ended after {took:?}");
    ended_by(&view, "deadline_expired");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn clock_set_forward_during_downtime_expires_overdue_sessions() {
    let mut world = world(CAP_S).await;
    let id = start(&world).await;
    world.kill_server().await.unwrap();
    world.set_next_clock_offset(JUMP_MS).unwrap();
    let since = Instant::now();
    world.start_server().await.unwrap();
    // To the next server it is the same as two hours that have passed.
    let (view, took) = used_until_its_end(&world, &id, since).await;
    eprintln!("ended after {took:?}");
    ended_by(&view, "deadline_expired");
    world.finish().await.unwrap();
}
