//! One test for each fault: sessions in all states, the fault, its effect, and the final status of every session.

use crate::{
    document,
    expectations::{Cell, Effect, FROZEN_READY_MS, Fault, ViewerOutcome, cell},
    inject::{self, MachinePart},
    states::{FaultFixture, FixtureOptions, HeldSession, State},
    viewer::SocketEnd,
};
use anteroom_testbed::PausePoint;
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use rustix::process::Signal;
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a session must stay unchanged when no change is expected.
pub(crate) const SETTLE_TIME: Duration = Duration::from_millis(1_000);
/// How long to wait for an expected change; the limit of the cell is checked separately.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(30);
/// The interval between two requests.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The observed result of a session before the release.
struct Observation {
    state: State,
    id: SessionId,
    effect: Effect,
    viewer: ViewerOutcome,
    took: Duration,
}

/// The rows of one fault.
pub(crate) struct FaultTable {
    fault: Fault,
    observations: Vec<Observation>,
    failures: Vec<String>,
    /// A cell that was observed in a separate fixture.
    precomputed: Option<(State, Effect, ViewerOutcome, Duration)>,
}

impl FaultTable {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, observations: Vec::new(), failures: Vec::new(), precomputed: None }
    }

    pub(crate) fn expected(&self, state: State) -> Cell {
        cell(self.fault, state)
    }

    pub(crate) fn record(&mut self, held: &HeldSession, effect: Effect, viewer: ViewerOutcome, took: Duration) {
        self.observations.push(Observation { state: held.state, id: held.id.clone(), effect, viewer, took });
    }

    /// Releases and finishes every session, compares all results with the expectations and the table with the document.
    pub(crate) async fn finish(mut self, fixture: FaultFixture) {
        fixture.release_all().await;
        let mut rows = String::from(
            "| state | effect | viewer | reported within | final status | left over |\n|---|---|---|---|---|---|\n",
        );
        self.observations.sort_by_key(|seen| seen.state);
        let observations = std::mem::take(&mut self.observations);
        assert_eq!(
            observations.iter().map(|seen| seen.state).collect::<Vec<_>>(),
            State::ALL,
            "every state was observed"
        );
        for seen in observations {
            let expected = self.expected(seen.state);
            let end = fixture.finish_session(&seen.id, expected.final_status).await;
            let outcome =
                if seen.state.status().is_ended() { fixture.new_viewer_outcome(&seen.id).await } else { seen.viewer };
            let actual =
                Cell { effect: seen.effect, viewer: outcome, within_ms: expected.within_ms, final_status: end.status };
            if actual != expected {
                self.failures.push(format!("{}: {actual:?}, expected {expected:?}", seen.state));
            }
            let took_ms = u64::try_from(seen.took.as_millis()).unwrap();
            if took_ms > expected.within_ms && expected.effect != Effect::NotApplicable {
                self.failures
                    .push(format!("{}: reported after {took_ms} ms, expected {} ms", seen.state, expected.within_ms));
            }
            if let Err(why) = fixture.check_ended_once(&end).await {
                self.failures.push(format!("{}: {why}", seen.state));
            }
            row(&mut rows, seen.state, &actual);
            eprintln!("{:?} {}: {:?}", self.fault, seen.state, seen.took);
        }
        fixture.server.wait_machines_removed().await.unwrap();
        if !self.failures.is_empty() {
            eprintln!("{}", fixture.server.read_log().lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
        fixture.server.stop_and_check_leaks().await.unwrap();
        assert!(self.failures.is_empty(), "{}\n{}", self.failures.join("\n"), rows);
        document::compare_section(
            &format!("fault: {}", self.fault.title()),
            &format!("### {}\n\n{rows}", self.fault.title()),
        );
    }
}

fn row(rows: &mut String, state: State, cell: &Cell) {
    let within =
        if cell.effect == Effect::NotApplicable { "–".to_owned() } else { format!("{} s", cell.within_ms / 1_000) };
    let end = serde_json::to_string(&cell.final_status).unwrap();
    let end = end.trim_matches('"');
    writeln!(rows, "| {state} | {} | {} | {within} | `{end}` | nothing |", cell.effect, cell.viewer).unwrap();
}

/// Polls a session, whose machine has this generation, until it changes or `wait` is over; returns the effect.
pub(crate) async fn observe_effect(
    fixture: &FaultFixture,
    id: &SessionId,
    state: State,
    generation: u32,
    wait: Duration,
) -> Effect {
    let api = fixture.api();
    let until = Instant::now() + wait;
    loop {
        let view = api.get_session(id).await.unwrap();
        if view.generation > generation && !view.status.is_ended() {
            return Effect::MachineReplaced;
        }
        let timeline = api.get_timeline(id).await.unwrap();
        if timeline.iter().any(|entry| entry.kind == TimelineKind::CliExited && entry.data["code"] == 3) {
            return Effect::ToolExited;
        }
        if Instant::now() >= until {
            assert_eq!((view.status, view.generation), (state.status(), generation), "{state}: {timeline:#?}");
            return Effect::Unchanged;
        }
        sleep(POLL_INTERVAL).await;
    }
}

pub(crate) fn viewer_outcome(end: Option<SocketEnd>) -> ViewerOutcome {
    match end {
        None => ViewerOutcome::StaysConnected,
        Some(SocketEnd { code: None, .. }) => ViewerOutcome::ConnectionLost,
        Some(SocketEnd { code: Some(code), reason, .. }) => {
            ViewerOutcome::Closed(code, reason.split(':').next().unwrap_or_default().to_owned())
        }
    }
}

/// How long to wait for the end of a viewer with this expected outcome.
pub(crate) fn wait_limit(outcome: &ViewerOutcome) -> Duration {
    match outcome {
        ViewerOutcome::StaysConnected | ViewerOutcome::Rejected(..) | ViewerOutcome::Disconnected => {
            Duration::from_millis(50)
        }
        ViewerOutcome::Closed(..) | ViewerOutcome::ConnectionLost => WAIT_LIMIT,
    }
}

/// A fault that hits one session at a time: `inject_fault` returns whether there was something to hit.
async fn inject_one_by_one(
    fault: Fault,
    options: FixtureOptions,
    inject_fault: impl AsyncFn(&FaultFixture, &HeldSession) -> bool,
) {
    let mut fixture = FaultFixture::start(options).await;
    let mut table = FaultTable::new(fault);
    inject_each(&mut table, &mut fixture, inject_fault).await;
    if fault == Fault::ViewerStalled {
        inject::stop_flood(&fixture).await;
    }
    table.finish(fixture).await;
}

async fn inject_each(
    table: &mut FaultTable,
    fixture: &mut FaultFixture,
    inject_fault: impl AsyncFn(&FaultFixture, &HeldSession) -> bool,
) {
    let mut all = std::mem::take(&mut fixture.sessions);
    for held in &mut all {
        if let Some((_, effect, outcome, took)) = table.precomputed.take_if(|precomputed| precomputed.0 == held.state) {
            table.record(held, effect, outcome, took);
            continue;
        }
        let expected = table.expected(held.state);
        let at = Instant::now();
        let was_hit = inject_fault(fixture, held).await;
        let wait = if matches!(expected.effect, Effect::MachineReplaced | Effect::ToolExited) {
            WAIT_LIMIT
        } else {
            SETTLE_TIME
        };
        let effect = match was_hit {
            false => Effect::NotApplicable,
            true => observe_effect(fixture, &held.id, held.state, held.generation, wait).await,
        };
        let mut took = if effect == Effect::Unchanged { Duration::ZERO } else { at.elapsed() };
        let outcome = match held.viewer.take() {
            None => ViewerOutcome::StaysConnected,
            Some(viewer) => {
                let end = viewer.resume_reading().wait_end(wait_limit(&expected.viewer)).await;
                took = took.max(end.as_ref().map_or(Duration::ZERO, |end| end.at - at));
                viewer_outcome(end)
            }
        };
        table.record(held, effect, outcome, took);
    }
    fixture.sessions = all;
}

async fn signal_process(fixture: &FaultFixture, held: &HeldSession, part: MachinePart, signal: Signal) -> bool {
    match inject::find_process(fixture, &held.id, part).await {
        Some(pid) => {
            inject::send_signal(pid, signal);
            true
        }
        None => false,
    }
}

#[tokio::test]
async fn killed_machine_is_replaced_in_every_state_that_has_one() {
    let inject_fault = async |fixture: &FaultFixture, held: &HeldSession| {
        signal_process(fixture, held, MachinePart::Machine, Signal::KILL).await
    };
    inject_one_by_one(Fault::MachineKilled, FixtureOptions::default(), inject_fault).await;
}

#[tokio::test]
async fn killed_keeper_ends_its_machine_and_both_are_replaced() {
    let inject_fault = async |fixture: &FaultFixture, held: &HeldSession| {
        signal_process(fixture, held, MachinePart::Keeper, Signal::KILL).await
    };
    inject_one_by_one(Fault::KeeperKilled, FixtureOptions::default(), inject_fault).await;
}

#[tokio::test]
async fn killed_desktop_closes_the_viewer_and_keeps_the_sign_in() {
    let inject_fault = async |fixture: &FaultFixture, held: &HeldSession| {
        held.state.has_desktop() && signal_process(fixture, held, MachinePart::Desktop, Signal::KILL).await
    };
    inject_one_by_one(Fault::DesktopKilled, FixtureOptions::default(), inject_fault).await;
}

#[tokio::test]
async fn frozen_machine_is_detected_and_replaced() {
    // A machine that freezes before it is ready is detected only by the ready timeout: a separate fixture with a short one.
    let mut waiting = FaultFixture::start_with_created_session(FROZEN_READY_MS).await;
    let mut held = waiting.sessions.remove(0);
    let (effect, outcome, took) = {
        let at = Instant::now();
        assert!(signal_process(&waiting, &held, MachinePart::Machine, Signal::STOP).await);
        // Released only now, so that the machine was paused until the fault.
        waiting.server.resume(PausePoint::DesktopStart).unwrap();
        let effect = observe_effect(&waiting, &held.id, held.state, held.generation, WAIT_LIMIT).await;
        let end = held.viewer.take().unwrap().wait_end(WAIT_LIMIT).await;
        (effect, viewer_outcome(end), at.elapsed())
    };
    let end = waiting.finish_session(&held.id, SessionStatus::Completed).await;
    waiting.check_ended_once(&end).await.unwrap();
    waiting.server.wait_machines_removed().await.unwrap();
    waiting.server.stop_and_check_leaks().await.unwrap();

    let mut fixture = FaultFixture::start(FixtureOptions::default()).await;
    let mut table = FaultTable::new(Fault::MachineFrozen);
    table.precomputed = Some((State::Created, effect, outcome, took));
    let inject_fault = async |fixture: &FaultFixture, held: &HeldSession| {
        signal_process(fixture, held, MachinePart::Machine, Signal::STOP).await
    };
    inject_each(&mut table, &mut fixture, inject_fault).await;
    table.finish(fixture).await;
}

#[tokio::test]
async fn crashed_tool_is_reported_and_ends_no_session() {
    let options = FixtureOptions { tools_can_crash: true, ..FixtureOptions::default() };
    inject_one_by_one(Fault::ToolCrashed, options, async |fixture: &FaultFixture, held: &HeldSession| {
        // A tool runs in the states that have a desktop.
        if held.state.has_desktop() {
            fixture.set_flag(&held.id, "crash").await;
        }
        held.state.has_desktop()
    })
    .await;
}

#[tokio::test]
async fn stalled_viewer_is_disconnected_and_blocks_no_session() {
    let options = FixtureOptions { stalled_viewers: true, ..FixtureOptions::default() };
    inject_one_by_one(Fault::ViewerStalled, options, async |fixture: &FaultFixture, held: &HeldSession| {
        if inject::can_stall(held.state) {
            inject::flood_viewers(fixture, &held.id).await;
            wait_no_viewers(fixture, &held.id).await;
        }
        inject::can_stall(held.state)
    })
    .await;
}

/// Waits until the session has no viewer.
async fn wait_no_viewers(fixture: &FaultFixture, id: &SessionId) {
    fixture.api().wait_until(id, "without a viewer", |view| view.viewers == 0).await.unwrap();
}

#[tokio::test]
async fn disconnected_viewer_is_no_longer_counted_and_can_reconnect() {
    let mut fixture = FaultFixture::start(FixtureOptions::default()).await;
    let mut table = FaultTable::new(Fault::ViewerDisconnected);
    let mut all = std::mem::take(&mut fixture.sessions);
    for held in &mut all {
        let Some(viewer) = held.viewer.take() else {
            table.record(held, Effect::NotApplicable, ViewerOutcome::StaysConnected, Duration::ZERO);
            continue;
        };
        let at = Instant::now();
        viewer.disconnect();
        wait_no_viewers(&fixture, &held.id).await;
        let took = at.elapsed();
        let effect = observe_effect(&fixture, &held.id, held.state, held.generation, Duration::ZERO).await;
        if held.state.has_desktop() {
            fixture.check_viewer_reconnects(&held.id).await;
        }
        table.record(held, effect, ViewerOutcome::Disconnected, took);
    }
    fixture.sessions = all;
    table.finish(fixture).await;
}

/// The summary of the expectations that the other tests check.
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
            let sign = match cell(fault, state).effect {
                Effect::NotApplicable => "·",
                Effect::Unchanged => "=",
                Effect::MachineReplaced => "↻",
                Effect::ToolExited => "!",
            };
            write!(rows, " {sign} |").unwrap();
        }
    }
    document::compare_section("summary", &rows);
}

/// The states cover every status of the API.
#[test]
fn every_session_status_has_a_row() {
    let rows: Vec<SessionStatus> = State::ALL.iter().map(|state| state.status()).collect();
    for status in [
        SessionStatus::VmCreating,
        SessionStatus::VmCreated,
        SessionStatus::VmStarted,
        SessionStatus::Authenticating,
        SessionStatus::VmStopped,
        SessionStatus::Completed,
        SessionStatus::Failed,
        SessionStatus::Cancelled,
        SessionStatus::Expired,
    ] {
        assert!(rows.contains(&status), "{status:?}");
    }
}
