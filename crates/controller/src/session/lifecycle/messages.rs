//! The inputs and outputs of the lifecycle: events, commands and timeline entries.

use super::DeliveryState;
use anteroom_machine::StopReason;
use anteroom_wire::EndReason;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The queue granted a permit for a machine.
    PermitGranted,
    /// No permit was granted in time, or the session's turn with its credential did not come.
    QueueTimedOut {
        /// The reason with which the session ends.
        reason: EndReason,
        /// For how long it waited.
        detail: String,
    },
    /// The request for this generation's machine is recorded in the row.
    RequestRecorded,
    /// The machine is being started.
    MachineStarted,
    /// The machine cannot be started.
    StartFailed {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// The machine is not ready (yet, or no longer).
    MachineNotReady,
    /// The machine is ready.
    MachineReady,
    /// The machine's process has ended; its keeper is still cleaning up.
    MachineExited {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// The machine is removed: its keeper has finished cleaning up.
    MachineRemoved {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// The machine is claimed for this session.
    Claimed,
    /// The claim failed.
    ClaimFailed {
        /// The reason, for people.
        why: String,
    },
    /// The replacement of the machine is recorded in the row.
    ReplacementRecorded,
    /// The wait before the next machine has elapsed.
    BackoffElapsed,
    /// A caller requested another machine.
    RestartRequested,
    /// The state of the current machine's delivery changed.
    DeliveryChanged(DeliveryState),
    /// A deadline has passed.
    DeadlinePassed {
        /// Which deadline.
        reason: EndReason,
        /// Details for people.
        detail: String,
        /// Whether a pending delivery has postponed the deadline for as long as it may.
        hold_expired: bool,
    },
    /// The session has ended in the database, with this reason.
    SessionEnded(EndReason),
    /// The server is stopping.
    ServerStopping,
    /// The machine was stopped or exited, and its cleanup did not finish in time.
    CleanupTimedOut,
    /// The machine's state is no longer published: the server is stopping.
    WatcherClosed,
}

/// What the supervisor has to do. At most one long-running command is in progress; the next one replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Long-running: wait in the queue; ends with [`Event::PermitGranted`] or [`Event::QueueTimedOut`].
    Enqueue,
    /// Long-running: record the request for a machine; ends with [`Event::RequestRecorded`].
    RequestMachine,
    /// Start the machine: [`Event::MachineStarted`] or [`Event::StartFailed`].
    StartMachine,
    /// Long-running: claim the machine for this session; ends with [`Event::Claimed`] or [`Event::ClaimFailed`].
    ClaimMachine,
    /// Long-running: record that the machine is replaced; ends with [`Event::ReplacementRecorded`].
    RecordReplacement {
        /// The reason.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// Long-running: wait; ends with [`Event::BackoffElapsed`].
    BackOff {
        /// How long, milliseconds.
        ms: u64,
    },
    /// Long-running: write the session's end, with retries until it succeeds; ends with [`Event::SessionEnded`].
    EndSession {
        /// The reason.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// Reject further deliveries from the machine; answers at once with [`Event::DeliveryChanged`].
    StopAwaitingDeliveries,
    /// Stop the machine.
    StopMachine(StopReason),
    /// Cancel the long-running command, which was about a machine that has exited. If its cleanup does not finish in
    /// time, [`Event::CleanupTimedOut`] follows.
    AwaitCleanup,
    /// Publish the progress that follows from the phase and the state of the machine.
    PublishProgress,
    /// Publish that the machine is lost and will be replaced: open sockets close with a request to reconnect.
    PublishMachineLost,
    /// The last machine is lost: close open sockets with this reason. Other callers see the end once it is written.
    CloseSockets(EndReason),
    /// Append this to the timeline.
    Record(Entry),
}

/// What is recorded on the timeline in addition to the transitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The machine exited, and why.
    MachineExited,
    /// The keeper's receipt, of a machine whose exit is recorded already.
    MachineRemoved,
    /// Both in one entry, of a machine that was stopped.
    MachineExitedAndRemoved,
    /// The machine's cleanup did not finish in time.
    CleanupTimedOut,
    /// The server stops before the machine was removed (only in the log).
    MachineLeftRunning,
    /// The channel to the agent broke.
    ChannelLost,
    /// The channel to the agent is open again.
    ChannelReopened,
    /// The claim of the machine failed.
    ClaimFailed {
        /// The reason.
        why: String,
    },
    /// A caller requested another machine.
    RestartRequested,
    /// The request for another machine was rejected.
    RestartRejected(RestartRejection),
    /// The totals of the requests to the egress gate.
    EgressTotals,
}

/// Why a restart is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartRejection {
    /// A credential is being delivered and would be lost.
    DeliveryPending,
    /// The session has used all machines that it may have.
    NoMachineLeft,
}
