//! The events that the gate reports to the session for each request.

use super::{Way, mask_address};
use anteroom_wire::{Problem, agent::EgressBy};

/// An event of one connection request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressDecision {
    /// The name in lower case; for a denied request the guest's text, bounded and printable.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The program that asks, as the machine says; `None`: it does not say.
    pub by: Option<EgressBy>,
    /// The result.
    pub outcome: EgressOutcome,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressOutcome {
    /// The connection is open.
    Allowed {
        /// How the host was reached.
        by: ReachedBy,
        /// Time to resolve and connect, milliseconds.
        connect_ms: u64,
    },
    /// The request was denied or the connection failed.
    Failed {
        /// The cause.
        problem: Problem,
        /// The stage that failed.
        detail: String,
        /// Time until the decision, milliseconds.
        after_ms: u64,
    },
    /// An allowed connection ended.
    Closed {
        /// Bytes from the machine.
        bytes_up: u64,
        /// Bytes to the machine.
        bytes_down: u64,
        /// Duration of the connection, milliseconds.
        duration_ms: u64,
        /// Why the connection ended.
        why: CloseCause,
    },
}

/// How a host was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachedBy {
    /// At this address, masked (`203.0.x.x`).
    Address(String),
    /// At this address of `egress.overrides`, masked.
    Override(String),
    /// Through the proxy; the address is not known.
    Proxy,
}

impl From<&Way> for ReachedBy {
    fn from(way: &Way) -> Self {
        match way {
            Way::Direct(address) => Self::Address(mask_address(address.ip())),
            Way::Override(address) => Self::Override(mask_address(address.ip())),
            Way::Proxy => Self::Proxy,
        }
    }
}

/// Why an allowed connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// Both sides finished.
    Completed,
    /// The connection of one side broke.
    ConnectionLost,
    /// No traffic for `connection_idle_s_max`.
    IdleTimeout,
    /// The connection lasted `connection_lifetime_s_max`.
    LifetimeExceeded,
    /// Its TLS handshake did not name the granted host.
    TlsNameDenied,
    /// The session has used all bytes of one direction.
    ByteLimit,
    /// The host has lost contact with its cluster.
    ClusterContactLost,
    /// The machine or the server is stopping.
    Shutdown,
}
