//! The kinds of machines, for tests and measurements that are written once for all of them.

mod firecracker;
mod kind;
mod plain_process;
mod qemu;

pub use kind::{Capability, GuestAction, Kind, Preparation};

/// A process with the agent and a fake desktop.
pub static PLAIN_PROCESS: &dyn Kind = &plain_process::PlainProcess;
/// QEMU with the image of `ANTEROOM_TEST_IMAGE`.
pub static QEMU: &dyn Kind = &qemu::Qemu;
/// Firecracker with a tiny guest.
pub static FIRECRACKER_TINY: &dyn Kind = &firecracker::Firecracker(firecracker::Guest::Tiny);
/// Firecracker with the image of `ANTEROOM_TEST_IMAGE`.
pub static FIRECRACKER_IMAGE: &dyn Kind = &firecracker::Firecracker(firecracker::Guest::Image);

/// All kinds, in the order of documents.
pub static ALL: [&dyn Kind; 4] = [PLAIN_PROCESS, QEMU, FIRECRACKER_TINY, FIRECRACKER_IMAGE];

/// Machines in Firecracker: with the image in `./test --kvm`, else with the tiny guest.
pub fn firecracker() -> &'static dyn Kind {
    if kind::is_kvm_test() { FIRECRACKER_IMAGE } else { FIRECRACKER_TINY }
}

/// The kind with that name.
///
/// # Errors
/// There is none; the text lists all names.
pub fn find(name: &str) -> anyhow::Result<&'static dyn Kind> {
    ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names = ALL.map(|kind| kind.name()).join(", ");
        anyhow::anyhow!("there is no kind of machine {name:?}; the kinds are {names}")
    })
}
