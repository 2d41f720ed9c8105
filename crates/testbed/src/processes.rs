//! Finds the processes of a machine in `/proc`, and measures the resources of a process.
//!
//! ```text
//!  keeper RUN_DIR/mac_… ─▶ the machine (a VMM, or the agent of a plain-process machine) ─▶ what runs in it
//! ```

use anteroom_wire::MachineId;
use anyhow::Context;
use rustix::process::{Pid, Signal};
use std::{fs, path::Path};

/// The keeper of a machine whose run directory lies below `state_dir`; `None`: no keeper runs.
pub fn find_keeper_pid(state_dir: &Path, machine: &MachineId) -> Option<Pid> {
    let run_dir = state_dir.join("run").join(machine.as_str());
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"keeper") && words.next() == run_dir.to_str().map(str::as_bytes)
    })?;
    Pid::from_raw(found)
}

/// The machine's own process: its keeper's first child.
pub fn find_machine_pid(state_dir: &Path, machine: &MachineId) -> Option<Pid> {
    let keeper = find_keeper_pid(state_dir, machine)?.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)
}

/// Sends SIGKILL.
///
/// # Errors
/// There is no such process.
pub fn kill_process(pid: Pid) -> anyhow::Result<()> {
    rustix::process::kill_process(pid, Signal::KILL).with_context(|| format!("process {}", pid.as_raw_nonzero()))
}

/// The resources of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceUsage {
    /// Open files; `None`: this user may not count those of a process that forbids it.
    pub files: Option<usize>,
    /// Threads.
    pub threads: usize,
    /// Resident memory, KiB.
    pub resident_kib: u64,
}

/// The resources that a process uses now; `None`: there is no such process.
pub fn read_resource_usage(pid: Pid) -> Option<ResourceUsage> {
    let proc_dir = format!("/proc/{}", pid.as_raw_nonzero());
    let count = |name: &str| fs::read_dir(format!("{proc_dir}/{name}")).ok().map(Iterator::count);
    let status = fs::read_to_string(format!("{proc_dir}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
    Some(ResourceUsage { files: count("fd"), threads: count("task")?, resident_kib })
}
