//! What tests know of a kind of machine.

use crate::MachineProcesses;
use anteroom_machine::{ProcessSpec, SpecSource};
use futures_util::future::BoxFuture;
use std::{path::Path, sync::Arc, time::Duration};

/// What a kind of machine, or the guest that it runs, can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// The guest has a desktop and a terminal, runs the tool of a claim, and reports events.
    Tools,
    /// The guest has a console, and a test can make its kernel panic.
    GuestPanic,
    /// A test can make the guest power off.
    GuestPowerOff,
    /// The process ends by SIGTERM, with exit code 0.
    Sigterm,
    /// Machines start from a saved state, which can be damaged.
    SavedState,
    /// The process is confined.
    Confinement,
}

/// What a test can make a guest do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAction {
    /// Write some lines to its console and panic ([`Capability::GuestPanic`]).
    Panic,
    /// Power off ([`Capability::GuestPowerOff`]).
    PowerOff,
}

/// Whether machines of a kind can be started on this host.
pub enum Preparation {
    /// They are started from this source.
    Ready(Arc<dyn SpecSource>),
    /// They cannot.
    Unavailable {
        /// What is missing.
        why: String,
    },
}

/// A kind of machine.
pub trait Kind: Send + Sync + 'static {
    /// Its name in names of tests: `qemu`.
    fn name(&self) -> &'static str;

    /// Its name in documents.
    fn title(&self) -> &'static str;

    /// What it is, gives and promises: a paragraph for documents.
    fn description(&self) -> &'static str;

    /// Why its machines do not have `capability`; `None`: they have it.
    fn missing_capability(&self, capability: Capability) -> Option<&'static str>;

    /// Why this user cannot test `capability`, which its machines have; `None`: it can.
    fn missing_permission(&self, _: Capability) -> Option<&'static str> {
        None
    }

    /// Prepares what machines are started from.
    fn prepare(&self) -> BoxFuture<'static, anyhow::Result<Preparation>>;

    /// The longest wait for anything in a machine on a busy host.
    fn wait_max(&self) -> Duration;

    /// Makes the guest of a running machine do something.
    fn act<'a>(
        &'a self,
        processes: &'a MachineProcesses,
        run_dir: &'a Path,
        action: GuestAction,
    ) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Replaces the saved state in a spec by an invalid one, for which it writes files into `dir`.
    ///
    /// # Errors
    /// The kind has no [`Capability::SavedState`], or a file cannot be written.
    fn damage_saved_state(&self, spec: &mut ProcessSpec, dir: &Path) -> anyhow::Result<()>;
}

/// Whether `./test --kvm` runs: QEMU must use KVM, and Firecracker runs the image.
pub(super) fn is_kvm_test() -> bool {
    std::env::var_os("ANTEROOM_TEST_KVM").is_some_and(|value| !value.is_empty())
}
