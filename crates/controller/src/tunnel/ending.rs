//! An end that says why.

use anteroom_wire::Problem;
use futures_util::future::select_all;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// A cancellation that carries its cause. Clones are the same; the first cause stays. A child ends with its parent, and
/// may end before it.
#[derive(Debug, Clone)]
pub struct Ending {
    own: Arc<End>,
    /// Parent, its parent, and so on.
    above: Vec<Arc<End>>,
}

#[derive(Debug, Default)]
struct End {
    token: CancellationToken,
    cause: OnceLock<Problem>,
}

impl Ending {
    /// Not ended.
    pub fn new() -> Self {
        Self { own: Arc::default(), above: Vec::new() }
    }

    /// One that ends with this one, or before.
    pub fn child(&self) -> Self {
        Self { own: Arc::default(), above: self.lineage().cloned().collect() }
    }

    /// Ends it; whether this was the first call.
    pub fn end(&self, cause: Problem) -> bool {
        let first = self.own.cause.set(cause).is_ok();
        self.own.token.cancel();
        first
    }

    /// Why it ended, if it has: its own cause before its parent's.
    pub fn cause(&self) -> Option<Problem> {
        self.lineage().find_map(|end| end.cause.get().copied())
    }

    /// Waits for the end. Does nothing when dropped.
    pub async fn ended(&self) -> Problem {
        select_all(self.lineage().map(|end| Box::pin(end.token.cancelled()))).await;
        // A cause is always set before its token is cancelled.
        self.cause().unwrap_or(Problem::ShuttingDown)
    }

    fn lineage(&self) -> impl Iterator<Item = &Arc<End>> {
        std::iter::once(&self.own).chain(&self.above)
    }
}

impl Default for Ending {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_stays_and_a_child_hears_its_parents() {
        let server = Ending::new();
        let (restarted, other) = (server.child(), server.child());
        assert!(restarted.end(Problem::Restarted));
        assert!(!restarted.end(Problem::Cancelled));
        assert_eq!(restarted.ended().await, Problem::Restarted);
        assert_eq!(other.cause(), None);
        server.end(Problem::ShuttingDown);
        assert_eq!(other.ended().await, Problem::ShuttingDown);
        assert_eq!(restarted.ended().await, Problem::Restarted);
    }
}
