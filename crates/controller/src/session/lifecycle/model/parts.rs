//! The parts of the model: the row, the server with its supervisor, the machines and their credentials.

use crate::session::lifecycle::{Command, Event, Lifecycle};
use anteroom_machine::{ExitReason, State};
use anteroom_wire::EndReason;
use std::collections::VecDeque;

/// The session's row in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) struct Row {
    pub(in crate::session::lifecycle) ended: Option<EndReason>,
    pub(in crate::session::lifecycle) ends: u8,
    pub(in crate::session::lifecycle) stored: u8,
    pub(in crate::session::lifecycle) generation: u32,
    pub(in crate::session::lifecycle) machine: Option<usize>,
}

/// A running server, as far as it concerns this session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) struct Server {
    pub(in crate::session::lifecycle) supervisor: Option<Supervisor>,
    /// The session's end, written to the row and not yet signalled to the supervisor.
    pub(in crate::session::lifecycle) unnotified_end: Option<EndReason>,
    pub(in crate::session::lifecycle) stopping: bool,
}

/// The supervisor's task and the session's state (`SessionState`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) struct Supervisor {
    pub(in crate::session::lifecycle) lifecycle: Lifecycle,
    pub(in crate::session::lifecycle) commands: VecDeque<Command>,
    pub(in crate::session::lifecycle) pending: VecDeque<Event>,
    pub(in crate::session::lifecycle) job: Option<Job>,
    /// The machine in the session's state.
    pub(in crate::session::lifecycle) requested: Option<usize>,
    pub(in crate::session::lifecycle) running: Option<usize>,
    /// Whether the tracked machine's state changed since it was last read.
    pub(in crate::session::lifecycle) state_changed: bool,
    pub(in crate::session::lifecycle) end: Option<EndReason>,
    pub(in crate::session::lifecycle) restart_requested: bool,
    pub(in crate::session::lifecycle) delivery_pending: bool,
    pub(in crate::session::lifecycle) new_deliveries_not_awaited: bool,
    pub(in crate::session::lifecycle) awaiting_cleanup: bool,
    /// Whether the exit of the tracked machine is on the timeline.
    pub(in crate::session::lifecycle) exit_recorded: bool,
}

/// The command in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) enum Job {
    WaitInQueue,
    RequestMachine(usize),
    Claim(usize),
    RecordReplacement,
    BackOff,
    End(EndReason),
    /// Finished; the supervisor has not received the result.
    Done(Event),
}

/// A machine: the server's record of it, and the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) struct Machine {
    pub(in crate::session::lifecycle) record: Option<State<()>>,
    pub(in crate::session::lifecycle) running_process: bool,
    /// It has exited, and its keeper has not finished cleaning up.
    pub(in crate::session::lifecycle) cleaning_up: bool,
    pub(in crate::session::lifecycle) started: bool,
    pub(in crate::session::lifecycle) stop_requested: bool,
    /// Its keeper ignores stop requests.
    pub(in crate::session::lifecycle) ignores_stops: bool,
    pub(in crate::session::lifecycle) claimed: bool,
    /// It exited because of a system call that no VMM makes.
    pub(in crate::session::lifecycle) compromised: bool,
    pub(in crate::session::lifecycle) credential: Credential,
}

impl Machine {
    /// Why it exited.
    pub(in crate::session::lifecycle) fn exit_reason(&self) -> ExitReason {
        if self.compromised {
            ExitReason::ForbiddenSystemCall { system_call: String::new() }
        } else {
            ExitReason::KeeperLost
        }
    }
}

/// The state of the credential in the machine's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) enum Credential {
    #[default]
    None,
    /// Written by the tool; it is sent until it is answered.
    Written,
    /// Received by the server. `counted`: the supervisor waits for it.
    Sent { counted: bool },
    /// Decided by the server; the answer is being sent.
    Stored { counted: bool },
    /// Answered finally.
    Answered,
}
