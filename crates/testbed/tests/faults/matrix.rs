//! One test for each fault: all states at once, the harm, what is so then, and every session's end.

use crate::{
    document,
    expect::{Cell, FROZEN_READY_MS, Fault, Now, Told, cell},
    inject::{self, JUMP_MS, Part, Small, Trouble},
    states::{Held, Scene, State, Wishes, machines_gone},
    viewer::End,
};
use anteroom_testbed::Hold;
use anteroom_wire::{
    MachineId, SessionId,
    api::{Health, HealthStatus, SessionView, Status},
};
use rustix::process::Signal;
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

/// How long nothing must change when nothing shall.
const STILL: Duration = Duration::from_millis(1_000);
/// How long a change is waited for before the cell has failed; its bound is another matter.
const LONG: Duration = Duration::from_secs(30);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(10);

/// What was seen of a cell before everything was let go.
struct Seen {
    state: State,
    id: SessionId,
    now: Now,
    told: Told,
    took: Duration,
}

/// The rows of one fault.
struct Table {
    fault: Fault,
    seen: Vec<Seen>,
    wrong: Vec<String>,
    /// A cell that was looked at in a scene of its own.
    already: Option<(State, Now, Told, Duration)>,
}

impl Table {
    fn new(fault: Fault) -> Self {
        Self { fault, seen: Vec::new(), wrong: Vec::new(), already: None }
    }

    fn expected(&self, state: State) -> Cell {
        cell(self.fault, state)
    }

    fn saw(&mut self, held: &Held, now: Now, told: Told, took: Duration) {
        self.seen.push(Seen { state: held.state, id: held.id.clone(), now, told, took });
    }

    /// Lets everything go, sees every session to its end, and compares all of it with what must be.
    async fn finish(mut self, scene: Scene) {
        scene.let_go().await;
        let mut rows = String::from(
            "| state | what is so | the viewer is told | known within | the session ends | left over |\n|---|---|---|---|---|---|\n",
        );
        self.seen.sort_by_key(|seen| seen.state);
        let seen = std::mem::take(&mut self.seen);
        assert_eq!(seen.iter().map(|seen| seen.state).collect::<Vec<_>>(), State::ALL, "every state was looked at");
        for seen in seen {
            let shall = self.expected(seen.state);
            let end = scene.see_to_end(&seen.id, shall.end).await;
            let told =
                if seen.state.status().is_terminal() { scene.told_at_the_door(&seen.id).await } else { seen.told };
            let is = Cell { now: seen.now, told, within_ms: shall.within_ms, end: end.status };
            if is != shall {
                self.wrong.push(format!("{}: {is:?}, expected {shall:?}", seen.state));
            }
            let took_ms = u64::try_from(seen.took.as_millis()).unwrap();
            if took_ms > shall.within_ms && shall.now != Now::NothingThere {
                self.wrong.push(format!("{}: known after {took_ms} ms, expected {} ms", seen.state, shall.within_ms));
            }
            if let Err(why) = scene.ended_once(&end).await {
                self.wrong.push(format!("{}: {why}", seen.state));
            }
            row(&mut rows, seen.state, &is);
            eprintln!("{:?} {}: {:?}", self.fault, seen.state, seen.took);
        }
        machines_gone(&scene.world).await;
        if !self.wrong.is_empty() {
            eprintln!("{}", scene.world.log().lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
        scene.world.finish().await.unwrap();
        assert!(self.wrong.is_empty(), "{}\n{}", self.wrong.join("\n"), rows);
        document::section(&format!("fault: {}", self.fault.title()), &format!("### {}\n\n{rows}", self.fault.title()));
    }
}

fn row(rows: &mut String, state: State, cell: &Cell) {
    let within = if cell.now == Now::NothingThere { "–".to_owned() } else { format!("{} s", cell.within_ms / 1_000) };
    let end = serde_json::to_string(&cell.end).unwrap();
    let end = end.trim_matches('"');
    writeln!(rows, "| {state} | {} | {} | {within} | `{end}` | nothing |", cell.now, cell.told).unwrap();
}

/// What became of a session whose machine was the `generation`th: looked at until it changes, or `wait` is over.
async fn what_is_so(scene: &Scene, id: &SessionId, state: State, generation: u32, wait: Duration) -> Now {
    let api = scene.api();
    let until = Instant::now() + wait;
    loop {
        let view = api.session(id).await.unwrap();
        if view.generation > generation && !view.status.is_terminal() {
            return Now::NewMachine;
        }
        let timeline = api.timeline(id).await.unwrap();
        if timeline.iter().any(|entry| entry.kind == "cli_exited" && entry.data["code"] == 3) {
            return Now::ToolEnded;
        }
        if Instant::now() >= until {
            assert_eq!((view.status, view.generation), (state.status(), generation), "{state}: {timeline:#?}");
            return Now::Unchanged;
        }
        sleep(LOOK).await;
    }
}

fn told(end: Option<End>) -> Told {
    match end {
        None => Told::Stays,
        Some(End { code: None, .. }) => Told::BrokeOff,
        Some(End { code: Some(code), reason, .. }) => {
            Told::Closed(code, reason.split(':').next().unwrap_or_default().to_owned())
        }
    }
}

/// How long to wait for the end of a viewer of whom this is expected.
fn patience(told: &Told) -> Duration {
    match told {
        Told::Stays | Told::Refused(..) | Told::CountedOut => Duration::from_millis(50),
        Told::Closed(..) | Told::BrokeOff => LONG,
    }
}

/// Who has no viewer is looked at when all is over.
const NOBODY: fn() -> Told = || Told::Stays;

/// A fault that hits one session at a time: `harm` does it and says whether there was something to hit.
async fn one_at_a_time(fault: Fault, wishes: Wishes, harm: impl AsyncFn(&Scene, &Held) -> bool) {
    let mut scene = Scene::set(wishes).await;
    let mut table = Table::new(fault);
    each(&mut table, &mut scene, harm).await;
    if fault == Fault::ViewerStuck {
        inject::calm(&scene).await;
    }
    table.finish(scene).await;
}

async fn each(table: &mut Table, scene: &mut Scene, harm: impl AsyncFn(&Scene, &Held) -> bool) {
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        if let Some((_, now, told, took)) = table.already.take_if(|already| already.0 == held.state) {
            table.saw(held, now, told, took);
            continue;
        }
        let shall = table.expected(held.state);
        let at = Instant::now();
        let was_hit = harm(scene, held).await;
        let wait = if matches!(shall.now, Now::NewMachine | Now::ToolEnded) { LONG } else { STILL };
        let now = match was_hit {
            false => Now::NothingThere,
            true => what_is_so(scene, &held.id, held.state, held.generation, wait).await,
        };
        let mut took = if now == Now::Unchanged { Duration::ZERO } else { at.elapsed() };
        let told = match held.viewer.take() {
            None => NOBODY(),
            Some(viewer) => {
                let end = viewer.read_on().end(patience(&shall.told)).await;
                took = took.max(end.as_ref().map_or(Duration::ZERO, |end| end.at - at));
                told(end)
            }
        };
        table.saw(held, now, told, took);
    }
    scene.held = all;
}

async fn kill_part(scene: &Scene, held: &Held, part: Part, signal: Signal) -> bool {
    match inject::process(scene, &held.id, part).await {
        Some(pid) => {
            inject::send(pid, signal);
            true
        }
        None => false,
    }
}

#[tokio::test]
async fn a_killed_machine_is_replaced_in_every_state_that_has_one() {
    let harm = async |scene: &Scene, held: &Held| kill_part(scene, held, Part::Machine, Signal::KILL).await;
    one_at_a_time(Fault::MachineKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn a_killed_keeper_takes_its_machine_along_and_both_are_replaced() {
    let harm = async |scene: &Scene, held: &Held| kill_part(scene, held, Part::Keeper, Signal::KILL).await;
    one_at_a_time(Fault::KeeperKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn a_killed_desktop_costs_the_viewer_its_picture_and_nobody_the_sign_in() {
    let harm = async |scene: &Scene, held: &Held| {
        held.state.has_desktop() && kill_part(scene, held, Part::Desktop, Signal::KILL).await
    };
    one_at_a_time(Fault::PartKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn a_frozen_machine_is_recognised_and_replaced() {
    // Before a machine is ready nothing but the limit for that tells that it stands still: a scene of its own, with a short one.
    let mut waiting = Scene::only_created(FROZEN_READY_MS).await;
    let mut held = waiting.held.remove(0);
    let (now, told, took) = {
        let at = Instant::now();
        assert!(kill_part(&waiting, &held, Part::Machine, Signal::STOP).await);
        // Released only now, so that it was held until the fault.
        waiting.world.release(Hold::Desktops).unwrap();
        let now = what_is_so(&waiting, &held.id, held.state, held.generation, LONG).await;
        let end = held.viewer.take().unwrap().end(LONG).await;
        (now, told(end), at.elapsed())
    };
    let end = waiting.see_to_end(&held.id, Status::Completed).await;
    waiting.ended_once(&end).await.unwrap();
    machines_gone(&waiting.world).await;
    waiting.world.finish().await.unwrap();

    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(Fault::MachineFrozen);
    table.already = Some((State::Created, now, told, took));
    let harm = async |scene: &Scene, held: &Held| kill_part(scene, held, Part::Machine, Signal::STOP).await;
    each(&mut table, &mut scene, harm).await;
    table.finish(scene).await;
}

#[tokio::test]
async fn a_tool_that_crashes_is_named_and_ends_nothing() {
    let wishes = Wishes { crashing: true, ..Wishes::default() };
    one_at_a_time(Fault::ToolCrashed, wishes, async |scene: &Scene, held: &Held| {
        // The states in which a tool runs are those that have a desktop.
        if held.state.has_desktop() {
            scene.flag(&held.id, "crash").await;
        }
        held.state.has_desktop()
    })
    .await;
}

#[tokio::test]
async fn a_viewer_that_reads_nothing_is_let_go_and_stops_nobody() {
    let wishes = Wishes { stuck: true, ..Wishes::default() };
    one_at_a_time(Fault::ViewerStuck, wishes, async |scene: &Scene, held: &Held| {
        if inject::can_be_slow(held.state) {
            inject::flood(scene, &held.id).await;
            counted_out(scene, &held.id).await;
        }
        inject::can_be_slow(held.state)
    })
    .await;
}

/// Waits until the session has no viewer any more.
async fn counted_out(scene: &Scene, id: &SessionId) {
    scene.api().wait(id, "without a viewer", |view| view.viewers == 0).await.unwrap();
}

#[tokio::test]
async fn a_viewer_that_is_gone_is_counted_out_and_may_come_back() {
    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(Fault::ViewerGone);
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let Some(viewer) = held.viewer.take() else {
            table.saw(held, Now::NothingThere, NOBODY(), Duration::ZERO);
            continue;
        };
        let at = Instant::now();
        viewer.vanish();
        counted_out(&scene, &held.id).await;
        let took = at.elapsed();
        let now = what_is_so(&scene, &held.id, held.state, held.generation, Duration::ZERO).await;
        if held.state.has_desktop() {
            scene.shows_again(&held.id).await;
        }
        table.saw(held, now, Told::CountedOut, took);
    }
    scene.held = all;
    table.finish(scene).await;
}

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
            None => NOBODY(),
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
            scene.api().wait(&held.id, "as it was", same).await.unwrap();
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
async fn a_killed_server_is_followed_by_one_that_knows_every_session() {
    server_goes(Fault::ServerKilled, async |scene| scene.world.kill_server().await.unwrap()).await;
}

#[tokio::test]
async fn a_stopped_server_tells_its_viewers_and_the_next_one_knows_every_session() {
    server_goes(Fault::ServerRestarted, async |scene| scene.world.stop_server().await.unwrap()).await;
}

/// Something is wrong with the database; meanwhile everything that held the sessions lets go.
async fn database_in_trouble(fault: Fault, mut scene: Scene, trouble: impl AsyncFnOnce(&Scene) -> Option<Trouble>) {
    let mut table = Table::new(fault);
    let at = Instant::now();
    let Some(trouble) = trouble(&scene).await else {
        eprintln!("skipped: this host or user cannot bring this fault about");
        scene.let_go().await;
        return scene.world.finish().await.unwrap();
    };
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
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "store_unavailable"));
    sleep(STILL).await;
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let shall = table.expected(held.state);
        let now = what_is_so(&scene, &held.id, held.state, held.generation, Duration::ZERO).await;
        let told = match held.viewer.as_mut() {
            Some(viewer) => told(viewer.end(patience(&shall.told)).await),
            None => NOBODY(),
        };
        table.saw(held, now, told, took);
    }
    scene.held = all;
    going_on_meanwhile(&scene).await;
    trouble.over().await;
    table.finish(scene).await;
}

/// Every session that can goes on as far as it gets without the database; none ends.
async fn going_on_meanwhile(scene: &Scene) {
    scene.world.release(Hold::Keepers).unwrap();
    scene.world.release(Hold::Desktops).unwrap();
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
async fn a_locked_database_is_said_and_loses_nothing() {
    let scene = Scene::set(Wishes::default()).await;
    let lock = async |scene: &Scene| Some(Trouble::lock(&scene.world).await);
    database_in_trouble(Fault::DatabaseLocked, scene, lock).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_said_and_loses_nothing() {
    let scene = Scene::set(Wishes::default()).await;
    let lock = async |scene: &Scene| Trouble::read_only(&scene.world);
    database_in_trouble(Fault::DatabaseReadOnly, scene, lock).await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let mut small = None;
    let scene = Scene::set_in(Wishes::default(), |world| small = Small::under(&world.state_dir())).await;
    let is_small = small.is_some();
    let fill = async |scene: &Scene| is_small.then(|| Trouble::fill(&scene.world));
    database_in_trouble(Fault::DiskFull, scene, fill).await;
    drop(small);
}

/// The clock jumps, time goes on for a while, and the clock jumps back again.
async fn clock_jumps(fault: Fault, ahead_ms: i64) {
    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(fault);
    scene.world.set_clock_ahead(ahead_ms).await.unwrap();
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
            None => NOBODY(),
        };
        table.saw(held, now, told, Duration::ZERO);
    }
    scene.held = all;
    // The clock is set right while the sessions live, which is the same jump the other way.
    scene.world.set_clock_ahead(0).await.unwrap();
    sleep(STILL).await;
    for held in &scene.held {
        let view = scene.api().session(&held.id).await.unwrap();
        assert_eq!(view.status, held.state.status(), "{} after the clock was set right", held.state);
    }
    table.finish(scene).await;
}

#[tokio::test]
async fn a_clock_that_jumps_forward_ends_no_session() {
    clock_jumps(Fault::ClockForward, JUMP_MS).await;
}

#[tokio::test]
async fn a_clock_that_jumps_back_ends_no_session() {
    clock_jumps(Fault::ClockBack, -JUMP_MS).await;
}

#[tokio::test]
async fn a_session_that_is_cancelled_in_any_state_stays_cancelled_and_leaves_nothing() {
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

/// The statuses of the states are those that the API has: none is left out.
#[test]
fn every_status_that_a_session_can_have_is_a_row() {
    let rows: Vec<Status> = State::ALL.iter().map(|state| state.status()).collect();
    for status in [
        Status::VmCreating,
        Status::VmCreated,
        Status::VmStarted,
        Status::Authenticating,
        Status::VmStopped,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Expired,
    ] {
        assert!(rows.contains(&status), "{status:?}");
    }
}
