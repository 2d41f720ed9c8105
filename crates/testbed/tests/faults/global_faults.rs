//! Faults that hit every session at once: server restart, database and clock faults; and the cancellation of every session.

use crate::{
    expectations::{Effect, Fault, ViewerOutcome},
    inject::{DatabaseFault, JUMP_MS, SmallFileSystem},
    matrix::{FaultTable, POLL_INTERVAL, SETTLE_TIME, WAIT_LIMIT, observe_effect, viewer_outcome, wait_limit},
    namespace,
    states::{FaultFixture, FixtureOptions, State},
};
use anteroom_testbed::PausePoint;
use anteroom_wire::{
    MachineId,
    api::{Health, HealthStatus, SessionStatus, SessionView},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The machine of each session.
async fn session_machines(fixture: &FaultFixture) -> Vec<Option<MachineId>> {
    let mut machines = Vec::new();
    for held in &fixture.sessions {
        machines.push(fixture.machine(&held.id).await);
    }
    machines
}

/// Ends the server with `go`, starts it again, and observes every session.
async fn restart_server_with(fault: Fault, go: impl AsyncFnOnce(&mut FaultFixture)) {
    let mut fixture = FaultFixture::start(FixtureOptions::default()).await;
    let mut table = FaultTable::new(fault);
    let before = session_machines(&fixture).await;
    go(&mut fixture).await;
    let mut all = std::mem::take(&mut fixture.sessions);
    let mut ends = Vec::new();
    for held in &mut all {
        ends.push(match held.viewer.take() {
            Some(mut viewer) => viewer_outcome(viewer.wait_end(WAIT_LIMIT).await),
            None => ViewerOutcome::StaysConnected,
        });
    }
    let at = Instant::now();
    fixture.server.start_server().await.unwrap();
    for ((held, outcome), machine) in all.iter().zip(ends).zip(before) {
        let expected = table.expected(held.state);
        let effect = if expected.effect == Effect::MachineReplaced {
            observe_effect(&fixture, &held.id, held.state, held.generation, WAIT_LIMIT).await
        } else {
            let same = |view: &SessionView| (view.status, view.generation) == (held.state.status(), held.generation);
            fixture.api().wait_until(&held.id, "unchanged", same).await.unwrap();
            // The queued session may have got a machine.
            if held.state != State::Queued {
                assert_eq!(fixture.machine(&held.id).await, machine, "{}: the same machine", held.state);
            }
            Effect::Unchanged
        };
        let took = at.elapsed();
        if held.state.has_desktop() {
            fixture.check_viewer_reconnects(&held.id).await;
        }
        table.record(held, effect, outcome, took);
    }
    fixture.sessions = all;
    table.finish(fixture).await;
}

#[tokio::test]
async fn next_server_after_a_kill_knows_every_session() {
    restart_server_with(Fault::ServerKilled, async |fixture| fixture.server.kill_server().await.unwrap()).await;
}

#[tokio::test]
async fn stopped_server_closes_its_viewers_and_the_next_server_knows_every_session() {
    restart_server_with(Fault::ServerRestarted, async |fixture| fixture.server.stop_server().await.unwrap()).await;
}

/// Injects a database fault, during which everything that held the sessions is released.
async fn with_database_fault(
    fault: Fault,
    mut fixture: FaultFixture,
    fault_guard: impl AsyncFnOnce(&FaultFixture) -> DatabaseFault,
) {
    let mut table = FaultTable::new(fault);
    let at = Instant::now();
    let fault_guard = fault_guard(&fixture).await;
    // The health endpoint reports the fault, and requests that need a write fail with an error.
    let operator = fixture.server.operator_client().unwrap();
    loop {
        let health: Health = serde_json::from_str(&operator.get("/health").await.unwrap().text).unwrap();
        if health.status == HealthStatus::Down {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    let took = at.elapsed();
    let response = fixture.api().post("/api/auth/start", serde_json::json!({ "provider": "scripted" })).await.unwrap();
    assert_eq!((response.status, response.problem().unwrap().code.as_str()), (503, "database_unavailable"));
    sleep(SETTLE_TIME).await;
    let mut all = std::mem::take(&mut fixture.sessions);
    for held in &mut all {
        let expected = table.expected(held.state);
        let effect = observe_effect(&fixture, &held.id, held.state, held.generation, Duration::ZERO).await;
        let outcome = match held.viewer.as_mut() {
            Some(viewer) => viewer_outcome(viewer.wait_end(wait_limit(&expected.viewer)).await),
            None => ViewerOutcome::StaysConnected,
        };
        table.record(held, effect, outcome, took);
    }
    fixture.sessions = all;
    assert_sessions_continue(&fixture).await;
    fault_guard.repair(&fixture.server).await;
    table.finish(fixture).await;
}

/// Releases the sessions and checks that none of them ends while the database is not writable.
async fn assert_sessions_continue(fixture: &FaultFixture) {
    fixture.server.resume(PausePoint::KeeperStart).unwrap();
    fixture.server.resume(PausePoint::DesktopStart).unwrap();
    for held in &fixture.sessions {
        if held.state.has_desktop() {
            fixture.set_flag(&held.id, "url").await;
            fixture.set_flag(&held.id, "go").await;
        }
    }
    sleep(SETTLE_TIME * 2).await;
    for held in &fixture.sessions {
        let status = fixture.api().get_session(&held.id).await.unwrap().status;
        assert_eq!(status.is_ended(), held.state.status().is_ended(), "{} became {status:?}", held.state);
    }
}

#[tokio::test]
async fn locked_database_is_reported_and_loses_nothing() {
    let fixture =
        FaultFixture::start(FixtureOptions { short_database_timeout: true, ..FixtureOptions::default() }).await;
    with_database_fault(Fault::DatabaseLocked, fixture, async |fixture| DatabaseFault::lock(&fixture.server).await)
        .await;
}

#[tokio::test]
async fn read_only_database_is_reported_and_loses_nothing() {
    if !namespace::rerun_inside("global_faults::read_only_database_is_reported_and_loses_nothing") {
        return;
    }
    let fixture =
        FaultFixture::start(FixtureOptions { short_database_timeout: true, ..FixtureOptions::default() }).await;
    with_database_fault(Fault::DatabaseReadOnly, fixture, async |fixture| DatabaseFault::read_only(&fixture.server))
        .await;
}

#[tokio::test]
async fn full_disk_is_reported_and_loses_nothing() {
    if !namespace::rerun_inside("global_faults::full_disk_is_reported_and_loses_nothing") {
        return;
    }
    let mut small = None;
    let impatient = FixtureOptions { short_database_timeout: true, ..FixtureOptions::default() };
    let fixture =
        FaultFixture::start_prepared(impatient, |server| small = Some(SmallFileSystem::mount_at(&server.state_dir())))
            .await;
    with_database_fault(Fault::DiskFull, fixture, async |fixture| DatabaseFault::fill(&fixture.server)).await;
    drop(small);
}

/// The clock jumps by `ahead_ms`, and after a while back again.
async fn clock_jumps(fault: Fault, ahead_ms: i64) {
    let mut fixture = FaultFixture::start(FixtureOptions::default()).await;
    let mut table = FaultTable::new(fault);
    fixture.server.set_clock_offset(ahead_ms).await.unwrap();
    // Several reconciliations and deadline checks.
    sleep(SETTLE_TIME * 2).await;
    let mut all = std::mem::take(&mut fixture.sessions);
    for held in &mut all {
        let expected = table.expected(held.state);
        let effect = observe_effect(&fixture, &held.id, held.state, held.generation, Duration::ZERO).await;
        if held.state.has_desktop() {
            fixture.check_viewer_reconnects(&held.id).await;
        }
        let outcome = match held.viewer.as_mut() {
            Some(viewer) => viewer_outcome(viewer.wait_end(wait_limit(&expected.viewer)).await),
            None => ViewerOutcome::StaysConnected,
        };
        table.record(held, effect, outcome, Duration::ZERO);
    }
    fixture.sessions = all;
    // Correcting the clock with active sessions is the same jump in the other direction.
    fixture.server.set_clock_offset(0).await.unwrap();
    sleep(SETTLE_TIME).await;
    for held in &fixture.sessions {
        let view = fixture.api().get_session(&held.id).await.unwrap();
        assert_eq!(view.status, held.state.status(), "{} after the clock was corrected", held.state);
    }
    table.finish(fixture).await;
}

#[tokio::test]
async fn forward_clock_jump_ends_no_session() {
    clock_jumps(Fault::ClockForward, JUMP_MS).await;
}

#[tokio::test]
async fn backward_clock_jump_ends_no_session() {
    clock_jumps(Fault::ClockBack, -JUMP_MS).await;
}

#[tokio::test]
async fn session_cancelled_in_any_state_stays_cancelled_and_leaves_nothing() {
    let mut fixture = FaultFixture::start(FixtureOptions::default()).await;
    let api = fixture.api();
    let mut all = std::mem::take(&mut fixture.sessions);
    for held in &mut all {
        let expected = if held.state.status().is_ended() { held.state.status() } else { SessionStatus::Cancelled };
        for _ in 0..2 {
            assert_eq!(api.cancel_session(&held.id).await.unwrap().status, expected, "{}", held.state);
        }
        if let Some(mut viewer) = held.viewer.take() {
            let outcome = viewer_outcome(viewer.wait_end(WAIT_LIMIT).await);
            assert_eq!(outcome, ViewerOutcome::Closed(4410, "cancelled".into()), "{}", held.state);
        }
    }
    // Released only now: a late step of a start must not revive a cancelled session.
    fixture.server.wait_machines_removed().await.unwrap();
    fixture.release_all().await;
    sleep(SETTLE_TIME).await;
    for held in &all {
        let view = api.get_session(&held.id).await.unwrap();
        assert!(view.status.is_ended(), "{}: {:?}", held.state, view.status);
        fixture.check_ended_once(&view).await.unwrap_or_else(|why| panic!("{}: {why}", held.state));
    }
    fixture.server.stop_and_check_leaks().await.unwrap();
}
