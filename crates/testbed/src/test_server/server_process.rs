//! The process of a test server.

use crate::ServerDir;
use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How a server process is started.
#[derive(Debug)]
pub struct LaunchCommand {
    /// The command.
    pub command: Command,
    /// Its standard input.
    pub input: Vec<u8>,
    /// Finds the server's address in the line that it prints when it accepts requests; `None` for other lines.
    pub address: fn(&str) -> Option<SocketAddr>,
}

impl LaunchCommand {
    /// Puts words before the command: it runs in another namespace.
    pub(crate) fn put_before(&mut self, words: &[String]) {
        let [program, rest @ ..] = words else { return };
        let command = self.command.as_std();
        let mut whole = Command::new(program);
        whole.args(rest).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => whole.env(name, value),
                None => whole.env_remove(name),
            };
        }
        self.command = whole;
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
    ready_line: String,
    /// Kept open: the server's next line of output would fail on a closed pipe.
    _output: Lines<BufReader<ChildStdout>>,
}

impl ServerProcess {
    /// Starts a server and waits until it accepts requests; its log is appended to the log of `dir`.
    ///
    /// # Errors
    /// It ends, or does not accept requests within `limit`; the text contains the end of its log.
    pub(crate) async fn start(mut launch: LaunchCommand, dir: &ServerDir, limit: Duration) -> anyhow::Result<Self> {
        // It ends with the test, also if that is killed.
        launch.put_before(&["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        let LaunchCommand { mut command, input, address } = launch;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(dir.open_log()?).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (mut stdin, stdout) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        stdin.write_all(&input).await?;
        drop(stdin);
        let mut output = BufReader::new(stdout).lines();
        let ready = async {
            while let Some(line) = output.next_line().await? {
                if let Some(address) = address(&line) {
                    return Ok((address, line.trim().to_owned()));
                }
            }
            bail!("the server ended before it accepted requests")
        };
        let ready = timeout(limit, ready).await.context("the server does not start in time").and_then(|ready| ready);
        let (address, ready_line) =
            ready.with_context(|| format!("the server's log ends:\n{}", dir.read_log_tail()))?;
        Ok(Self { child, address, ready_line, _output: output })
    }

    /// The line that it printed when it accepted requests.
    pub(crate) fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, until the process has exited.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    /// It does not exit within `limit`, or exits with an error.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<()> {
        kill_process(self.pid().context("the server has exited already")?, Signal::TERM)?;
        let status = timeout(limit, self.child.wait()).await.context("the server does not stop in time")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Sends SIGKILL and waits for the exit.
    ///
    /// # Errors
    /// It cannot be killed.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
