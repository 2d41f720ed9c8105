//! One machine of a session: room, request, readiness, claim, then watching it until it is gone.

use super::{From, Held, claim};
use crate::{
    app::App,
    clock, random,
    refusal::chain,
    session::{live::Live, note::note, status::Progress, status::stage_of},
};
use anteroom_machine::{Channels, GoneReason, Refused, State, StopReason};
use anteroom_store::{Change, Expect, NewEvent, Reason, Sha256Hex, Transition};
use anteroom_wire::{MachineId, Problem, Secret, agent::Stage};
use futures_util::FutureExt;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How one machine's time ended.
pub(super) enum Outcome {
    /// The session's row has ended (or cannot be written for a stopping server).
    Over,
    /// The machine is gone.
    Lost {
        /// How the session ends if it may have no other machine.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
}

/// Runs one machine. `held` has it while there is something to stop.
pub(super) async fn run(
    app: &App,
    live: &Arc<Live>,
    generation: u32,
    from: Option<From>,
    held: &mut Option<Held>,
) -> Outcome {
    let place = match from {
        Some(From::Adopted(machine, state, room)) => {
            *held = Some(Held { machine: machine.clone(), state: state.clone(), _room: room });
            live.change(|facts| facts.machine = Some(machine.clone()));
            return watch_machine(app, live, generation, machine, state, None).await;
        }
        Some(From::Lost { problem, detail }) => return Outcome::Lost { problem, detail },
        Some(From::Queue(place)) => place,
        None => match app.queue.stand(live.id.clone()) {
            Ok(place) => place,
            Err(full) => return Outcome::Lost { problem: Problem::NoCapacity, detail: full.to_string() },
        },
    };
    let room = place.take(|position| live.set(Progress::Queued { position })).await;
    let machine = random::id(MachineId::from_parts);
    let token = random::token("agt_");
    live.change(|facts| {
        facts.generation = generation;
        facts.machine = Some(machine.clone());
        facts.agent_token = Some(Sha256Hex::of_secret(&token));
        facts.progress = Progress::Preparing { stage: Stage::Process };
    });
    if !ask(app, live, generation, &machine, &token).await {
        return Outcome::Over;
    }
    let state = match app.machines.start(machine.clone()) {
        Ok(state) => state,
        Err(refused) => {
            let problem = match &refused {
                Refused::NoCapacity { .. } => Problem::NoCapacity,
                Refused::Recipe(_) => Problem::NoImage,
                Refused::Stopping => return Outcome::Over,
                Refused::Duplicate => Problem::Internal,
            };
            let detail = chain(&refused);
            note(app, &live.id, "machine_refused", format!("No machine could be started: {detail}."), json!({})).await;
            return Outcome::Lost { problem, detail };
        }
    };
    *held = Some(Held { machine: machine.clone(), state: state.clone(), _room: room });
    watch_machine(app, live, generation, machine, state, Some(token)).await
}

/// Writes that this machine is asked for and which token it will have; `false`: the session is over.
async fn ask(app: &App, live: &Live, generation: u32, machine: &MachineId, token: &Secret) -> bool {
    let change = Change::new()
        .generation(generation)
        .machine(Some(machine.clone()))
        .agent_token(Some(Sha256Hex::of_secret(token)))
        .claimed_generation(None)
        .cli_started(false);
    let event = |now| {
        NewEvent::new(now, "machine_requested", format!("Machine {generation} was asked for."))
            .with(json!({ "machine": machine, "generation": generation }))
    };
    write(app, live, change, event).await
}

/// Writes that the machine is being replaced.
pub(super) async fn set_back(app: &App, live: &Live, generation: u32, problem: Problem, detail: &str) {
    let change = Change::new()
        .generation(generation)
        .machine(None)
        .agent_token(None)
        .setback(Some(Reason::new(problem, detail)));
    let event = |now| {
        NewEvent::new(now, "machine_replaced", format!("The machine is being replaced: {detail}."))
            .with(json!({ "generation": generation, "reason": problem.code() }))
    };
    write(app, live, change, event).await;
}

/// One transition, tried until the database takes it; `false`: the row has ended, or the server stops.
async fn write(app: &App, live: &Live, change: Change, event: impl Fn(clock::UnixMs) -> NewEvent) -> bool {
    let mut wait = Duration::from_millis(20);
    loop {
        match app.store.transition(&live.id, Expect::Active, change.clone(), event(clock::now())).await {
            Ok(Transition::Done { .. }) => {
                live.tell();
                return true;
            }
            Ok(Transition::Conflict(_)) => return false,
            Err(error) => {
                tracing::error!(outcome = "transition_not_written", session = %live.id, error = %chain(&error), "trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            () = app.stop.cancelled() => return false,
        }
    }
}

/// Follows the machine's states until it is gone.
async fn watch_machine(
    app: &App,
    live: &Arc<Live>,
    generation: u32,
    machine: MachineId,
    mut state: watch::Receiver<State>,
    token: Option<Secret>,
) -> Outcome {
    let mut claimed = false;
    // A wish from before this machine is not meant for it.
    let _ = live.restart.notified().now_or_never();
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Ready { channels } => {
                if claimed {
                    reopened(app, live, channels).await;
                } else {
                    // Whoever looks at the desktop need not wait for the claim.
                    live.set(Progress::Claiming { channels: channels.clone() });
                    match claim::claim(app, live, generation, &machine, &channels, token.as_ref()).await {
                        Ok(()) => {
                            claimed = true;
                            live.set(Progress::Open { channels });
                        }
                        Err(why) => {
                            let sentence = format!("The machine could not be claimed: {why}.");
                            note(app, &live.id, "claim_failed", sentence, json!({ "machine": machine })).await;
                            app.machines.stop(&machine, StopReason::Failed);
                        }
                    }
                }
            }
            State::Gone { why, .. } => {
                let state = state.borrow().clone();
                note_gone(app, live, &machine, &state).await;
                return Outcome::Lost { problem: problem_of(&why), detail: why.to_string() };
            }
            other @ (State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. }) => {
                live.set(Progress::Preparing { stage: stage_of(&other) });
            }
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() {
                // The driver ended without saying gone: the server is stopping.
                std::future::pending::<()>().await;
            },
            () = live.restart.notified() => {
                note(app, &live.id, "restart_asked", "Another machine was asked for.", json!({})).await;
                app.machines.stop(&machine, StopReason::Restarted);
            }
        }
    }
}

/// The channel broke and is back: the machine is the same, only the way to it is new.
async fn reopened(app: &App, live: &Live, channels: Channels) {
    live.set(Progress::Open { channels });
    note(app, &live.id, "channel_reopened", "The way to the machine's agent was opened again.", json!({})).await;
}

/// Writes how a machine ended and what its keeper found gone.
pub(super) async fn note_gone(app: &App, live: &Live, machine: &MachineId, state: &State) {
    if let State::Gone { why, receipt } = state {
        let data = json!({ "machine": machine, "why": why, "receipt": receipt });
        let mut sentence = why.to_string();
        if let Some(first) = sentence.get(..1).map(str::to_uppercase) {
            sentence.replace_range(..1, &first);
        }
        note(app, &live.id, "machine_gone", format!("{sentence}."), data).await;
    }
}

fn problem_of(why: &GoneReason) -> Problem {
    match why {
        GoneReason::ReadyTimeout { .. } => Problem::ReadyTimeout,
        GoneReason::Mismatch { .. } => Problem::AgentMismatch,
        GoneReason::Stopped { .. }
        | GoneReason::Exited { .. }
        | GoneReason::Killed { .. }
        | GoneReason::OutOfMemory
        | GoneReason::Deadline
        | GoneReason::GuestPowerOff
        | GoneReason::GuestPanic
        | GoneReason::Hung { .. }
        | GoneReason::KeeperLost
        | GoneReason::NeverStarted { .. } => Problem::MachineGone,
    }
}
