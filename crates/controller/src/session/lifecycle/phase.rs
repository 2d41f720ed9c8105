//! Where a session stands with its owner.

use anteroom_machine::StopReason;
use anteroom_wire::Problem;

/// The phases. Those that have a machine of themselves say so in [`Phase::has_machine`]; see [`Lifecycle::has_machine`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits for room.
    Line,
    /// It is being written that a machine is asked for; then the machine is started.
    Asking,
    /// The machine exists and is not ready.
    Preparing,
    /// The machine is ready and is being made this session's.
    Claiming,
    /// The machine is this session's. `reachable`: the way to its agent is open.
    Open {
        /// Whether the way to its agent is open.
        reachable: bool,
    },
    /// No further delivery counts; those that are being answered are waited for before the machine is told to stop.
    Answering {
        /// What it is stopped for.
        then: Then,
    },
    /// The machine was told to stop and another will be asked for.
    Replacing,
    /// The machine has died, which everybody was told. Its keeper clears away; then another will be asked for.
    Clearing {
        /// How the session ends if it may have no other machine.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
    /// It is being written that the machine is gone and will be replaced.
    SettingBack,
    /// Waits before another machine is asked for.
    Pausing,
    /// Bound to a desktop that exists outside: there is no machine of ours.
    Attached,
    /// The session's end is being written.
    Ending {
        /// Whether there is a machine.
        machine: bool,
    },
    /// The row has ended and the machine was told to stop.
    Stopping,
    /// Nothing is left.
    Over,
    /// The server stops: row and machine are the next server's.
    Left,
}

/// What a machine is stopped for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Then {
    /// Another takes its place.
    Replace(StopReason),
    /// The row has ended.
    Over(Problem),
    /// It is dead or gone already; what it had delivered may still complete the session.
    Lost {
        /// How the session ends if it may have no other machine.
        problem: Problem,
        /// What is particular.
        detail: String,
    },
}

/// Whether the present machine has a credential that nobody has answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// No.
    #[default]
    None,
    /// The agent has one (or may have: the machine was just taken over) and will send it, again if need be.
    Offered,
    /// It is being answered right now.
    InFlight,
}

impl Phase {
    /// Whether there is a machine that has to be seen gone before the owner may go.
    pub(super) fn has_machine(&self) -> bool {
        match self {
            Self::Preparing
            | Self::Claiming
            | Self::Open { .. }
            | Self::Replacing
            | Self::Clearing { .. }
            | Self::Ending { machine: true }
            | Self::Answering { then: Then::Replace(_) | Then::Over(_) }
            | Self::Stopping => true,
            Self::Answering { then: Then::Lost { .. } }
            | Self::Line
            | Self::Asking
            | Self::SettingBack
            | Self::Pausing
            | Self::Attached
            | Self::Ending { machine: false }
            | Self::Over
            | Self::Left => false,
        }
    }

    /// Whether the row has not ended as far as the owner knows, and no end is being written.
    pub(super) fn is_active(&self) -> bool {
        match self {
            Self::Line
            | Self::Asking
            | Self::Preparing
            | Self::Claiming
            | Self::Open { .. }
            | Self::Replacing
            | Self::Clearing { .. }
            | Self::SettingBack
            | Self::Answering { then: Then::Replace(_) | Then::Lost { .. } }
            | Self::Pausing
            | Self::Attached => true,
            Self::Ending { .. }
            | Self::Answering { then: Then::Over(_) }
            | Self::Stopping
            | Self::Over
            | Self::Left => false,
        }
    }
}
