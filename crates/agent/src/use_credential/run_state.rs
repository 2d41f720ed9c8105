//! The state of the command that runs with a stored credential. It runs at most once.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    NotStarted,
    Running,
    Exited { code: i32 },
}

/// The state of the command.
pub(crate) struct RunState(watch::Sender<Run>);

impl RunState {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Run::NotStarted))
    }

    /// `true` the first time: the command must be started now, and never again.
    pub(crate) fn start(&self) -> bool {
        self.0.send_if_modified(|run| {
            let first = *run == Run::NotStarted;
            if first {
                *run = Run::Running;
            }
            first
        })
    }

    /// Records that the command exited with `code`. `false`: it was not started, or its exit was already recorded.
    pub(crate) fn finish(&self, code: i32) -> bool {
        self.0.send_if_modified(|run| {
            let is_running = *run == Run::Running;
            if is_running {
                *run = Run::Exited { code };
            }
            is_running
        })
    }

    /// Waits until the command has exited. Returns its exit code.
    pub(super) async fn wait_exit(&self) -> i32 {
        let mut run = self.0.subscribe();
        loop {
            if let Run::Exited { code } = *run.borrow_and_update() {
                return code;
            }
            if run.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn command_starts_once_and_exits_once() {
        let state = RunState::new();
        assert!(!state.finish(1), "not started");
        assert!(state.start() && !state.start());
        assert!(state.finish(3) && !state.finish(4));
        assert_eq!(state.wait_exit().await, 3);
    }
}
