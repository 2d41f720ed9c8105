//! Faults that hit every session at once: the server, its database, its clock; and everybody's wish to end.

use crate::{
    expectations::{Fault, Now, Told},
    inject::{JUMP_MS, Small, Trouble},
    matrix::{LONG, LOOK, STILL, Table, patience, told, what_is_so},
    namespace,
    states::{Scene, State, Wishes, machines_gone},
};
use anteroom_testbed::PausePoint;
use anteroom_wire::{
    MachineId,
    api::{Health, HealthStatus, SessionView, Status},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Which machine each session has.
async fn machines(scene: &Scene) -> Vec<Option<MachineId>> {
    let mut machines = Vec::new();
    for held in &scene.held {
        machines.push(scene.machine(&held.id).await);
    }
    machines
}

/// The server goes in one way or the other, and comes back.
async fn server_goes(fault: Fault, go: impl AsyncFnOnce(&mut Scene)) {
    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(fault);
    let before = machines(&scene).await;
    go(&mut scene).await;
    let mut all = std::mem::take(&mut scene.held);
    let mut ends = Vec::new();
    for held in &mut all {
        ends.push(match held.viewer.take() {
            Some(mut viewer) => told(viewer.end(LONG).await),
            None => Told::Stays,
        });
    }
    let at = Instant::now();
    scene.world.start_server().await.unwrap();
    for ((held, told), machine) in all.iter().zip(ends).zip(before) {
        let shall = table.expected(held.state);
        let now = if shall.now == Now::NewMachine {
            what_is_so(&scene, &held.id, held.state, held.generation, LONG).await
        } else {
            let same = |view: &SessionView| (view.status, view.generation) == (held.state.status(), held.generation);
            scene.api().wait_until(&held.id, "as it was", same).await.unwrap();
            // Who stood in line may have been given room.
            if held.state != State::Queued {
                assert_eq!(scene.machine(&held.id).await, machine, "{}: the same machine", held.state);
            }
            Now::Unchanged
        };
        let took = at.elapsed();
        if held.state.has_desktop() {
            scene.shows_again(&held.id).await;
        }
        table.saw(held, now, told, took);
    }
    scene.held = all;
    table.finish(scene).await;
}

#[tokio::test]
async fn next_server_after_a_kill_knows_every_session() {
    server_goes(Fault::ServerKilled, async |scene| scene.world.kill_server().await.unwrap()).await;
}

#[tokio::test]
async fn stopped_server_closes_its_viewers_and_the_next_server_knows_every_session() {
    server_goes(Fault::ServerRestarted, async |scene| scene.world.stop_server().await.unwrap()).await;
}

/// Something is wrong with the database; meanwhile everything that held the sessions lets go.
async fn database_in_trouble(fault: Fault, mut scene: Scene, trouble: impl AsyncFnOnce(&Scene) -> Trouble) {
    let mut table = Table::new(fault);
    let at = Instant::now();
    let trouble = trouble(&scene).await;
    // Who asks is told so: by the health page, and by name when something has to be written.
    let operator = scene.world.operator().unwrap();
    loop {
        let health: Health = serde_json::from_str(&operator.get("/health").await.unwrap().text).unwrap();
        if health.status == HealthStatus::Down {
            break;
        }
        sleep(LOOK).await;
    }
    let took = at.elapsed();
    let refused = scene.api().post("/api/auth/start", serde_json::json!({ "provider": "scripted" })).await.unwrap();
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "database_unavailable"));
    sleep(STILL).await;
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let shall = table.expected(held.state);
        let now = what_is_so(&scene, &held.id, held.state, held.generation, Duration::ZERO).await;
        let told = match held.viewer.as_mut() {
            Some(viewer) => told(viewer.end(patience(&shall.told)).await),
            None => Told::Stays,
        };
        table.saw(held, now, told, took);
    }
    scene.held = all;
    going_on_meanwhile(&scene).await;
    trouble.over(&scene.world).await;
    table.finish(scene).await;
}

/// Every session that can goes on as far as it gets without the database; none ends.
async fn going_on_meanwhile(scene: &Scene) {
    scene.world.resume(PausePoint::KeeperStart).unwrap();
    scene.world.resume(PausePoint::DesktopStart).unwrap();
    for held in &scene.held {
        if held.state.has_desktop() {
            scene.flag(&held.id, "url").await;
            scene.flag(&held.id, "go").await;
        }
    }
    sleep(STILL * 2).await;
    for held in &scene.held {
        let status = scene.api().session(&held.id).await.unwrap().status;
        assert_eq!(status.is_terminal(), held.state.status().is_terminal(), "{} became {status:?}", held.state);
    }
}

#[tokio::test]
async fn locked_database_is_reported_and_loses_nothing() {
    let scene = Scene::set(Wishes { impatient: true, ..Wishes::default() }).await;
    database_in_trouble(Fault::DatabaseLocked, scene, async |scene| Trouble::lock(&scene.world).await).await;
}

#[tokio::test]
async fn read_only_database_is_reported_and_loses_nothing() {
    if !namespace::inside("global_faults::read_only_database_is_reported_and_loses_nothing") {
        return;
    }
    let scene = Scene::set(Wishes { impatient: true, ..Wishes::default() }).await;
    database_in_trouble(Fault::DatabaseReadOnly, scene, async |scene| Trouble::read_only(&scene.world)).await;
}

#[tokio::test]
async fn full_disk_is_reported_and_loses_nothing() {
    if !namespace::inside("global_faults::full_disk_is_reported_and_loses_nothing") {
        return;
    }
    let mut small = None;
    let impatient = Wishes { impatient: true, ..Wishes::default() };
    let scene = Scene::set_in(impatient, |world| small = Some(Small::under(&world.state_dir()))).await;
    database_in_trouble(Fault::DiskFull, scene, async |scene| Trouble::fill(&scene.world)).await;
    drop(small);
}

/// The clock jumps, time goes on for a while, and the clock jumps back again.
async fn clock_jumps(fault: Fault, ahead_ms: i64) {
    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(fault);
    scene.world.set_clock_offset(ahead_ms).await.unwrap();
    // Several sweeps and looks at the deadlines.
    sleep(STILL * 2).await;
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let shall = table.expected(held.state);
        let now = what_is_so(&scene, &held.id, held.state, held.generation, Duration::ZERO).await;
        if held.state.has_desktop() {
            scene.shows_again(&held.id).await;
        }
        let told = match held.viewer.as_mut() {
            Some(viewer) => told(viewer.end(patience(&shall.told)).await),
            None => Told::Stays,
        };
        table.saw(held, now, told, Duration::ZERO);
    }
    scene.held = all;
    // The clock is set right while the sessions live, which is the same jump the other way.
    scene.world.set_clock_offset(0).await.unwrap();
    sleep(STILL).await;
    for held in &scene.held {
        let view = scene.api().session(&held.id).await.unwrap();
        assert_eq!(view.status, held.state.status(), "{} after the clock was set right", held.state);
    }
    table.finish(scene).await;
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
    let mut scene = Scene::set(Wishes::default()).await;
    let api = scene.api();
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let shall = if held.state.status().is_terminal() { held.state.status() } else { Status::Cancelled };
        for _ in 0..2 {
            assert_eq!(api.cancel(&held.id).await.unwrap().status, shall, "{}", held.state);
        }
        if let Some(mut viewer) = held.viewer.take() {
            let told = told(viewer.end(LONG).await);
            assert_eq!(told, Told::Closed(4410, "cancelled".into()), "{}", held.state);
        }
    }
    // What held them lets go only now: a late step of a start must not bring anything back.
    machines_gone(&scene.world).await;
    scene.let_go().await;
    sleep(STILL).await;
    for held in &all {
        let view = api.session(&held.id).await.unwrap();
        assert!(view.status.is_terminal(), "{}: {:?}", held.state, view.status);
        scene.ended_once(&view).await.unwrap_or_else(|why| panic!("{}: {why}", held.state));
    }
    scene.world.finish().await.unwrap();
}
