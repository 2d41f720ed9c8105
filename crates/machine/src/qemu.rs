//! QEMU with its `microvm` machine: no network card, no writable disk, two virtio-serial ports.
//!
//! ```text
//!  boot:  kernel + initramfs, RAM in a shared file    ─▶ ready ─▶ state saved without RAM      (a Template)
//!  clone: the same hardware, RAM mapped copy-on-write ◀─ state loaded, runs at once            (a machine)
//! ```

mod accelerator;
mod command_line;
mod kernel_command_line;
mod linux_boot;
mod template;

pub use crate::{
    hardware::{Hardware, HardwareOutOfRange},
    template::{PrepareProgress, TemplateError},
};
pub use accelerator::Accelerator;
pub use kernel_command_line::{KernelCommandLine, Vmm};
pub use linux_boot::LinuxBootError;
pub use template::{Template, TemplateSettings};

pub(crate) use command_line::{QemuCommandLine, RamBackend, StartMode};
pub(crate) use linux_boot::{LinuxBootSettings, boot_linux_on_kvm, read_qemu_version};

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Printed on the console by the agent (`/init`) of a machine that was booted with `anteroom.probe=1`.
pub const PROBE_OK_LINE: &str = "anteroom-probe-ok";
/// How long `qemu --version` may take, milliseconds.
const VERSION_MS_MAX: u64 = 20_000;

/// The first `qemu-system-x86_64` in `PATH` (in `/usr/bin` and `/bin` if `PATH` is not set).
pub fn find_qemu() -> Option<PathBuf> {
    find_program("qemu-system-x86_64")
}

/// The first program of that name in `PATH`, as [`find_qemu`].
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// The first line of `program --version`.
///
/// # Errors
/// The program cannot be run or prints nothing.
pub async fn version_line(program: &Path) -> io::Result<String> {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_millis(VERSION_MS_MAX), output)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { Err(io::Error::other("it printed no version")) } else { Ok(line.to_owned()) }
}
