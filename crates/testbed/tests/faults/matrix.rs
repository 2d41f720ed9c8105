//! One test for each fault: all states at once, the harm, what is so then, and every session's end.

use crate::{
    document,
    expectations::{Cell, FROZEN_READY_MS, Fault, Now, Told, cell},
    inject::{self, Part},
    states::{Held, Scene, State, Wishes, machines_gone},
    viewer::End,
};
use anteroom_testbed::PausePoint;
use anteroom_wire::{SessionId, api::Status};
use rustix::process::Signal;
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

/// How long nothing must change when nothing shall.
pub(crate) const STILL: Duration = Duration::from_millis(1_000);
/// How long a change is waited for before the cell has failed; its bound is another matter.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Between two questions.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// What was seen of a cell before everything was let go.
struct Seen {
    state: State,
    id: SessionId,
    now: Now,
    told: Told,
    took: Duration,
}

/// The rows of one fault.
pub(crate) struct Table {
    fault: Fault,
    seen: Vec<Seen>,
    wrong: Vec<String>,
    /// A cell that was looked at in a scene of its own.
    already: Option<(State, Now, Told, Duration)>,
}

impl Table {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, seen: Vec::new(), wrong: Vec::new(), already: None }
    }

    pub(crate) fn expected(&self, state: State) -> Cell {
        cell(self.fault, state)
    }

    pub(crate) fn saw(&mut self, held: &Held, now: Now, told: Told, took: Duration) {
        self.seen.push(Seen { state: held.state, id: held.id.clone(), now, told, took });
    }

    /// Lets everything go, sees every session to its end, and compares all of it with what must be.
    pub(crate) async fn finish(mut self, scene: Scene) {
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
pub(crate) async fn what_is_so(scene: &Scene, id: &SessionId, state: State, generation: u32, wait: Duration) -> Now {
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

pub(crate) fn told(end: Option<End>) -> Told {
    match end {
        None => Told::Stays,
        Some(End { code: None, .. }) => Told::BrokeOff,
        Some(End { code: Some(code), reason, .. }) => {
            Told::Closed(code, reason.split(':').next().unwrap_or_default().to_owned())
        }
    }
}

/// How long to wait for the end of a viewer of whom this is expected.
pub(crate) fn patience(told: &Told) -> Duration {
    match told {
        Told::Stays | Told::Refused(..) | Told::CountedOut => Duration::from_millis(50),
        Told::Closed(..) | Told::BrokeOff => LONG,
    }
}

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
            None => Told::Stays,
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
async fn killed_machine_is_replaced_in_every_state_that_has_one() {
    let harm = async |scene: &Scene, held: &Held| kill_part(scene, held, Part::Machine, Signal::KILL).await;
    one_at_a_time(Fault::MachineKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn killed_keeper_ends_its_machine_and_both_are_replaced() {
    let harm = async |scene: &Scene, held: &Held| kill_part(scene, held, Part::Keeper, Signal::KILL).await;
    one_at_a_time(Fault::KeeperKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn killed_desktop_closes_the_viewer_and_keeps_the_sign_in() {
    let harm = async |scene: &Scene, held: &Held| {
        held.state.has_desktop() && kill_part(scene, held, Part::Desktop, Signal::KILL).await
    };
    one_at_a_time(Fault::PartKilled, Wishes::default(), harm).await;
}

#[tokio::test]
async fn frozen_machine_is_detected_and_replaced() {
    // Before a machine is ready nothing but the limit for that tells that it stands still: a scene of its own, with a short one.
    let mut waiting = Scene::only_created(FROZEN_READY_MS).await;
    let mut held = waiting.held.remove(0);
    let (now, told, took) = {
        let at = Instant::now();
        assert!(kill_part(&waiting, &held, Part::Machine, Signal::STOP).await);
        // Released only now, so that it was held until the fault.
        waiting.world.resume(PausePoint::DesktopStart).unwrap();
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
async fn crashed_tool_is_reported_and_ends_no_session() {
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
async fn stalled_viewer_is_disconnected_and_blocks_no_session() {
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
    scene.api().wait_until(id, "without a viewer", |view| view.viewers == 0).await.unwrap();
}

#[tokio::test]
async fn disconnected_viewer_is_no_longer_counted_and_can_reconnect() {
    let mut scene = Scene::set(Wishes::default()).await;
    let mut table = Table::new(Fault::ViewerGone);
    let mut all = std::mem::take(&mut scene.held);
    for held in &mut all {
        let Some(viewer) = held.viewer.take() else {
            table.saw(held, Now::NothingThere, Told::Stays, Duration::ZERO);
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

/// The whole table in one: made of the expectations that the other tests hold to.
#[test]
fn summary_table_matches_the_expectations() {
    let mut rows = String::from("| |");
    for state in State::ALL {
        write!(rows, " {state} |").unwrap();
    }
    rows.push_str("\n|---|");
    rows.push_str(&"---|".repeat(State::ALL.len()));
    for fault in Fault::ALL {
        write!(rows, "\n| {} |", fault.title()).unwrap();
        for state in State::ALL {
            let sign = match cell(fault, state).now {
                Now::NothingThere => "·",
                Now::Unchanged => "=",
                Now::NewMachine => "↻",
                Now::ToolEnded => "!",
            };
            write!(rows, " {sign} |").unwrap();
        }
    }
    document::section("glance", &rows);
}

/// The statuses of the states are those that the API has: none is left out.
#[test]
fn every_session_status_has_a_row() {
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
