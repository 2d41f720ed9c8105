//! A cancellation signal that has a cause.

use anteroom_wire::Problem;
use futures_util::future::select_all;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

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
    cause: OnceLock<Problem>,
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

    /// Closes the signal. Returns true for the first call.
    pub fn close(&self, cause: Problem) -> bool {
        let first = self.state.cause.set(cause).is_ok();
        self.state.token.cancel();
        first
    }

    /// The cause, if the signal is closed. A cause set on this signal has precedence over a parent's.
    pub fn cause(&self) -> Option<Problem> {
        self.with_ancestors().find_map(|state| state.cause.get().copied())
    }

    /// Waits until the signal is closed and returns the cause. Cancel safe.
    pub async fn closed(&self) -> Problem {
        select_all(self.with_ancestors().map(|state| Box::pin(state.token.cancelled()))).await;
        // A cause is always set before its token is cancelled.
        self.cause().unwrap_or(Problem::ShuttingDown)
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
        assert!(restarted.close(Problem::MachineReplaced));
        assert!(!restarted.close(Problem::Cancelled));
        assert_eq!(restarted.closed().await, Problem::MachineReplaced);
        assert_eq!(other.cause(), None);
        server.close(Problem::ShuttingDown);
        assert_eq!(other.closed().await, Problem::ShuttingDown);
        assert_eq!(restarted.closed().await, Problem::MachineReplaced);
    }
}
