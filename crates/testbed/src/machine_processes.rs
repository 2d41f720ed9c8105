//! The processes of one machine that lives, as its keeper tells them: for tests that stop, wake or kill one.

use crate::WAIT_MAX;
use anteroom_machine::{CONTROL_SOCKET, ProcessId};
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// How long a keeper may take to say who it is.
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
    /// Asks the keeper of a machine by its run directory.
    ///
    /// # Errors
    /// No keeper answers there, or its machine has no process.
    pub fn of(run_dir: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(run_dir.join(CONTROL_SOCKET)).context("no keeper listens")?;
        stream.set_read_timeout(Some(GREETING_MAX))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let greeting: serde_json::Value = serde_json::from_str(&line).context("a keeper's greeting")?;
        let id = |value: &serde_json::Value| serde_json::from_value(value.clone());
        let process = id(&greeting["phase"]["process"]).context("the machine has no process")?;
        Ok(Self { keeper: id(&greeting["keeper"])?, process })
    }

    /// Waits until its process and its keeper have ended: a death is told before the keeper has cleared everything away.
    ///
    /// # Errors
    /// One of the two still lives.
    pub async fn ended(&self) -> anyhow::Result<()> {
        let both = async {
            while self.process.is_alive() || self.keeper.is_alive() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(WAIT_MAX, both).await.with_context(|| format!("a process of the machine still lives: {self:?}"))
    }
}

/// Sends a signal to a process that lives.
///
/// # Errors
/// It does not.
pub fn signal(process: ProcessId, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("a process id")?;
    anyhow::ensure!(process.is_alive(), "the process has ended");
    Ok(kill_process(pid, signal)?)
}
