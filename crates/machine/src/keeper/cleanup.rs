//! Cleanup after a machine's exit: kills every descendant, removes the run directory, and checks both.

use super::{Keeper, vmm_process::VmmProcess};
use crate::{
    procfs::{self, ProcessId},
    receipt::{CleanupChecks, ExitCause, Receipt},
    run_dir::RunDir,
    spec::{AGENT_SERVER_SOCKET, CONTROLLER_SERVER_SOCKET, Confinement, FdSource},
};
use anteroom_wire::time::to_unix_ms;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, WaitOptions},
};
use std::{
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// How long killed processes may take to exit, milliseconds; only an uninterruptible system call delays SIGKILL.
const KILL_MS_MAX: u64 = 5_000;
/// Interval between two checks of exiting children, milliseconds.
const POLL_INTERVAL_MS: u64 = 1;

impl Keeper {
    /// Cleans up after a machine whose process has exited. `killed`: descendants that were killed before.
    pub(super) fn clean_up(&mut self, cause: ExitCause, killed: Vec<ProcessId>) -> Receipt {
        let mut checks = CleanupChecks::default();
        let mut processes: Vec<ProcessId> = self.vmm.iter().map(|vmm| vmm.id).collect();
        if let Some(vmm) = &mut self.vmm {
            vmm.read_output(&mut self.console, &mut self.output);
        }
        processes.extend(killed);
        processes.extend(kill_descendants());
        processes.sort_unstable_by_key(|process| process.pid);
        processes.dedup();
        self.monitor = None;
        if let Some(process) = self.vmm.as_mut().and_then(VmmProcess::confined_mut) {
            process.close_files();
        }
        self.check_sockets(&mut checks);
        if let Err(error) = RunDir::remove(&self.run_dir) {
            checks.leftovers.push(format!("{}: {error}", self.run_dir.display()));
        }
        checks
            .leftovers
            .extend(processes.iter().filter(|process| process.is_alive()).map(|process| process.describe()));
        checks.pids = processes.iter().map(|process| process.pid).collect();
        if self.run_dir.exists() {
            checks.leftovers.push(self.run_dir.display().to_string());
        }
        checks.paths.push(self.run_dir.clone());
        let confined = self.vmm.as_ref().and_then(VmmProcess::confined);
        Receipt {
            machine: self.config.machine.clone(),
            began_unix_ms: self.began_unix_ms,
            ended_unix_ms: to_unix_ms(std::time::SystemTime::now()),
            cause,
            stop_detail: self.stop_detail.clone(),
            console_tail: self.console.text(),
            output_tail: self.output.text(),
            checks,
            confinement: confined.map(|process| process.layers.clone()).unwrap_or_default(),
            denied_system_calls: confined.map(|process| process.denials().calls.clone()).unwrap_or_default(),
            denied_paths: confined.map(|process| process.denials().paths.clone()).unwrap_or_default(),
        }
    }

    fn check_sockets(&self, checks: &mut CleanupChecks) {
        let mut names = vec![AGENT_SERVER_SOCKET, CONTROLLER_SERVER_SOCKET];
        if let Confinement::Confined { listeners, .. } = &self.config.spec.confinement {
            names.extend(listeners.iter().map(|listener| listener.socket.as_str()));
        }
        for inherited in &self.config.spec.fds {
            if let FdSource::Listen { name } = &inherited.source
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        for name in names {
            if UnixStream::connect(name).is_ok() {
                checks.leftovers.push(format!("socket {name}"));
            }
            checks.sockets.push(name.to_owned());
        }
    }
}

/// Kills and reaps until no descendant is left (they may fork in between) or the time is over. Returns the killed processes.
///
/// The keeper is a subreaper: orphaned descendants become its children, so without children it has no descendants.
fn kill_descendants() -> Vec<ProcessId> {
    let until = Instant::now() + Duration::from_millis(KILL_MS_MAX);
    let mut killed = Vec::new();
    loop {
        let reaped = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if reaped == Err(Errno::CHILD) || Instant::now() >= until {
            return killed;
        }
        let living = procfs::own_descendants();
        for process in &living {
            process.kill();
        }
        for process in &living {
            await_end(*process, until);
        }
        if living.is_empty() {
            // A child that is neither reaped nor found in `/proc` is exiting.
            let _ =
                rustix::event::poll(&mut [], Timespec::try_from(Duration::from_millis(POLL_INTERVAL_MS)).ok().as_ref());
        }
        killed.extend(living);
    }
}

fn await_end(process: ProcessId, until: Instant) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(ended) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        let left = until.saturating_duration_since(Instant::now());
        let mut files = [PollFd::new(&ended, PollFlags::IN)];
        let _ = rustix::event::poll(&mut files, Timespec::try_from(left).ok().as_ref());
    }
}
