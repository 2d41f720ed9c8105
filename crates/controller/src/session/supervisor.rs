//! The supervisor of a session: the one task that executes the commands of the session's [`Lifecycle`].
//!
//! ```text
//!   event ──▶ Lifecycle::on ──▶ commands ──▶ executed here ──▶ result ─┐
//!     ▲                                                                │
//!     └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The task finishes in two cases only: the session has ended and its machine is removed, or the server stops, and then the
//! machine keeps running for the next server. A drop guard ends the session if the task is lost to a panic.

mod claim;
mod deadlines;
mod egress_events;
mod execute;
mod jobs;
pub(super) mod machine_exit;

use super::{
    active_session::ActiveSession,
    end,
    lifecycle::{Command, Event, InitialState, Lifecycle},
    queue::{MachinePermit, QueueTicket},
};
use crate::session::launcher::Launcher;
use anteroom_machine::{ExitReason, State, StopReason};
use anteroom_store::SessionRow;
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, MachineId, Secret};
use jobs::Job;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// How a supervisor starts.
#[derive(Debug)]
pub enum Start {
    /// A session that waits in the queue.
    Queue(QueueTicket),
    /// A session whose running machine this server adopts.
    Adopted(MachineId, watch::Receiver<State>, MachinePermit),
    /// A session whose machine was requested and does not run.
    Lost {
        /// The machine.
        machine: MachineId,
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
        /// How the machine ended, if that is on record.
        state: Option<State>,
    },
    /// A session at an external desktop.
    External,
}

/// Adds the session to the registry and starts its supervisor.
pub fn spawn_supervisor(launcher: &Launcher, session: Arc<ActiveSession>, row: SessionRow, from: Start) {
    let (supervisor, first) = Supervisor::new(launcher, &session, &row, from);
    if !launcher.sessions.insert(&session) {
        return;
    }
    let guard = LostTaskGuard { launcher: launcher.clone(), session: Arc::clone(&session), finished: false };
    let launcher = launcher.clone();
    launcher.clone().tasks.spawn(async move {
        // Captures the whole guard, not a copy of its flag.
        let mut guard = guard;
        let _egress = egress_events::open(&launcher, &session);
        supervisor.run(row, first).await;
        guard.finished = true;
    });
}

/// Ends the session if its supervisor is lost to a panic.
struct LostTaskGuard {
    launcher: Launcher,
    session: Arc<ActiveSession>,
    finished: bool,
}

impl Drop for LostTaskGuard {
    fn drop(&mut self) {
        self.launcher.sessions.remove(&self.session.id);
        if self.finished || self.launcher.stop.is_cancelled() {
            return;
        }
        let (launcher, session) = (self.launcher.clone(), Arc::clone(&self.session));
        let machine = session.state().machine;
        tracing::error!(outcome = "supervisor_lost", session = %session.id, "session supervisor lost");
        self.launcher.tasks.spawn(async move {
            if let Some(machine) = machine {
                launcher.machines.stop(&machine, StopReason::Failed);
            }
            end::end_with_retries(&launcher, &session, EndReason::Internal, "The session's supervisor task was lost.")
                .await;
            session.close(EndReason::Internal);
        });
    }
}

/// A machine that runs or is being started.
struct RunningMachine {
    machine: MachineId,
    state: watch::Receiver<State>,
    /// Whether its state is still published.
    is_published: bool,
    _permit: MachinePermit,
}

/// Executes the commands of the lifecycle.
struct Supervisor {
    launcher: Launcher,
    session: Arc<ActiveSession>,
    lifecycle: Lifecycle,
    /// The place in the queue from before this task started.
    ticket: Option<QueueTicket>,
    permit: Option<MachinePermit>,
    running: Option<RunningMachine>,
    /// The agent token of the machine that this task requested.
    token: Option<Secret>,
    job: Option<Job>,
    /// How the last machine ended: exited or removed.
    machine_exit: Option<(MachineId, State)>,
    /// Whether an earlier server may have recorded the machine's exit already.
    from_earlier_server: bool,
    /// When the cleanup of a machine that was stopped or has exited must be done.
    cleanup_deadline: Option<Instant>,
    /// Whether the lifecycle has received the end of the session or of the server.
    end_received: bool,
    pending: VecDeque<Event>,
}

impl Supervisor {
    fn new(launcher: &Launcher, session: &Arc<ActiveSession>, row: &SessionRow, from: Start) -> (Self, Vec<Command>) {
        let initial = match &from {
            Start::Queue(_) => InitialState::Queued,
            Start::Adopted(..) => InitialState::Adopted,
            Start::Lost { .. } => InitialState::Lost,
            Start::External => InitialState::Attached,
        };
        let (lifecycle, commands) = Lifecycle::begin(initial, row.generation, launcher.config.sessions.restarts_max);
        let mut supervisor = Self {
            launcher: launcher.clone(),
            session: Arc::clone(session),
            lifecycle,
            ticket: None,
            permit: None,
            running: None,
            token: None,
            job: None,
            machine_exit: None,
            from_earlier_server: matches!(from, Start::Adopted(..) | Start::Lost { .. }),
            cleanup_deadline: None,
            end_received: false,
            pending: VecDeque::new(),
        };
        match from {
            Start::Queue(ticket) => supervisor.ticket = Some(ticket),
            Start::Adopted(machine, state, permit) => {
                supervisor.load_row(row, Some(&machine));
                // The claim asks its agent whether it has a credential.
                supervisor.session.update(|state| state.delivery_pending = true);
                supervisor.track(machine, state, permit);
            }
            Start::Lost { machine, reason, detail, state } => {
                supervisor.machine_exit = state.map(|state| (machine, state));
                supervisor.pending.push_back(Event::MachineRemoved { reason, detail });
            }
            Start::External => supervisor.load_row(row, None),
        }
        (supervisor, commands)
    }

    /// Copies the row's facts into the state before the session is visible.
    fn load_row(&self, row: &SessionRow, machine: Option<&MachineId>) {
        self.session.update(|state| {
            state.generation = row.generation;
            state.machine = machine.cloned();
            state.agent_token.clone_from(&row.agent_token);
        });
    }

    fn track(&mut self, machine: MachineId, mut state: watch::Receiver<State>, permit: MachinePermit) {
        // The first state counts as a change.
        state.mark_changed();
        self.running = Some(RunningMachine { machine, state, is_published: true, _permit: permit });
    }

    /// Executes commands and applies events until the lifecycle is finished.
    async fn run(mut self, row: SessionRow, first: Vec<Command>) {
        let recheck_every = Duration::from_millis(self.launcher.config.sessions.reconcile_every_ms);
        let (launcher, session) = (self.launcher.clone(), Arc::clone(&self.session));
        let deadline_passed =
            |after| deadlines::deadline_passed(launcher.clone(), Arc::clone(&session), row.clone(), after);
        let mut deadline = Box::pin(deadline_passed(Duration::ZERO));
        let mut commands = first;
        loop {
            for command in commands {
                if let Some(event) = self.execute(command).await {
                    self.pending.push_back(event);
                }
            }
            if self.lifecycle.is_finished() {
                return;
            }
            let event = match self.pending.pop_front() {
                Some(event) => event,
                None => {
                    tokio::select! {
                        biased;
                        event = self.next_event() => event,
                        event = &mut deadline => {
                            // It stays overdue until the end is written, so the event repeats at intervals.
                            deadline.set(deadline_passed(recheck_every));
                            event
                        }
                    }
                }
            };
            tracing::trace!(session = %self.session.id, phase = ?self.lifecycle.phase(), ?event, "lifecycle event received");
            commands = self.lifecycle.handle_event(event);
        }
    }

    /// The next event other than a deadline. Cancel-safe.
    async fn next_event(&mut self) -> Event {
        let known = self.lifecycle.delivery();
        let mut state = self.session.watch();
        let Self { session, job, running, cleanup_deadline, end_received, permit, .. } = self;
        let event = tokio::select! {
            biased;
            // The session owns the sender, so it does not close.
            Ok(now) = state.wait_for(|state| state.delivery() != known) => Event::DeliveryChanged(now.delivery()),
            cause = session.close_signal.closed(), if !*end_received => {
                *end_received = true;
                match cause {
                    CloseCause::SessionEnded(reason) => Event::SessionEnded(reason),
                    // `MachineReplaced` closes only the sockets of one machine, never the session.
                    CloseCause::ServerStopping | CloseCause::MachineReplaced => Event::ServerStopping,
                }
            }
            done = jobs::next(job) => {
                *job = None;
                if done.permit.is_some() {
                    *permit = done.permit;
                }
                done.event
            }
            next_state = next_state(running) => return self.machine_event(next_state),
            () = session.restart_requested.notified() => Event::RestartRequested,
            () = sleep_until(*cleanup_deadline) => {
                *cleanup_deadline = None;
                Event::CleanupTimedOut
            }
        };
        event
    }

    /// The event for a change of the machine's state.
    fn machine_event(&mut self, next_state: Option<State>) -> Event {
        match next_state {
            None => Event::WatcherClosed,
            Some(State::Ready { .. }) => Event::MachineReady,
            Some(State::Exited { reason }) => {
                let event = Event::MachineExited { reason: end_reason_of(&reason), detail: reason.to_string() };
                self.machine_exit =
                    self.running.as_ref().map(|running| (running.machine.clone(), State::Exited { reason }));
                event
            }
            Some(State::Removed { reason, receipt }) => {
                self.cleanup_deadline = None;
                let event = Event::MachineRemoved { reason: end_reason_of(&reason), detail: reason.to_string() };
                // Dropping it frees the permit.
                if let Some(running) = self.running.take() {
                    self.machine_exit = Some((running.machine, State::Removed { reason, receipt }));
                }
                event
            }
            Some(State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. }) => {
                Event::MachineNotReady
            }
        }
    }
}

/// The machine's next state; `None`: it is no longer published.
async fn next_state(running: &mut Option<RunningMachine>) -> Option<State> {
    match running {
        Some(running) if running.is_published => match running.state.changed().await {
            Ok(()) => Some(running.state.borrow_and_update().clone()),
            Err(_) => {
                running.is_published = false;
                None
            }
        },
        Some(_) | None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The reason for which the session ends if its last machine ended with `why`.
fn end_reason_of(why: &ExitReason) -> EndReason {
    match why {
        ExitReason::ReadyTimeout { .. } => EndReason::ReadyTimeout,
        ExitReason::Mismatch { .. } => EndReason::AgentMismatch,
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
        | ExitReason::NeverStarted { .. } => EndReason::MachineFailed,
    }
}
