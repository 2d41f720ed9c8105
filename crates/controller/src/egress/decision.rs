//! What the gate tells the session about each request.

use anteroom_wire::Problem;

/// One outcome of one request for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressDecision {
    /// The name, lower case; for a refusal the guest's text, bounded and printable.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What happened.
    pub outcome: EgressOutcome,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressOutcome {
    /// The connection exists.
    Granted {
        /// Where it leads, masked (`203.0.x.x`).
        address: String,
        /// Whether the operator's configuration answered the name.
        overridden: bool,
        /// Resolving and connecting, milliseconds.
        connect_ms: u64,
    },
    /// There is no connection.
    Refused {
        /// Why.
        problem: Problem,
        /// Which stage said no.
        detail: String,
        /// How long that took, milliseconds.
        after_ms: u64,
    },
    /// A granted connection ended.
    CloseCause {
        /// Bytes from the machine.
        bytes_up: u64,
        /// Bytes to the machine.
        bytes_down: u64,
        /// How long it lasted, milliseconds.
        duration_ms: u64,
        /// Why it ended.
        why: CloseCause,
    },
}

/// Why a granted connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// Both sides were done.
    Done,
    /// One side broke off.
    Broken,
    /// It carried nothing for too long.
    Idle,
    /// It lasted too long.
    TooLong,
    /// The machine or the server is ending.
    Ending,
}
