//! The machine's progress through its boot stages, as returned by `GET /hello`.

use crate::{channel::event_queue::EventQueue, log};
use anteroom_screen::truncate_text;
use anteroom_wire::{
    agent::{MachineEvent, Stage, StageReport, StageState},
    time::to_millis,
};
use std::sync::Arc;
use tokio::sync::watch;

/// After this many failures without a success in between a stage is reported as failed.
const FAILURES_MAX: u32 = 5;

/// The stages of this machine, in order.
pub(crate) struct Readiness {
    stages: watch::Sender<Vec<(StageReport, u32)>>,
    events: Arc<EventQueue>,
}

impl Readiness {
    pub(crate) fn new(names: &[Stage], events: Arc<EventQueue>) -> Self {
        let report = |&stage| {
            (
                StageReport {
                    stage,
                    state: StageState::Waiting,
                    attempts: 0,
                    last_error: None,
                    changed_at_ms: to_millis(log::uptime()),
                },
                0,
            )
        };
        Self { stages: watch::Sender::new(names.iter().map(report).collect()), events }
    }

    /// For `GET /hello`.
    pub(crate) fn reports(&self) -> Vec<StageReport> {
        self.stages.borrow().iter().map(|(report, _)| report.clone()).collect()
    }

    /// An attempt begins.
    pub(crate) fn record_attempt(&self, stage: Stage) {
        self.update(stage, |report, _| {
            report.attempts = report.attempts.saturating_add(1);
            if report.state != StageState::Failed {
                report.state = StageState::Trying;
            }
        });
    }

    /// The attempt failed, or a ready stage is no longer ready. `error` is the cause.
    pub(crate) fn record_failure(&self, stage: Stage, error: &str) {
        self.update(stage, |report, failures| {
            *failures += 1;
            report.last_error = Some(truncate_text(error).into());
            report.state = if *failures >= FAILURES_MAX { StageState::Failed } else { StageState::Trying };
        });
    }

    /// The attempt failed, and there is no other one without a request. `error` is the cause.
    pub(crate) fn record_last_failure(&self, stage: Stage, error: &str) {
        self.update(stage, |report, failures| {
            *failures = FAILURES_MAX;
            report.last_error = Some(truncate_text(error).into());
            report.state = StageState::Failed;
        });
    }

    /// A probe found the stage not ready yet, which is expected while it starts.
    pub(crate) fn record_not_ready_yet(&self, stage: Stage, reason: &str) {
        self.update(stage, |report, _| {
            report.attempts = report.attempts.saturating_add(1);
            report.last_error = Some(truncate_text(reason).into());
            if report.state == StageState::Waiting {
                report.state = StageState::Trying;
            }
        });
    }

    /// The stage is ready.
    pub(crate) fn set_ready(&self, stage: Stage) {
        self.update(stage, |report, failures| {
            *failures = 0;
            report.state = StageState::Ready;
            report.last_error = None;
        });
    }

    /// Waits until `stage` is ready. A stage that this machine does not have counts as ready.
    pub(crate) async fn wait_ready(&self, stage: Stage) {
        let is_ready = |stages: &Vec<(StageReport, u32)>| {
            stages.iter().all(|(report, _)| report.stage != stage || report.state == StageState::Ready)
        };
        let _ = self.stages.subscribe().wait_for(is_ready).await;
    }

    /// Waits until `stage` is no longer ready.
    pub(crate) async fn wait_lost(&self, stage: Stage) {
        let is_lost = |stages: &Vec<(StageReport, u32)>| {
            stages.iter().any(|(report, _)| report.stage == stage && report.state != StageState::Ready)
        };
        let _ = self.stages.subscribe().wait_for(is_lost).await;
    }

    fn update(&self, stage: Stage, update: impl FnOnce(&mut StageReport, &mut u32)) {
        let mut changed = None;
        self.stages.send_if_modified(|stages| {
            let Some((report, failures)) = stages.iter_mut().find(|(report, _)| report.stage == stage) else {
                return false;
            };
            let before = report.state;
            update(report, failures);
            if report.state != before {
                report.changed_at_ms = to_millis(log::uptime());
                changed = Some(report.clone());
            }
            changed.is_some()
        });
        if let Some(report) = changed {
            let error = report.last_error.as_deref().unwrap_or("");
            log::write_line(&format!(
                "stage {:?} {:?} attempts={} {error}",
                report.stage, report.state, report.attempts
            ));
            self.events.push(MachineEvent::Stage(report));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness() -> Readiness {
        Readiness::new(&[Stage::Display, Stage::Terminal], Arc::new(EventQueue::default()))
    }

    #[test]
    fn stage_that_is_not_tried_again_fails_at_once_until_it_is_ready() {
        let readiness = readiness();
        let state = || readiness.reports()[0].state;
        readiness.record_attempt(Stage::Display);
        readiness.record_last_failure(Stage::Display, "no such program");
        assert_eq!(state(), StageState::Failed);
        readiness.record_attempt(Stage::Display);
        readiness.set_ready(Stage::Display);
        assert_eq!(state(), StageState::Ready);
    }

    #[test]
    fn stage_that_keeps_failing_is_reported_as_failed_until_it_is_ready() {
        let readiness = readiness();
        for round in 1..=FAILURES_MAX {
            readiness.record_attempt(Stage::Display);
            readiness.record_failure(Stage::Display, "exit 1");
            let expected = if round < FAILURES_MAX { StageState::Trying } else { StageState::Failed };
            assert_eq!(readiness.reports()[0].state, expected);
        }
        assert_eq!(readiness.reports()[0].attempts, FAILURES_MAX);
        assert_eq!(readiness.reports()[0].last_error.as_deref(), Some("exit 1"));
        readiness.set_ready(Stage::Display);
        assert_eq!(readiness.reports()[0].state, StageState::Ready);
        assert_eq!(readiness.reports()[1].state, StageState::Waiting);
    }

    #[tokio::test]
    async fn stage_that_this_machine_lacks_counts_as_ready() {
        readiness().wait_ready(Stage::Browser).await;
    }
}
