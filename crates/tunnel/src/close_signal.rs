//! A cancellation signal that has a cause.

use anteroom_wire::{EndReason, Problem};
use futures_util::future::select_all;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Why a [`CloseSignal`] closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The session has ended, for this reason.
    SessionEnded(EndReason),
    /// The machine was replaced by a new one.
    MachineReplaced,
    /// The caller that opened the connection was revoked.
    CallerRevoked,
    /// The caller that opened the connection has expired.
    CallerExpired,
    /// The caller that opened the connection is a helper whose access was ended.
    HelperEnded,
    /// A newer viewer needs the place of this one.
    ViewerReplaced,
    /// This host has lost contact with its cluster, and ends its machines.
    ClusterContactLost,
    /// The server is stopping.
    ServerStopping,
}

impl From<CloseCause> for Problem {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::SessionEnded(reason) => Self::Ended(reason),
            CloseCause::MachineReplaced => Self::MachineReplaced,
            CloseCause::CallerRevoked => Self::CallerRevoked,
            CloseCause::CallerExpired => Self::CallerExpired,
            CloseCause::HelperEnded => Self::HelperEnded,
            CloseCause::ViewerReplaced => Self::ViewerReplaced,
            CloseCause::ClusterContactLost => Self::ClusterContactLost,
            CloseCause::ServerStopping => Self::ShuttingDown,
        }
    }
}

/// A close signal with its cause. Clones share one state; only the first cause is kept. A child closes with its parent,
/// and can be closed before it.
#[derive(Debug, Clone)]
pub struct CloseSignal {
    state: Arc<State>,
    /// The states of the parent, its parent, and so on.
    ancestors: Vec<Arc<State>>,
}

#[derive(Debug, Default)]
struct State {
    token: CancellationToken,
    cause: OnceLock<CloseCause>,
}

impl CloseSignal {
    /// An open signal without a parent.
    pub fn new() -> Self {
        Self { state: Arc::default(), ancestors: Vec::new() }
    }

    /// A signal that closes when this one closes.
    pub fn child(&self) -> Self {
        Self { state: Arc::default(), ancestors: self.with_ancestors().cloned().collect() }
    }

    /// A signal that closes when this one or `other` closes.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let ancestors = self.with_ancestors().chain(other.with_ancestors()).cloned().collect();
        Self { state: Arc::default(), ancestors }
    }

    /// Closes the signal. Returns true for the first call.
    pub fn close(&self, cause: CloseCause) -> bool {
        let first = self.state.cause.set(cause).is_ok();
        self.state.token.cancel();
        first
    }

    /// The cause, if the signal is closed. A cause set on this signal has precedence over a parent's.
    pub fn cause(&self) -> Option<CloseCause> {
        self.with_ancestors().find_map(|state| state.cause.get().copied())
    }

    /// Waits until the signal is closed and returns the cause. Cancel safe.
    pub async fn wait_closed(&self) -> CloseCause {
        select_all(self.with_ancestors().map(|state| Box::pin(state.token.cancelled()))).await;
        // A cause is always set before its token is cancelled.
        self.cause().unwrap_or(CloseCause::ServerStopping)
    }

    fn with_ancestors(&self) -> impl Iterator<Item = &Arc<State>> {
        std::iter::once(&self.state).chain(&self.ancestors)
    }
}

impl Default for CloseSignal {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_cause_is_kept_and_child_receives_cause_of_parent() {
        let server = CloseSignal::new();
        let (restarted, other) = (server.child(), server.child());
        assert!(restarted.close(CloseCause::MachineReplaced));
        assert!(!restarted.close(CloseCause::SessionEnded(EndReason::Cancelled)));
        assert_eq!(restarted.wait_closed().await, CloseCause::MachineReplaced);
        assert_eq!(other.cause(), None);
        server.close(CloseCause::ServerStopping);
        assert_eq!(other.wait_closed().await, CloseCause::ServerStopping);
        assert_eq!(restarted.wait_closed().await, CloseCause::MachineReplaced);
    }
}
