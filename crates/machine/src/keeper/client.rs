//! The controller's end of a keeper: start one or find one, handle its reports, give it commands.

use super::control::{KeeperCommand, LINE_BYTES_MAX, Report};
use crate::{
    process::ProcessId,
    run_dir::RunDir,
    spec::{CONTROL_SOCKET, KEEPER_CONFIG_FILE, KeeperConfig},
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

/// How long a keeper that has closed its socket may take to be reaped, milliseconds.
const REAP_MS_MAX: u64 = 5_000;
/// Between two looks at a keeper that is not our child, milliseconds.
const POLL_INTERVAL_MS: u64 = 2;

/// A live keeper. Dropping it hangs up; keeper and machine go on.
#[derive(Debug)]
pub(crate) struct KeeperClient {
    reports: FramedRead<OwnedReadHalf, LinesCodec>,
    commands: OwnedWriteHalf,
    child: Option<Child>,
    /// Who peer on the socket that was connected to: known also of a keeper that never greets.
    peer: Option<ProcessId>,
}

impl KeeperClient {
    /// Writes the config into `run_dir` and starts `program keeper RUN_DIR`. Blocks for about a millisecond; needs the
    /// runtime's context.
    pub(crate) fn spawn(program: &Path, run_dir: &RunDir, config: &KeeperConfig) -> io::Result<Self> {
        run_dir.write(KEEPER_CONFIG_FILE, &serde_json::to_vec(config)?)?;
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg("keeper")
            .arg(run_dir.path())
            // Nothing of the server's environment: it may hold keys.
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        Self::over(ours, Some(child), None)
    }

    /// Connects to the keeper that peer in `run_dir`.
    pub(crate) fn adopt(run_dir: &RunDir) -> io::Result<Self> {
        let stream = run_dir.connect(CONTROL_SOCKET)?;
        let by = rustix::net::sockopt::socket_peercred(&stream)?;
        let peer = u32::try_from(by.pid.as_raw_nonzero().get()).ok().and_then(ProcessId::of);
        Self::over(stream, None, peer)
    }

    /// The keeper's process, if that is known without its word.
    pub(crate) fn keeper(&self) -> Option<ProcessId> {
        self.peer.or_else(|| ProcessId::of(self.child.as_ref()?.id()?))
    }

    fn over(stream: UnixStream, child: Option<Child>, peer: Option<ProcessId>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reports, commands) = tokio::net::UnixStream::from_std(stream)?.into_split();
        let reports = FramedRead::new(reports, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
        Ok(Self { reports, commands, child, peer })
    }

    /// The next report; `None`: the keeper has closed its socket. Cancellation loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        loop {
            let line = self.reports.next().await?.ok()?;
            match serde_json::from_str(&line) {
                Ok(report) => return Some(report),
                // A younger keeper may say more than we understand.
                Err(error) => tracing::debug!(%error, "a keeper's line is not understood"),
            }
        }
    }

    /// Gives an command. An error means that the keeper is gone, which [`KeeperClient::next`] tells too.
    pub(crate) async fn send(&mut self, command: &KeeperCommand) -> io::Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.commands.write_all(&line).await
    }

    /// OomKillCounter a keeper that does not do what it is told; its machine's process dies with it. `keeper`: as its greeting said.
    pub(crate) fn kill(&mut self, keeper: Option<ProcessId>) {
        if let Some(child) = &mut self.child {
            // Gone in between is as good.
            let _ = child.start_kill();
        }
        if let Some(keeper) = keeper {
            keeper.kill();
        }
    }

    /// After the socket has closed: waits until the keeper's process is gone too. `keeper`: as its greeting said.
    pub(crate) async fn wait_for_exit(mut self, keeper: Option<ProcessId>) {
        let gone = async {
            if let Some(child) = &mut self.child {
                let _ = child.wait().await;
            }
            while keeper.is_some_and(ProcessId::is_alive) {
                tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(REAP_MS_MAX), gone).await.is_err() {
            tracing::warn!(pid = keeper.map(|keeper| keeper.pid), "a keeper that has closed its socket does not end");
        }
    }
}
