//! A session's owner: the one task that carries out what the session's [`Lifecycle`] decides.
//!
//! ```text
//!   what happened ──▶ Lifecycle::on ──▶ orders ──▶ carried out here ──▶ what came of it ─┐
//!        ▲                                                                               │
//!        └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It ends in one of two ways only: the row has ended (whoever wrote that), or the server stops; then the machine lives on
//! for the next server. Its drop guard writes an end for a task that vanished without one.

mod claim;
mod deadlines;
mod egress_events;
mod execute;
mod jobs;
pub(super) mod machine_exit;

use super::{
    active_session::ActiveSession,
    end,
    lifecycle::{Beginning, EndKind, Event, Lifecycle, Order},
    queue::{Place, Room},
};
use crate::app::App;
use anteroom_machine::{ExitReason, State, StopReason};
use anteroom_store::SessionRow;
use anteroom_wire::{MachineId, Problem, Secret};
use jobs::Job;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Where an owner begins.
#[derive(Debug)]
pub enum Start {
    /// A session, standing in line.
    Queue(Place),
    /// A session whose machine lives already; this server took it over.
    Adopted(MachineId, watch::Receiver<State>, Room),
    /// A session whose machine was asked for and is not there.
    Lost {
        /// Which.
        machine: MachineId,
        /// How the session ends if it may have no other machine.
        problem: Problem,
        /// What is particular.
        detail: String,
        /// What is on record of its end.
        state: Option<State>,
    },
    /// A session at a desktop that exists outside.
    External,
}

/// Starts the owner of a session that is entered in the register.
pub fn spawn_supervisor(app: &App, live: Arc<ActiveSession>, row: SessionRow, from: Start) {
    let (driver, first) = Driver::new(app, &live, &row, from);
    if !app.sessions.insert(&live) {
        return;
    }
    let guard = Guard { app: app.clone(), live: Arc::clone(&live), done: false };
    let app = app.clone();
    app.clone().tasks.spawn(async move {
        // The whole guard, not a copy of its flag.
        let mut guard = guard;
        let _egress = egress_events::open(&app, &live);
        driver.run(row, first).await;
        guard.done = true;
    });
}

/// Writes an end for a session whose owner vanished (a panic, a lost task).
struct Guard {
    app: App,
    live: Arc<ActiveSession>,
    done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.app.sessions.remove(&self.live.id);
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
            end::end_at_last(&app, &live, EndKind::Failed, Problem::Internal, "The session's owner task was lost.")
                .await;
            live.close(Problem::Internal);
        });
    }
}

/// A machine that lives, or is being started.
struct Held {
    machine: MachineId,
    state: watch::Receiver<State>,
    /// Whether anybody still writes its state.
    watched: bool,
    _room: Room,
}

/// The lifecycle and what is needed to carry it out.
struct Driver {
    app: App,
    live: Arc<ActiveSession>,
    life: Lifecycle,
    /// A place in line that was taken before this task began.
    place: Option<Place>,
    room: Option<Room>,
    held: Option<Held>,
    /// The token of the machine that was asked for by this task.
    token: Option<Secret>,
    job: Option<Job>,
    /// How the last machine ended: dead, or gone.
    gone: Option<(MachineId, State)>,
    /// Whether a former server may have told of the present machine's end.
    inherited: bool,
    /// When a machine that was told to stop, or has died, must be gone.
    gone_by: Option<Instant>,
    /// Whether the lifecycle knows that the row has ended or the server stops.
    told: bool,
    due: VecDeque<Event>,
}

impl Driver {
    fn new(app: &App, live: &Arc<ActiveSession>, row: &SessionRow, from: Start) -> (Self, Vec<Order>) {
        let beginning = match &from {
            Start::Queue(_) => Beginning::Line,
            Start::Adopted(..) => Beginning::Adopted,
            Start::Lost { .. } => Beginning::Lost,
            Start::External => Beginning::Attached,
        };
        let (life, orders) = Lifecycle::begin(beginning, row.generation, app.config.sessions.restarts_max);
        let mut driver = Self {
            app: app.clone(),
            live: Arc::clone(live),
            life,
            place: None,
            room: None,
            held: None,
            token: None,
            job: None,
            gone: None,
            inherited: matches!(from, Start::Adopted(..) | Start::Lost { .. }),
            gone_by: None,
            told: false,
            due: VecDeque::new(),
        };
        match from {
            Start::Queue(place) => driver.place = Some(place),
            Start::Adopted(machine, state, room) => {
                driver.known(row, Some(&machine));
                // What it has to deliver is asked of its agent.
                driver.live.change(|facts| facts.offered = true);
                driver.hold(machine, state, room);
            }
            Start::Lost { machine, problem, detail, state } => {
                driver.gone = state.map(|state| (machine, state));
                driver.due.push_back(Event::MachineGone { problem, detail });
            }
            Start::External => driver.known(row, None),
        }
        (driver, orders)
    }

    /// What the row says is known before anybody can ask.
    fn known(&self, row: &SessionRow, machine: Option<&MachineId>) {
        self.live.change(|facts| {
            facts.generation = row.generation;
            facts.machine = machine.cloned();
            facts.agent_token.clone_from(&row.agent_token);
        });
    }

    fn hold(&mut self, machine: MachineId, mut state: watch::Receiver<State>, room: Room) {
        // What it is now is news too.
        state.mark_changed();
        self.held = Some(Held { machine, state, watched: true, _room: room });
    }

    /// Carries out orders and hears what happens until nothing is left to do.
    async fn run(mut self, row: SessionRow, first: Vec<Order>) {
        let look_every = Duration::from_millis(self.app.config.sessions.sweep_every_ms);
        let (app, live) = (self.app.clone(), Arc::clone(&self.live));
        let overdue = |after| deadlines::overdue(app.clone(), Arc::clone(&live), row.clone(), after);
        let mut deadline = Box::pin(overdue(Duration::ZERO));
        let mut orders = first;
        loop {
            for order in orders {
                if let Some(event) = self.execute(order).await {
                    self.due.push_back(event);
                }
            }
            if self.life.is_over() {
                return;
            }
            let event = match self.due.pop_front() {
                Some(event) => event,
                None => {
                    tokio::select! {
                        biased;
                        event = self.next() => event,
                        event = &mut deadline => {
                            // It stays overdue until its end is written and its machine gone: said now and then, not for ever at once.
                            deadline.set(overdue(look_every));
                            event
                        }
                    }
                }
            };
            tracing::trace!(session = %self.live.id, phase = ?self.life.phase(), ?event, "session");
            orders = self.life.on(event);
        }
    }

    /// The next thing that happens, but for deadlines. Nothing is lost when it is dropped.
    async fn next(&mut self) -> Event {
        let known = self.life.delivery();
        let mut facts = self.live.watch();
        let Self { live, job, held, gone_by, told, room, .. } = self;
        let event = tokio::select! {
            biased;
            // The sender is the session's own: it does not close.
            Ok(now) = facts.wait_for(|facts| facts.delivery() != known) => Event::Delivery(now.delivery()),
            why = live.close_signal.closed(), if !*told => {
                *told = true;
                if why == Problem::ShuttingDown { Event::ServerStops } else { Event::Ended(why) }
            }
            done = jobs::next(job) => {
                *job = None;
                if done.room.is_some() {
                    *room = done.room;
                }
                done.event
            }
            seen = seen(held) => return self.heard(seen),
            () = live.restart.notified() => Event::RestartAsked,
            () = until(*gone_by) => {
                *gone_by = None;
                Event::GoneOverdue
            }
        };
        event
    }

    /// What a change of the machine's state means.
    fn heard(&mut self, seen: Option<State>) -> Event {
        match seen {
            None => Event::Unwatched,
            Some(State::Ready { .. }) => Event::MachineReady,
            Some(State::Exited { why }) => {
                let event = Event::MachineDied { problem: problem_of(&why), detail: why.to_string() };
                self.gone = self.held.as_ref().map(|held| (held.machine.clone(), State::Exited { why }));
                event
            }
            Some(State::Removed { why, receipt }) => {
                self.gone_by = None;
                let event = Event::MachineGone { problem: problem_of(&why), detail: why.to_string() };
                // The room comes free with it.
                if let Some(held) = self.held.take() {
                    self.gone = Some((held.machine, State::Removed { why, receipt }));
                }
                event
            }
            Some(State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. }) => {
                Event::MachineNotReady
            }
        }
    }
}

/// The machine's next state; `None`: nobody writes it any more.
async fn seen(held: &mut Option<Held>) -> Option<State> {
    match held {
        Some(held) if held.watched => match held.state.changed().await {
            Ok(()) => Some(held.state.borrow_and_update().clone()),
            Err(_) => {
                held.watched = false;
                None
            }
        },
        Some(_) | None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn problem_of(why: &ExitReason) -> Problem {
    match why {
        ExitReason::ReadyTimeout { .. } => Problem::ReadyTimeout,
        ExitReason::Mismatch { .. } => Problem::AgentMismatch,
        ExitReason::Stopped { .. }
        | ExitReason::Exited { .. }
        | ExitReason::Killed { .. }
        | ExitReason::Hung { .. }
        | ExitReason::OutOfMemory
        | ExitReason::Deadline
        | ExitReason::GuestPowerOff
        | ExitReason::GuestPanic
        | ExitReason::VmmError { .. }
        | ExitReason::KeeperLost
        | ExitReason::NeverStarted { .. } => Problem::MachineFailed,
    }
}
