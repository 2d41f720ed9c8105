//! The process of a test server.

use crate::{
    ServerDir,
    serve::{LaunchConfig, Ready},
};
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// The process of a server that listens on `address`.
    pub(crate) fn new(child: Child, address: SocketAddr) -> Self {
        Self { child, address }
    }

    /// Starts `program serve` and waits until it accepts requests; its log is appended to the log of `dir`.
    ///
    /// # Errors
    /// It is not built, or does not start in time.
    pub(crate) async fn start(program: &Path, launch: &LaunchConfig, dir: &ServerDir) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(dir.open_log()?).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (mut input, output) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        input.write_all(&serde_json::to_vec(launch)?).await?;
        drop(input);
        let mut line = String::new();
        timeout(super::WAIT_MAX, BufReader::new(output).read_line(&mut line))
            .await
            .context("the server does not start in time")??;
        let ready: Ready = serde_json::from_str(&line)
            .with_context(|| format!("the server does not start; its log ends:\n{}", dir.log_tail()))?;
        Ok(Self::new(child, ready.address))
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, until the process has exited.
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    /// It does not exit within `limit`, or exits with an error.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<()> {
        kill_process(self.pid().context("the server has exited already")?, Signal::TERM)?;
        let status = timeout(limit, self.child.wait()).await.context("the server does not stop in time")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Sends SIGKILL and waits for the exit.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
