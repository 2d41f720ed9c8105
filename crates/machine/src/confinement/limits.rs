//! Applies the resource limits of a VMM.

use crate::spec::ResourceLimits;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;

/// Applies `limits` to this process. `count_threads`: the kernel counts the threads of this process's user separately from other
/// processes (in a user namespace, or for a user that has no others).
pub(super) fn apply(limits: &ResourceLimits, count_threads: bool) -> io::Result<()> {
    let threads = count_threads.then_some((Resource::Nproc, limits.threads_max));
    let others = [
        // A core file would contain the guest's memory.
        (Resource::Core, 0),
        (Resource::As, limits.address_space_bytes_max),
        (Resource::Fsize, limits.file_bytes_max),
        (Resource::Nofile, limits.open_files_max),
    ];
    for (resource, maximum) in others.into_iter().chain(threads) {
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    }
    Ok(())
}
