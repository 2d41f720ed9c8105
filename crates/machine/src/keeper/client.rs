//! The controller's connection to a keeper: starts a keeper or connects to a running one, receives reports, sends commands.

use super::control::{KeeperCommand, LINE_BYTES_MAX, Report};
use crate::{
    procfs::ProcessId,
    run_dir::RunDir,
    spec::{KEEPER_CONFIG_FILE, KEEPER_SOCKET, KeeperConfig},
};
use futures_util::StreamExt;
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    process::{Child, Command},
};
use tokio_util::codec::{FramedRead, LinesCodec};

/// How long a keeper that has closed its socket may take to exit, milliseconds.
const EXIT_MS_MAX: u64 = 5_000;
/// Interval between two checks of a keeper that is not a child of this process, milliseconds.
const POLL_INTERVAL_MS: u64 = 2;

/// A connection to a running keeper. Dropping it disconnects; keeper and machine continue.
#[derive(Debug)]
pub(crate) struct KeeperClient {
    reports: FramedRead<OwnedReadHalf, LinesCodec>,
    commands: OwnedWriteHalf,
    child: Option<Child>,
    /// The process that listens on the socket: known even if the keeper never sends a greeting.
    peer: Option<ProcessId>,
}

impl KeeperClient {
    /// Writes the config into `run_dir` and starts `program keeper RUN_DIR`. Blocks for about a millisecond; needs the
    /// runtime's context.
    pub(crate) fn spawn(program: &Path, run_dir: &RunDir, config: &KeeperConfig) -> io::Result<Self> {
        run_dir.write_file(KEEPER_CONFIG_FILE, &serde_json::to_vec(config)?)?;
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg("keeper")
            .arg(run_dir.path())
            // The server's environment may contain keys.
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        Self::new(ours, Some(child), None)
    }

    /// Connects to the keeper that listens in `run_dir`.
    pub(crate) fn adopt(run_dir: &RunDir) -> io::Result<Self> {
        let stream = run_dir.connect_blocking(KEEPER_SOCKET)?;
        let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
        let peer = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok().and_then(ProcessId::from_pid);
        Self::new(stream, None, peer)
    }

    /// The keeper's process, as far as it is known without its greeting.
    pub(crate) fn keeper_process(&self) -> Option<ProcessId> {
        self.peer.or_else(|| ProcessId::from_pid(self.child.as_ref()?.id()?))
    }

    fn new(stream: UnixStream, child: Option<Child>, peer: Option<ProcessId>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reports, commands) = tokio::net::UnixStream::from_std(stream)?.into_split();
        let reports = FramedRead::new(reports, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
        Ok(Self { reports, commands, child, peer })
    }

    /// The next report; `None`: the keeper has closed its socket. Cancel safe.
    pub(crate) async fn next_report(&mut self) -> Option<Report> {
        loop {
            let line = self.reports.next().await?.ok()?;
            match serde_json::from_str(&line) {
                Ok(report) => return Some(report),
                // A newer keeper may send reports that this version does not know.
                Err(error) => tracing::debug!(%error, "unknown keeper report ignored"),
            }
        }
    }

    /// Sends a command. An error means that the keeper has exited; [`KeeperClient::next_report`] then returns `None`.
    pub(crate) async fn send(&mut self, command: &KeeperCommand) -> io::Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.commands.write_all(&line).await
    }

    /// Kills a hung keeper; its machine's process is killed with it. `keeper`: the process from its greeting.
    pub(crate) fn kill_keeper(&mut self, keeper: Option<ProcessId>) {
        if let Some(child) = &mut self.child {
            // It may have exited in between.
            let _ = child.start_kill();
        }
        if let Some(keeper) = keeper {
            keeper.kill();
        }
    }

    /// Waits until the keeper's process has exited, after its socket has closed. `keeper`: the process from its greeting.
    pub(crate) async fn wait_exited(mut self, keeper: Option<ProcessId>) {
        let exited = async {
            if let Some(child) = &mut self.child {
                let _ = child.wait().await;
            }
            while keeper.is_some_and(ProcessId::is_alive) {
                tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(EXIT_MS_MAX), exited).await.is_err() {
            tracing::warn!(pid = keeper.map(|keeper| keeper.pid), "keeper closed its socket and has not exited");
        }
    }
}
