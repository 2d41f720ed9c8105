//! What the lifecycle is told and what it orders.

use super::Delivery;
use super::end_kind::EndKind;
use anteroom_machine::StopReason;
use anteroom_wire::Problem;

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// There is room for a machine.
    RoomGiven,
    /// The line is full.
    LineFull {
        /// How long it is.
        detail: String,
    },
    /// The row says that this generation's machine is asked for.
    Asked,
    /// The machine is being started.
    Started,
    /// It cannot be started.
    NotStarted {
        /// How the session ends if it may have no other.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// The machine is not ready (yet, or no longer).
    MachineNotReady,
    /// The machine is ready.
    MachineReady,
    /// The machine's process has ended; its keeper still clears away what is left of it.
    MachineDied {
        /// How the session ends if it may have no other.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// Nothing of the machine is left.
    MachineGone {
        /// How the session ends if it may have no other.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// The machine is this session's.
    Claimed,
    /// It could not be made this session's.
    ClaimFailed {
        /// Why, for people.
        why: String,
    },
    /// The row says that the machine is being replaced.
    SetBack,
    /// The wait is over.
    Paused,
    /// Somebody wants another machine.
    RestartAsked,
    /// The present machine's delivery changed.
    Delivery(Delivery),
    /// A deadline has passed. `patience_over`: it was held back for a delivery as long as it may be.
    Overdue {
        /// Which.
        problem: Problem,
        /// What is particular.
        detail: String,
        /// Whether a delivery holds it back no longer.
        patience_over: bool,
    },
    /// The row has ended, whoever wrote it.
    Ended(Problem),
    /// The server stops.
    ServerStops,
    /// The machine that was told to stop, or has died, was not seen gone in time.
    GoneOverdue,
    /// Nobody watches the machine any more: the server stops.
    Unwatched,
}

/// What the owner's task has to do. At most one of those that take time is under way; the next one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Order {
    /// Takes time: stand in line, come back with [`Event::RoomGiven`] or [`Event::LineFull`].
    Stand,
    /// Takes time: write that a machine is asked for, come back with [`Event::Asked`].
    Ask,
    /// Start it: [`Event::Started`] or [`Event::NotStarted`].
    Start,
    /// Takes time: make the machine this session's, come back with [`Event::Claimed`] or [`Event::ClaimFailed`].
    Claim,
    /// Takes time: write that the machine is replaced, come back with [`Event::SetBack`].
    SetBack {
        /// Why.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// Takes time: wait, come back with [`Event::Paused`].
    Pause {
        /// How long.
        ms: u64,
    },
    /// Takes time: write the end until the database takes it, come back with [`Event::Ended`].
    End {
        /// How.
        how: EndKind,
        /// Why.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// Count no further delivery of the machine; come back with [`Event::Delivery`], as it was at that moment.
    Shut,
    /// Tell the machine to stop.
    Stop(StopReason),
    /// Drop what takes time: it was about a machine that has died. If that is not gone in time, come back with
    /// [`Event::GoneOverdue`].
    AwaitGone,
    /// Let everybody see this.
    Show(Shown),
    /// Put this on the timeline.
    Note(Note),
}

/// What everybody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shown {
    /// The machine and the stage it waits for.
    Preparing,
    /// The machine can be looked at.
    Claiming,
    /// The machine can be used.
    Open,
    /// The machine is dead or gone: who is connected to it is told to come back.
    Lost,
    /// It is, and there will be no other: who is connected to it is told so. Everybody else sees the end when it is written.
    NoneLeft(Problem),
    /// The outside desktop can be used.
    Attached,
    /// It ends.
    Closing,
}

/// What goes on the timeline besides the transitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Note {
    /// How the machine ended.
    Gone,
    /// What its keeper found gone, of a machine whose end was told before.
    Cleared,
    /// Both in one, of a machine that was to end.
    GoneAndCleared,
    /// The machine was not seen gone in time.
    NotGone,
    /// The server stops before the machine was seen gone (into the log only).
    LeftBehind,
    /// The way to the agent broke.
    ChannelLost,
    /// The way to the agent is open again.
    Reopened,
    /// The machine could not be made this session's.
    ClaimFailed {
        /// Why.
        why: String,
    },
    /// Another machine was asked for.
    RestartAsked,
    /// Another machine was asked for and is not given.
    RestartRefused(RestartRefused),
    /// What the machine asked the egress gate for.
    Egress,
}

/// Why a restart is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartRefused {
    /// A credential is on its way: another machine would lose it.
    Delivering,
    /// All machines that one session may have were had.
    NoneLeft,
}
