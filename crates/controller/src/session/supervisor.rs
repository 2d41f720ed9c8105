//! The supervisor of a session: the one task that executes the commands of the session's [`Lifecycle`].
//!
//! ```text
//!   event ──▶ Lifecycle::handle_event ──▶ commands ──▶ executed here ──▶ result ─┐
//!     ▲                                                                          │
//!     └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The task finishes in two cases only: the session has ended and its machine is removed, or the server stops, and then the
//! machine keeps running for the next server. A drop guard ends the session if the task is lost to a panic.

mod claim;
mod deadlines;
mod egress_events;
mod execute;
pub(super) mod exit_record;
mod jobs;
mod machine_slot;
mod restored_sign_in;
pub(crate) mod use_turn;

use super::{
    active_session::{ActiveSession, CurrentMachine, MachineHost},
    end,
    lifecycle::{Command, Event, InitialState, Lifecycle},
    queue::{ExternalMachineUse, MachinePermit, QueueTicket, SessionOwner},
};
use crate::{
    credentials::turns::{CredentialTurn, TurnTicket},
    session::server_context::ServerContext,
};
use anteroom_machine::{ExitReason, State, StopReason};
use anteroom_store::{SessionRow, Sha256Hex};
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, MachineId};
use exit_record::ExitRecord;
use jobs::{Job, JobResult};
use machine_slot::{MachineOrigin, MachineSlot, StartedMachine};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use use_turn::UseTurn;

/// How a supervisor starts.
#[derive(Debug)]
pub enum SupervisorStart {
    /// A session that waits in the queue.
    Queue {
        /// Its place in the queue for machines.
        ticket: QueueTicket,
        /// Its place in the line for the credential that it uses; `None`: it joins the line when it needs its turn.
        turn: Option<TurnTicket>,
    },
    /// A session whose running machine this server adopts.
    Adopted {
        /// The machine.
        machine: MachineId,
        /// The hash of its agent token.
        agent_token: Sha256Hex,
        /// Its published state.
        state: watch::Receiver<State>,
        /// The permit for it.
        permit: MachinePermit,
        /// The turn with the credential that it has, if that needs one.
        turn: Option<CredentialTurn>,
    },
    /// A session whose machine was requested and does not run.
    Lost {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
        /// How the machine ended, if that is on record.
        exit: Option<ExitRecord>,
    },
    /// A session at an external desktop.
    External {
        /// The hash of the token of the external machine's agent.
        agent_token: Sha256Hex,
        /// Counts it as a machine of the caller.
        machine_use: ExternalMachineUse,
        /// The turn with the credential that it renews: it has no queue in which it could wait.
        turn: Option<CredentialTurn>,
    },
}

/// Adds the session to the registry and starts its supervisor.
pub fn spawn_supervisor(
    server_context: &ServerContext,
    session: Arc<ActiveSession>,
    row: SessionRow,
    from: SupervisorStart,
) {
    let (supervisor, first) = Supervisor::new(server_context, &session, &row, from);
    if !server_context.sessions.insert(&session) {
        return;
    }
    let guard =
        LostTaskGuard { server_context: server_context.clone(), session: Arc::clone(&session), finished: false };
    let server_context = server_context.clone();
    server_context.clone().tasks.spawn(async move {
        // Captures the whole guard, not a copy of its flag.
        let mut guard = guard;
        let _egress = egress_events::open_egress_gate(&server_context, &session);
        supervisor.run(row, first).await;
        guard.finished = true;
    });
}

/// Ends the session if its supervisor is lost to a panic.
struct LostTaskGuard {
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    finished: bool,
}

impl Drop for LostTaskGuard {
    fn drop(&mut self) {
        self.server_context.sessions.remove(&self.session.id);
        if self.finished || self.server_context.stop.is_cancelled() {
            return;
        }
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        let machine = session.state().machine_id().cloned();
        tracing::error!(outcome = "supervisor_lost", session = %session.id, "session supervisor lost");
        self.server_context.tasks.spawn(async move {
            if let Some(machine) = machine {
                server_context.machines.stop(&machine, StopReason::Failed);
            }
            end::end_session_with_retries(
                &server_context,
                &session,
                EndReason::Internal,
                "The session's supervisor task was lost.",
            )
            .await;
            session.close(EndReason::Internal);
        });
    }
}

/// Executes the commands of the lifecycle.
struct Supervisor {
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    owner: SessionOwner,
    external_machine: Option<ExternalMachineUse>,
    lifecycle: Lifecycle,
    slot: MachineSlot,
    use_turn: UseTurn,
    job: Option<Job>,
    pending: VecDeque<Event>,
}

impl Supervisor {
    fn new(
        server_context: &ServerContext,
        session: &Arc<ActiveSession>,
        row: &SessionRow,
        mut from: SupervisorStart,
    ) -> (Self, Vec<Command>) {
        let use_turn = UseTurn::new(row, &session.provider(), &mut from);
        let initial = match &from {
            SupervisorStart::Queue { .. } => InitialState::Queued,
            SupervisorStart::Adopted { .. } => InitialState::Adopted,
            SupervisorStart::Lost { .. } => InitialState::Lost,
            SupervisorStart::External { .. } => InitialState::Attached,
        };
        let (lifecycle, commands) =
            Lifecycle::begin(initial, row.generation, server_context.config().sessions.restarts_max);
        let mut supervisor = Self {
            server_context: server_context.clone(),
            session: Arc::clone(session),
            owner: SessionOwner::of_row(row),
            external_machine: None,
            lifecycle,
            slot: MachineSlot::Empty,
            use_turn,
            job: None,
            pending: VecDeque::new(),
        };
        match from {
            SupervisorStart::Queue { ticket, .. } => supervisor.slot = MachineSlot::Queued(ticket),
            SupervisorStart::Adopted { machine, agent_token, state, permit, .. } => {
                let host = MachineHost::ThisServer(machine.clone());
                // Whether its agent has a credential is unknown until the claim asks it.
                let current =
                    CurrentMachine { delivery_pending: true, ..CurrentMachine::new(host, row.generation, agent_token) };
                session.update_state(|state| state.machine = Some(current));
                let started = StartedMachine::new(machine, MachineOrigin::Adopted, state, permit);
                supervisor.slot = MachineSlot::Started(started);
            }
            SupervisorStart::Lost { reason, detail, exit } => {
                supervisor.slot = exit.map_or(MachineSlot::Empty, MachineSlot::Removed);
                supervisor.pending.push_back(Event::MachineRemoved { reason, detail });
            }
            SupervisorStart::External { agent_token, machine_use, .. } => {
                supervisor.external_machine = Some(machine_use);
                let current = CurrentMachine::new(MachineHost::External, row.generation, agent_token);
                session.update_state(|state| state.machine = Some(current));
            }
        }
        (supervisor, commands)
    }

    /// Executes commands and applies events until the lifecycle is finished.
    async fn run(mut self, row: SessionRow, first: Vec<Command>) {
        let recheck_every = Duration::from_millis(self.server_context.limits.sessions.reconcile_every_ms);
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        let deadline_passed =
            |after| deadlines::deadline_passed(server_context.clone(), Arc::clone(&session), row.clone(), after);
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
        let mut state = self.session.subscribe_state();
        let Self { session, lifecycle, job, slot, use_turn, .. } = self;
        let (cleanup_deadline, has_received_end) = (slot.cleanup_deadline(), lifecycle.phase().has_received_end());
        tokio::select! {
            biased;
            // The session owns the sender, so it does not close.
            Ok(now) = state.wait_for(|state| state.delivery() != known) => Event::DeliveryChanged(now.delivery()),
            cause = session.close_signal.wait_closed(), if !has_received_end => match cause {
                CloseCause::SessionEnded(reason) => Event::SessionEnded(reason),
                // The others close only sockets, never the session.
                CloseCause::ServerStopping
                | CloseCause::ClusterContactLost
                | CloseCause::MachineReplaced
                | CloseCause::CallerRevoked
                | CloseCause::HelperEnded
                | CloseCause::ViewerReplaced
                | CloseCause::CallerExpired => Event::ServerStopping,
            },
            done = jobs::next_result(job) => {
                *job = None;
                match done {
                    JobResult::Event(event) => event,
                    JobResult::Permit(permit, turn) => {
                        use_turn.set_held(turn);
                        *slot = MachineSlot::Permitted(permit);
                        Event::PermitGranted
                    }
                }
            }
            next_state = slot.next_state() => self.machine_event(next_state),
            () = session.restart_requested.notified() => Event::RestartRequested,
            () = sleep_until(cleanup_deadline) => {
                slot.set_cleanup_deadline(None);
                Event::CleanupTimedOut
            }
        }
    }

    /// The event for a change of the machine's state.
    fn machine_event(&mut self, next_state: Option<State>) -> Event {
        match next_state {
            None => Event::WatcherClosed,
            Some(State::Ready { .. }) => Event::MachineReady,
            Some(State::Exited { reason }) => {
                Event::MachineExited { reason: end_reason_of(&reason), detail: reason.to_string() }
            }
            Some(State::Removed { reason, receipt }) => {
                let event = Event::MachineRemoved { reason: end_reason_of(&reason), detail: reason.to_string() };
                self.slot.remove_started(reason, receipt);
                event
            }
            Some(State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. }) => {
                Event::MachineNotReady
            }
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The reason for which the session ends if its last machine ended with `why`.
pub(super) fn end_reason_of(why: &ExitReason) -> EndReason {
    match why {
        ExitReason::ReadyTimeout { .. } => EndReason::ReadyTimeout,
        ExitReason::Mismatch { .. } => EndReason::AgentMismatch,
        ExitReason::ForbiddenSystemCall { .. } => EndReason::MachineCompromised,
        ExitReason::Stopped { .. }
        | ExitReason::Exited { .. }
        | ExitReason::Killed { .. }
        | ExitReason::Hung { .. }
        | ExitReason::ChannelViolation { .. }
        | ExitReason::OutOfMemory
        | ExitReason::Deadline
        | ExitReason::RenewDeadline
        | ExitReason::GuestPowerOff
        | ExitReason::GuestPanic
        | ExitReason::VmmError { .. }
        | ExitReason::KeeperLost
        | ExitReason::NeverStarted { .. } => EndReason::MachineFailed,
    }
}
