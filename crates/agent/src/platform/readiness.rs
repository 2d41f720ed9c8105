//! How far the machine is, stage by stage, as `GET /hello` tells it.

use crate::{
    events::{Events, bounded},
    log,
};
use anteroom_wire::agent::{Event, Stage, StageReport, StageState};
use std::sync::Arc;
use tokio::sync::watch;

/// This many failures without one success in between are called "failed".
const FAILURES_MAX: u32 = 5;

/// The stages of this machine, in order.
pub(crate) struct Stages {
    list: watch::Sender<Vec<(StageReport, u32)>>,
    events: Arc<Events>,
}

impl Stages {
    pub(crate) fn new(stages: &[Stage], events: Arc<Events>) -> Self {
        let report = |&stage| {
            (StageReport { stage, state: StageState::Waiting, attempts: 0, last_error: None, at_ms: uptime_ms() }, 0)
        };
        Self { list: watch::Sender::new(stages.iter().map(report).collect()), events }
    }

    /// For `GET /hello`.
    pub(crate) fn reports(&self) -> Vec<StageReport> {
        self.list.borrow().iter().map(|(report, _)| report.clone()).collect()
    }

    /// A try begins.
    pub(crate) fn trying(&self, stage: Stage) {
        self.change(stage, |report, _| {
            report.attempts = report.attempts.saturating_add(1);
            if report.state != StageState::Failed {
                report.state = StageState::Trying;
            }
        });
    }

    /// The try failed, or what was up is down. `error` speaks of the stage's own trouble.
    pub(crate) fn failed(&self, stage: Stage, error: &str) {
        self.change(stage, |report, failures| {
            *failures += 1;
            report.last_error = Some(bounded(error));
            report.state = if *failures >= FAILURES_MAX { StageState::Failed } else { StageState::Trying };
        });
    }

    /// A probe found it not up yet, as is to be expected while it starts.
    pub(crate) fn not_yet(&self, stage: Stage, why: &str) {
        self.change(stage, |report, _| {
            report.attempts = report.attempts.saturating_add(1);
            report.last_error = Some(bounded(why));
            if report.state == StageState::Waiting {
                report.state = StageState::Trying;
            }
        });
    }

    /// It is up.
    pub(crate) fn ready(&self, stage: Stage) {
        self.change(stage, |report, failures| {
            *failures = 0;
            report.state = StageState::Ready;
            report.last_error = None;
        });
    }

    /// Waits until `stage` is up. A stage that this machine does not have counts as up.
    pub(crate) async fn reached(&self, stage: Stage) {
        let up = |list: &Vec<(StageReport, u32)>| {
            list.iter().all(|(report, _)| report.stage != stage || report.state == StageState::Ready)
        };
        let _ = self.list.subscribe().wait_for(up).await;
    }

    /// Waits until `stage` is up no longer.
    pub(crate) async fn lost(&self, stage: Stage) {
        let down = |list: &Vec<(StageReport, u32)>| {
            list.iter().any(|(report, _)| report.stage == stage && report.state != StageState::Ready)
        };
        let _ = self.list.subscribe().wait_for(down).await;
    }

    fn change(&self, stage: Stage, by: impl FnOnce(&mut StageReport, &mut u32)) {
        let mut told = None;
        self.list.send_if_modified(|list| {
            let Some((report, failures)) = list.iter_mut().find(|(report, _)| report.stage == stage) else {
                return false;
            };
            let before = report.state;
            by(report, failures);
            if report.state != before {
                report.at_ms = uptime_ms();
                told = Some(report.clone());
            }
            told.is_some()
        });
        if let Some(report) = told {
            let error = report.last_error.as_deref().unwrap_or("");
            log::line(&format!("stage {:?} {:?} attempts={} {error}", report.stage, report.state, report.attempts));
            self.events.push(Event::Stage(report));
        }
    }
}

fn uptime_ms() -> u64 {
    u64::try_from(log::uptime().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages() -> Stages {
        Stages::new(&[Stage::Display, Stage::Terminal], Arc::new(Events::default()))
    }

    #[test]
    fn a_stage_that_keeps_failing_is_called_failed_until_it_is_up() {
        let stages = stages();
        for round in 1..=FAILURES_MAX {
            stages.trying(Stage::Display);
            stages.failed(Stage::Display, "exit 1");
            let expected = if round < FAILURES_MAX { StageState::Trying } else { StageState::Failed };
            assert_eq!(stages.reports()[0].state, expected);
        }
        assert_eq!(stages.reports()[0].attempts, FAILURES_MAX);
        assert_eq!(stages.reports()[0].last_error.as_deref(), Some("exit 1"));
        stages.ready(Stage::Display);
        assert_eq!(stages.reports()[0].state, StageState::Ready);
        assert_eq!(stages.reports()[1].state, StageState::Waiting);
    }

    #[tokio::test]
    async fn a_stage_this_machine_lacks_holds_nobody_up() {
        stages().reached(Stage::Browser).await;
    }
}
