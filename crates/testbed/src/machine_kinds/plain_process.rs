//! Machines that are plain processes.

use super::kind::{Capability, GuestAction, Kind, Preparation};
use crate::{MachineProcesses, WAIT_MAX, plain_process::PlainProcessSpecs};
use anteroom_machine::ProcessSpec;
use futures_util::{FutureExt, future::BoxFuture};
use std::{path::Path, sync::Arc, time::Duration};

/// See [`super::PLAIN_PROCESS`].
pub(super) struct PlainProcess;

impl Kind for PlainProcess {
    fn name(&self) -> &'static str {
        "plain_process"
    }

    fn title(&self) -> &'static str {
        "Plain process"
    }

    fn description(&self) -> &'static str {
        "The agent of the image, as an ordinary process, and a fake desktop; only for tests. It starts in milliseconds and shows \
         that everything above the machine is independent of its kind. It promises no separation: whatever runs in it has the \
         rights of the server."
    }

    fn missing_capability(&self, capability: Capability) -> Option<&'static str> {
        match capability {
            Capability::Tools | Capability::Sigterm => None,
            Capability::GuestPanic | Capability::GuestPowerOff => Some("it has no console and no kernel"),
            Capability::SavedState => Some("it starts from a program, not from a saved state"),
            Capability::Confinement => Some("it is not a VMM and has all rights of its keeper"),
        }
    }

    fn prepare(&self) -> BoxFuture<'static, anyhow::Result<Preparation>> {
        async { Ok(Preparation::Ready(Arc::new(PlainProcessSpecs::with_built_programs()?))) }.boxed()
    }

    fn wait_max(&self) -> Duration {
        WAIT_MAX
    }

    fn act<'a>(
        &'a self,
        _: &'a MachineProcesses,
        _: &'a Path,
        action: GuestAction,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { anyhow::bail!("a plain process cannot do {action:?}") }.boxed()
    }

    fn damage_saved_state(&self, _: &mut ProcessSpec, _: &Path) -> anyhow::Result<()> {
        anyhow::bail!("a plain process has no saved state")
    }
}
