//! The machines of a state directory without the rest of a server: for tests and measurements of the machine crate alone.

use anteroom_machine::{ControllerService, Machines, MachinesOpenError, MachinesSettings, SpecSource};
use anyhow::Context;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Machines, the tasks that drive them, and the token that ends the tasks.
pub struct MachineServer {
    /// The machines.
    pub machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl MachineServer {
    /// Opens the state directory and adopts the machines that run there.
    ///
    /// # Errors
    /// See [`MachinesOpenError`].
    pub async fn open(
        settings: MachinesSettings,
        spec_source: Arc<dyn SpecSource>,
        controller_service: ControllerService,
    ) -> Result<Self, MachinesOpenError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let machines = Machines::open(settings, spec_source, controller_service, tasks.clone(), stop.clone()).await?;
        Ok(Self { machines, stop, tasks })
    }

    /// Ends all tasks; the machines continue.
    ///
    /// # Errors
    /// A task does not end within `limit`.
    pub async fn end(self, limit: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.close();
        timeout(limit, self.tasks.wait()).await.context("a task of the machines does not end")
    }
}

/// Answers every request of a machine with 404. A machine that is not claimed sends none.
pub fn reject_all_requests() -> ControllerService {
    Arc::new(|_, _| {
        let mut response = http::Response::new(anteroom_machine::BoxBody::default());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(response))
    })
}
