//! The processes of one running machine, as its keeper reports them, for tests that pause, resume or kill one.

use crate::{WAIT_MAX, eventually};
use anteroom_machine::{KEEPER_SOCKET, ProcessId};
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long a keeper may take to send its greeting.
const GREETING_MAX: Duration = Duration::from_secs(30);

/// A machine's keeper and its process.
#[derive(Debug, Clone, Copy)]
pub struct MachineProcesses {
    /// The keeper.
    pub keeper: ProcessId,
    /// QEMU, or the agent of a machine that is a plain process.
    pub process: ProcessId,
}

impl MachineProcesses {
    /// Asks the keeper that listens in a machine's run directory.
    ///
    /// # Errors
    /// No keeper answers there, or its machine has no process.
    pub fn from_run_dir(run_dir: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(run_dir.join(KEEPER_SOCKET)).context("no keeper listens")?;
        stream.set_read_timeout(Some(GREETING_MAX))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let greeting: serde_json::Value = serde_json::from_str(&line).context("a keeper's greeting")?;
        let id = |value: &serde_json::Value| serde_json::from_value(value.clone());
        let process = id(&greeting["phase"]["process"]).context("the machine has no process")?;
        Ok(Self { keeper: id(&greeting["keeper"])?, process })
    }

    /// Waits until the machine's process and its keeper have exited. A machine's exit is published before its keeper has finished
    /// the cleanup.
    ///
    /// # Errors
    /// One of the two still runs after [`WAIT_MAX`].
    pub async fn wait_exited(&self) -> anyhow::Result<()> {
        let exited = async || Ok((!self.process.is_alive() && !self.keeper.is_alive()).then_some(()));
        eventually("the machine's processes exit", WAIT_MAX, exited).await.with_context(|| format!("{self:?}"))
    }
}

/// Sends a signal to a running process.
///
/// # Errors
/// The process has exited.
pub fn send_signal(process: ProcessId, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("a process id")?;
    anyhow::ensure!(process.is_alive(), "the process has exited");
    Ok(kill_process(pid, signal)?)
}
