//! A session's owner: the one task that asks for its machines, claims them, replaces them, and stops the last one.
//!
//! ```text
//!  Queued ─▶ Preparing ─▶ (claim) ─▶ Open ─▶ … ─▶ Closing ─▶ the machine is gone, the task ends
//!    ▲                                 │
//!    └──── Lost (budget, back-off) ◀───┘ machine gone
//! ```
//!
//! It ends in one of two ways only: the row has ended (whoever wrote that), or the server stops; then the machine lives on
//! for the next server. Its drop guard writes an end for a task that vanished without one.

mod claim;
mod generation;
mod way_out;

use super::{
    end::{self, How},
    live::Live,
    note::note,
    queue::{Place, Room},
    status::Progress,
};
use crate::{app::App, clock};
use anteroom_machine::{State, StopReason};
use anteroom_store::SessionRow;
use anteroom_wire::{MachineId, Problem};
use generation::Outcome;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long a stopped machine may take to be gone before the owner says so on the timeline and lets go.
const GONE_S_MAX: u64 = 30;
/// The wait before the second machine; doubles for each further one.
const RESTART_WAIT_MS: u64 = 100;

/// Where an owner begins.
#[derive(Debug)]
pub enum From {
    /// A new session, standing in line.
    Queue(Place),
    /// A session whose machine lives already; this server took it over.
    Adopted(MachineId, watch::Receiver<State>, Room),
    /// A session whose machine ended while no server was there.
    Lost {
        /// How the session ends if it may have no other machine.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
}

/// Starts the owner of a session that is entered in the register.
pub fn own(app: &App, live: Arc<Live>, row: SessionRow, from: From) {
    if !app.sessions.enter(&live) {
        return;
    }
    let guard = Guard { app: app.clone(), live: Arc::clone(&live), done: false };
    let app = app.clone();
    app.clone().tasks.spawn(async move {
        // The whole guard, not a copy of its flag.
        let mut guard = guard;
        let _way_out = way_out::open(&app, &live);
        let held = run(&app, &live, &row, from).await;
        finish(&app, &live, held).await;
        guard.done = true;
    });
}

/// Writes an end for a session whose owner vanished (a panic, a lost task).
struct Guard {
    app: App,
    live: Arc<Live>,
    done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.app.sessions.leave(&self.live.id);
        if self.done || self.app.stop.is_cancelled() {
            return;
        }
        let (app, live) = (self.app.clone(), Arc::clone(&self.live));
        let machine = live.facts().machine;
        tracing::error!(outcome = "owner_lost", session = %live.id, "a session's owner vanished");
        self.app.tasks.spawn(async move {
            if let Some(machine) = machine {
                app.machines.stop(&machine, StopReason::Failed);
            }
            end::end_at_last(&app, &live, How::Failed, Problem::Internal, "The session's owner task was lost.").await;
            live.close(Problem::Internal);
        });
    }
}

/// The machine that is still held when the session is over.
struct Held {
    machine: MachineId,
    state: watch::Receiver<State>,
    _room: Room,
}

/// Runs machines until the session is over. What is returned is what still has to be stopped.
async fn run(app: &App, live: &Arc<Live>, row: &SessionRow, from: From) -> Option<Held> {
    let mut held = None;
    let machines = machines(app, live, row.generation, from, &mut held);
    tokio::select! {
        biased;
        _ = live.ending.ended() => {}
        () = machines => {}
        () = deadlines(app, live, row) => {}
    }
    held
}

/// One machine after the other, until the budget is spent.
async fn machines(app: &App, live: &Arc<Live>, first: u32, from: From, held: &mut Option<Held>) {
    let mut generation = first;
    let mut from = Some(from);
    loop {
        let outcome = generation::run(app, live, generation, from.take(), held).await;
        let (problem, detail) = match outcome {
            Outcome::Over => return,
            Outcome::Lost { problem, detail } => (problem, detail),
        };
        *held = None;
        if generation > app.config.sessions.restarts_max {
            end::end_at_last(app, live, How::Failed, problem, &detail).await;
            return;
        }
        generation += 1;
        live.change(|facts| {
            facts.progress = Progress::Lost;
            facts.machine = None;
            facts.agent_token = None;
            facts.sign_in = Default::default();
            facts.device_code_at_ms = None;
            facts.event_seen = 0;
            facts.sockets.end(Problem::Restarted);
            facts.sockets = live.ending.child();
        });
        generation::set_back(app, live, generation, problem, &detail).await;
        // The first replacement comes at once, further ones after growing waits.
        let further = generation.saturating_sub(2).min(6);
        if further > 0 {
            tokio::time::sleep(Duration::from_millis(RESTART_WAIT_MS << further)).await;
        }
    }
}

/// Ends the session when nobody used it for too long, or at its cap. Tells the database of its use now and then.
async fn deadlines(app: &App, live: &Arc<Live>, row: &SessionRow) {
    let settings = &app.config.sessions;
    let cap = Duration::from_millis(row.deadline_ms.saturating_sub(clock::now()));
    let cap = tokio::time::Instant::now() + cap;
    let grace = Duration::from_secs(settings.idle_s_max);
    let mut told = tokio::time::Instant::now();
    loop {
        let now = tokio::time::Instant::now();
        let last = live.activity.last();
        if last > told {
            told = last;
            remember_use(app, live, last).await;
        }
        if now >= cap {
            let detail = format!("It may last {} s.", settings.session_s_max);
            return end::end_at_last(app, live, How::Expired, Problem::DeadlineExpired, &detail).await;
        }
        if now >= last + grace {
            let detail = format!("It may be idle for {} s.", settings.idle_s_max);
            return end::end_at_last(app, live, How::Expired, Problem::IdleExpired, &detail).await;
        }
        let look = now + Duration::from_millis(settings.sweep_every_ms);
        tokio::time::sleep_until(look.min(cap).min(last + grace)).await;
    }
}

async fn remember_use(app: &App, live: &Arc<Live>, last: tokio::time::Instant) {
    let ago = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
    let at = clock::now().saturating_sub(ago);
    let idle_deadline = at + app.config.sessions.idle_s_max * 1_000;
    match app.store.touch(&live.id, at, Some(idle_deadline)).await {
        Ok(_) => live.tell(),
        Err(error) => {
            tracing::warn!(outcome = "touch_lost", session = %live.id, error = %crate::refusal::chain(&error), "a session's use could not be written");
        }
    }
}

/// Stops what is left and waits until it is gone. A server that stops leaves the machine to the next one.
async fn finish(app: &App, live: &Arc<Live>, held: Option<Held>) {
    let over = live.ending.cause();
    if app.stop.is_cancelled() && matches!(over, None | Some(Problem::ShuttingDown)) {
        return;
    }
    live.set(Progress::Closing);
    let totals = live.ledger().totals();
    if !totals.is_empty() {
        let sentence = format!("The machine asked for {} host name(s).", totals.len());
        note(app, &live.id, "egress_totals", sentence, serde_json::json!({ "names": totals })).await;
    }
    let Some(mut held) = held else { return };
    app.machines.stop(&held.machine, stop_reason(over));
    let gone = held.state.wait_for(State::is_gone);
    // The value is cloned out at once: what is borrowed from the channel must not be held across an await.
    let gone = async { gone.await.map(|state| state.clone()) };
    match tokio::time::timeout(Duration::from_secs(GONE_S_MAX), gone).await {
        Ok(Ok(state)) => {
            generation::note_gone(app, live, &held.machine, &state).await;
        }
        // Whoever watched the machine has ended, with the server: the next server looks for it.
        Ok(Err(_)) => {
            tracing::info!(outcome = "machine_left", session = %live.id, machine = %held.machine, "the server stops before the machine was seen gone");
        }
        Err(_) => {
            let sentence = format!("The machine was told to stop and was not seen gone within {GONE_S_MAX} s.");
            note(app, &live.id, "machine_not_gone", sentence, serde_json::json!({ "machine": held.machine })).await;
        }
    }
}

fn stop_reason(over: Option<Problem>) -> StopReason {
    match over {
        Some(Problem::CompletedAlready) => StopReason::Completed,
        Some(Problem::Cancelled) => StopReason::Cancelled,
        Some(Problem::IdleExpired) => StopReason::IdleExpired,
        Some(Problem::DeadlineExpired) => StopReason::DeadlineExpired,
        Some(_) | None => StopReason::Failed,
    }
}
