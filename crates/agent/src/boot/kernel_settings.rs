//! Kernel settings (sysctls) that close what no program of a machine needs, set before the first of them starts.
//!
//! User namespaces are not here: the browser's sandbox needs them for a moment, see [`crate::desktop::user_namespaces`].

use anyhow::Context;
use std::{fs, io, path::Path};

/// Path below `/proc/sys`, and value. A kernel that lacks one lacks what it closes.
const KERNEL_SETTINGS: [(&str, &str); 18] = [
    ("dev/tty/ldisc_autoload", "0"),
    // A program could otherwise type into the terminal of another.
    ("dev/tty/legacy_tiocsti", "0"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    ("fs/suid_dumpable", "0"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/kptr_restrict", "2"),
    // All modules are loaded by now.
    ("kernel/modules_disabled", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/sysrq", "0"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "2"),
    ("net/core/bpf_jit_harden", "2"),
    ("vm/unprivileged_userfaultfd", "0"),
];

/// Sets all of them.
///
/// # Errors
/// The kernel rejects a value.
pub(super) fn set_kernel_settings() -> anyhow::Result<()> {
    for (name, value) in KERNEL_SETTINGS {
        match fs::write(Path::new("/proc/sys").join(name), value) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{name} = {value}")),
        }
    }
    Ok(())
}
