//! The server's process.

use crate::serve::{Order, Serving};
use anyhow::{Context, ensure};
use std::{fs::File, net::SocketAddr, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A server that runs. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts `program` as the server and waits until it answers; its log is appended to `log`.
    ///
    /// # Errors
    /// It is not built, or does not start in time.
    pub async fn start(program: &Path, order: &Order, log: &Path) -> anyhow::Result<Self> {
        let log_file = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (mut input, output) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        input.write_all(&serde_json::to_vec(order)?).await?;
        drop(input);
        let mut line = String::new();
        timeout(super::WAIT_MAX, BufReader::new(output).read_line(&mut line))
            .await
            .context("the server does not start")??;
        let failed = || {
            format!("the server does not start:\n{}", super::tail(&std::fs::read_to_string(log).unwrap_or_default()))
        };
        let serving: Serving = serde_json::from_str(&line).with_context(failed)?;
        Ok(Self { child, address: serving.address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, while it has not ended.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time, or with an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(
            self.pid().context("the server has ended by itself")?,
            rustix::process::Signal::TERM,
        )?;
        let status = timeout(super::WAIT_MAX, self.child.wait()).await.context("the server does not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
