//! Keeps programs running: restarts each with a delay that doubles, and reports its exits ([`super::crash_loop`]).
//!
//! The limits of both modules are constants on purpose: programs run from the boot on, while the template is made, when the agent knows
//! nothing but the kernel's command line (see `memory_pressure.rs`). The limits belong to the programs of the image, which contains the agent
//! too, not to a host or an operator.

use super::{
    backoff::RestartBackoff,
    child_output::ChildOutput,
    crash_loop::CrashTracker,
    process_table::{ExitCode, ProcessTable},
    readiness::Readiness,
};
use crate::channel::event_queue::EventQueue;
use anteroom_wire::agent::Stage;
use std::{
    io,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 10_000;
/// A program that ran this long did not fail at its start.
const STABLE_MS: u64 = 10_000;

/// Starts programs, keeps them running, and reports their exits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ProcessSupervisor {
    pub(crate) processes: ProcessTable,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) events: Arc<EventQueue>,
}

/// A program that must always run.
pub(crate) struct SupervisedProgram {
    pub(crate) name: &'static str,
    /// The boot stage that this program provides; its failures are reported there.
    pub(crate) stage: Stage,
    /// The stage that must be ready before the program is started.
    pub(crate) needs: Option<Stage>,
    pub(crate) command: Box<dyn Fn() -> Command + Send + Sync>,
}

impl ProcessSupervisor {
    /// A tracker for the exits of the program `name`, whose failures count for `stage`.
    pub(crate) fn crash_tracker(&self, name: &'static str, stage: Stage) -> CrashTracker {
        CrashTracker::new(name, stage, self.readiness.clone(), self.events.clone())
    }

    /// Keeps `service` running, forever.
    pub(crate) async fn run(self, service: SupervisedProgram) {
        let mut backoff = RestartBackoff::new(
            Duration::from_millis(RESTART_MS_MIN),
            Duration::from_millis(RESTART_MS_MAX),
            Duration::from_millis(STABLE_MS),
        );
        let tracker = self.crash_tracker(service.name, service.stage);
        loop {
            if let Some(stage) = service.needs {
                self.readiness.wait_ready(stage).await;
            }
            self.readiness.record_attempt(service.stage);
            let started = Instant::now();
            let output = ChildOutput::default();
            let exit = self.run_once(&service, &tracker, &output).await;
            output.wait_closed(Duration::MAX).await;
            tracker.record_exit(&exit, &output);
            tokio::time::sleep(backoff.next_delay(started.elapsed())).await;
        }
    }

    async fn run_once(
        &self,
        service: &SupervisedProgram,
        tracker: &CrashTracker,
        output: &ChildOutput,
    ) -> io::Result<ExitCode> {
        let mut child = output.spawn(&self.processes, &mut (service.command)())?;
        tracker.record_start();
        Ok(child.wait().await)
    }
}
