//! The parts of the session's machine that its supervisor owns, from the place in the queue to the removal.
//!
//! ```text
//!  Queued{ticket} ─┐
//!                  ├─▶ Permitted{permit} ─▶ Requested{id, token, permit} ─▶ Started{id, watch, permit} ─▶ Removed{exit} ─▶ Empty
//!  Empty ──────────┘                                                             ▲
//!                                            (adopted from an earlier server) ───┘
//!                                            (a warm machine is requested and started in the same way, and runs already)
//! ```
//!
//! The permit is freed when the machine is removed: another session may then start one.

use super::exit_record::ExitRecord;
use crate::{
    session::queue::{MachinePermit, QueueTicket},
    warm_machines::TakenMachine,
};
use anteroom_machine::{ExitReason, Receipt, State};
use anteroom_wire::{MachineId, Secret};
use tokio::{sync::watch, time::Instant};

/// The machine of a session, as far as it exists.
#[derive(Debug, Default)]
pub(super) enum MachineSlot {
    /// There is none.
    #[default]
    Empty,
    /// A place in the queue from before the supervisor started.
    Queued(QueueTicket),
    /// A machine may be requested.
    Permitted(MachinePermit),
    /// The request for a machine is being recorded.
    Requested(RequestedMachine),
    /// A machine was started and is not removed.
    Started(StartedMachine),
    /// A machine is removed, and its removal is not recorded.
    Removed(ExitRecord),
}

/// A machine that is not started.
#[derive(Debug)]
pub(super) struct RequestedMachine {
    pub(super) id: MachineId,
    pub(super) token: Secret,
    pub(super) permit: MachinePermit,
    /// It runs already.
    pub(super) warm: Option<TakenMachine>,
}

/// A machine that was started and is not removed.
#[derive(Debug)]
pub(super) struct StartedMachine {
    pub(super) id: MachineId,
    pub(super) origin: MachineOrigin,
    watch: MachineWatch,
    /// When its cleanup must be done; `None`: it is not being stopped and has not exited, or the deadline has passed.
    cleanup_deadline: Option<Instant>,
    _permit: MachinePermit,
}

/// Which server requested a machine.
#[derive(Debug, Clone)]
pub(super) enum MachineOrigin {
    /// This one, with this agent token.
    Requested(Secret),
    /// An earlier one: its token never left that server.
    Adopted,
}

/// The state of a machine as the machine crate publishes it.
#[derive(Debug)]
enum MachineWatch {
    Published(watch::Receiver<State>),
    /// It is no longer published; the last state.
    Closed(State),
}

/// A command of the lifecycle that does not match the slot.
#[derive(Debug, thiserror::Error)]
pub(super) enum SlotError {
    #[error("the machine was requested without a permit")]
    NoPermit,
    #[error("the machine was started before it was requested")]
    NotRequested,
}

impl MachineSlot {
    /// Takes the place in the queue, if there is one.
    pub(super) fn take_ticket(&mut self) -> Option<QueueTicket> {
        match std::mem::take(self) {
            Self::Queued(ticket) => Some(ticket),
            other @ (Self::Empty | Self::Permitted(_) | Self::Requested(_) | Self::Started(_) | Self::Removed(_)) => {
                *self = other;
                None
            }
        }
    }

    /// Enters the machine that the permit allows.
    ///
    /// # Errors
    /// There is no permit.
    pub(super) fn request(
        &mut self,
        id: MachineId,
        token: Secret,
        warm: Option<TakenMachine>,
    ) -> Result<(), SlotError> {
        match std::mem::take(self) {
            Self::Permitted(permit) => {
                *self = Self::Requested(RequestedMachine { id, token, permit, warm });
                Ok(())
            }
            other @ (Self::Empty | Self::Queued(_) | Self::Requested(_) | Self::Started(_) | Self::Removed(_)) => {
                *self = other;
                Err(SlotError::NoPermit)
            }
        }
    }

    /// Takes the machine to be started. If it is not started, its permit is freed.
    ///
    /// # Errors
    /// No machine is requested.
    pub(super) fn take_requested(&mut self) -> Result<RequestedMachine, SlotError> {
        match std::mem::take(self) {
            Self::Requested(requested) => Ok(requested),
            other @ (Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Started(_) | Self::Removed(_)) => {
                *self = other;
                Err(SlotError::NotRequested)
            }
        }
    }

    /// The started machine is removed: frees its permit, and keeps how it ended.
    pub(super) fn remove_started(&mut self, reason: ExitReason, receipt: Option<Box<Receipt>>) {
        match std::mem::take(self) {
            Self::Started(started) => *self = Self::Removed(started.into_exit(reason, receipt)),
            other @ (Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Requested(_) | Self::Removed(_)) => {
                *self = other
            }
        }
    }

    /// Takes the record of the removed machine.
    pub(super) fn take_removed(&mut self) -> Option<ExitRecord> {
        match std::mem::take(self) {
            Self::Removed(exit) => Some(exit),
            other @ (Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Requested(_) | Self::Started(_)) => {
                *self = other;
                None
            }
        }
    }

    /// The started machine.
    pub(super) fn started(&self) -> Option<&StartedMachine> {
        match self {
            Self::Started(started) => Some(started),
            Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Requested(_) | Self::Removed(_) => None,
        }
    }

    fn started_mut(&mut self) -> Option<&mut StartedMachine> {
        match self {
            Self::Started(started) => Some(started),
            Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Requested(_) | Self::Removed(_) => None,
        }
    }

    /// How the machine ended; `None`: it has not exited, or there is none.
    pub(super) fn exit_record(&self) -> Option<ExitRecord> {
        match self {
            Self::Started(started) => started.exit(),
            Self::Removed(exit) => Some(exit.clone()),
            Self::Empty | Self::Queued(_) | Self::Permitted(_) | Self::Requested(_) => None,
        }
    }

    /// When the cleanup of the started machine must be done.
    pub(super) fn cleanup_deadline(&self) -> Option<Instant> {
        self.started()?.cleanup_deadline
    }

    /// Sets or clears the deadline for the cleanup of the started machine.
    pub(super) fn set_cleanup_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(started) = self.started_mut() {
            started.cleanup_deadline = deadline;
        }
    }

    /// Waits for the next state of the started machine. `None`, once: it is no longer published. Cancel-safe.
    pub(super) async fn next_state(&mut self) -> Option<State> {
        match self.started_mut().map(|started| &mut started.watch) {
            Some(watch @ MachineWatch::Published(_)) => watch.next().await,
            Some(MachineWatch::Closed(_)) | None => std::future::pending().await,
        }
    }
}

impl StartedMachine {
    /// A machine with this published state. Its first state counts as a change.
    pub(super) fn new(
        id: MachineId,
        origin: MachineOrigin,
        mut state: watch::Receiver<State>,
        permit: MachinePermit,
    ) -> Self {
        state.mark_changed();
        Self { id, origin, watch: MachineWatch::Published(state), cleanup_deadline: None, _permit: permit }
    }

    /// Its current state, also if the supervisor has not received it yet.
    pub(super) fn state(&self) -> State {
        match &self.watch {
            MachineWatch::Published(state) => state.borrow().clone(),
            MachineWatch::Closed(last) => last.clone(),
        }
    }

    /// How it ended; `None`: it has not exited.
    fn exit(&self) -> Option<ExitRecord> {
        let (reason, receipt) = match self.state() {
            State::Exited { reason } => (reason, None),
            State::Removed { reason, receipt } => (reason, receipt),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. } => return None,
        };
        Some(ExitRecord::new(self.id.clone(), reason, receipt, self.is_adopted()))
    }

    fn into_exit(self, reason: ExitReason, receipt: Option<Box<Receipt>>) -> ExitRecord {
        let is_adopted = self.is_adopted();
        ExitRecord::new(self.id, reason, receipt, is_adopted)
    }

    fn is_adopted(&self) -> bool {
        matches!(self.origin, MachineOrigin::Adopted)
    }
}

impl MachineWatch {
    /// The next state; `None`: it is no longer published.
    async fn next(&mut self) -> Option<State> {
        let Self::Published(state) = self else { return None };
        match state.changed().await {
            Ok(()) => Some(state.borrow_and_update().clone()),
            Err(_) => {
                let last = state.borrow().clone();
                *self = Self::Closed(last);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::queue::{MachineQueue, QueueLimits, SessionOwner};
    use anteroom_machine::StopReason;
    use anteroom_wire::CallerId;

    fn permit(queue: &MachineQueue) -> MachinePermit {
        let owner = SessionOwner { caller: CallerId::from_parts(1, [1; 10]), user_id: None };
        queue.enqueue(&owner).unwrap().try_acquire().unwrap()
    }

    fn queue() -> MachineQueue {
        let (waiting_max, waiting_by_caller_max, waiting_by_user_max, machines_by_caller_max) = (1, 1, 1, 1);
        let limits = QueueLimits { waiting_max, waiting_by_caller_max, waiting_by_user_max, machines_by_caller_max };
        MachineQueue::new(1, limits)
    }

    fn machine() -> MachineId {
        MachineId::from_parts(1, [2; 10])
    }

    fn stopped() -> ExitReason {
        ExitReason::Stopped { reason: StopReason::Cancelled }
    }

    #[test]
    fn a_machine_is_requested_only_with_a_permit_and_started_only_when_requested() {
        let queue = queue();
        let token = || Secret::new("agt_token".to_owned());
        let mut slot = MachineSlot::default();
        assert!(matches!(slot.request(machine(), token(), None), Err(SlotError::NoPermit)));
        slot = MachineSlot::Permitted(permit(&queue));
        assert!(matches!(slot.take_requested(), Err(SlotError::NotRequested)));
        slot.request(machine(), token(), None).unwrap();
        let requested = slot.take_requested().unwrap();
        assert_eq!((requested.id.clone(), queue.free_permits()), (machine(), 0));
        drop(requested);
        assert_eq!(queue.free_permits(), 1, "a machine that was not started frees its permit");
    }

    #[tokio::test]
    async fn the_permit_is_freed_when_the_machine_is_removed_and_not_when_it_exits() {
        let queue = queue();
        let (sender, state) = watch::channel(State::Requested);
        let mut slot =
            MachineSlot::Started(StartedMachine::new(machine(), MachineOrigin::Adopted, state, permit(&queue)));
        assert!(matches!(slot.next_state().await, Some(State::Requested)), "the first state counts as a change");
        assert!(slot.exit_record().is_none());
        sender.send_replace(State::Exited { reason: stopped() });
        assert!(matches!(slot.next_state().await, Some(State::Exited { .. })));
        assert!(slot.exit_record().is_some() && slot.take_removed().is_none());
        assert_eq!(queue.free_permits(), 0);
        slot.remove_started(stopped(), None);
        assert_eq!(queue.free_permits(), 1);
        assert!(slot.started().is_none() && slot.take_removed().is_some() && slot.exit_record().is_none());
    }

    #[tokio::test]
    async fn the_end_of_publication_is_reported_once_and_the_last_state_stays_known() {
        let queue = queue();
        let (sender, state) = watch::channel(State::Cloning);
        let mut slot =
            MachineSlot::Started(StartedMachine::new(machine(), MachineOrigin::Adopted, state, permit(&queue)));
        drop(sender);
        assert!(matches!(slot.next_state().await, Some(State::Cloning)));
        assert!(slot.next_state().await.is_none());
        let again = tokio::time::timeout(std::time::Duration::from_millis(10), slot.next_state()).await;
        assert!(again.is_err());
        assert!(matches!(slot.started().map(StartedMachine::state), Some(State::Cloning)));
    }
}
