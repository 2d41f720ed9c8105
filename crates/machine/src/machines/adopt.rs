//! Adoption at a server's start: takes over running machines, removes the run directories of exited ones.

use super::{AgentTarget, Machines, MachinesOpenError, machine_task};
use crate::{
    exit_reason::StopReason,
    keeper::client::KeeperClient,
    renew_deadline::RENEW_DEADLINE_FILE,
    run_dir::RunDir,
    spec::{ChannelTransport, KEEPER_CONFIG_FILE, KeeperConfig},
    state::State,
};
use anteroom_wire::MachineId;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// How long to wait for a keeper to listen, milliseconds: it may have been started a moment ago by a server that ended right
/// after.
const LISTEN_MS_MAX: u64 = 500;
/// Interval between two attempts to connect, milliseconds.
const RETRY_INTERVAL_MS: u64 = 20;

impl Machines {
    /// Adopts every keeper that answers; removes the directories of those that do not.
    pub(super) async fn adopt_all(&self) -> Result<(), MachinesOpenError> {
        let path = self.inner.settings.run_dir.clone();
        let directory = |source| MachinesOpenError::Directory { path: path.clone(), source };
        let until = Instant::now() + Duration::from_millis(LISTEN_MS_MAX);
        for entry in fs::read_dir(&path).map_err(directory)? {
            let entry = entry.map_err(directory)?;
            if entry.file_name() == RENEW_DEADLINE_FILE {
                continue;
            }
            let id = entry.file_name().to_str().and_then(|name| name.parse::<MachineId>().ok());
            let Some(id) = id else {
                tracing::warn!(path = %entry.path().display(), "entry of the run directory ignored: its name is not a machine id");
                continue;
            };
            let path = entry.path();
            match connect(path.clone(), until).await {
                Ok(Some((client, config))) => self.adopt(id, client, config),
                Ok(None) => {
                    tracing::info!(machine = %id, outcome = "exited", "run directory without a keeper removed");
                    RunDir::remove(&path).map_err(|source| MachinesOpenError::Directory { path, source })?;
                }
                // It is unknown whether a machine is running there: its directory must not be removed.
                Err(source) => return Err(MachinesOpenError::Directory { path, source }),
            }
        }
        Ok(())
    }

    /// Starts a machine task for a running machine. If this server cannot read its configuration, the keeper is commanded to stop it.
    fn adopt(&self, id: MachineId, client: KeeperClient, config: io::Result<KeeperConfig>) {
        let (target, incompatible) = match config {
            Ok(config) => (AgentTarget { image_hash: config.image_hash, transport: config.spec.transport }, None),
            Err(error) => {
                tracing::warn!(machine = %id, %error, outcome = "incompatible", "machine cannot be adopted and is stopped: its configuration is unreadable");
                let expected = "a keeper with a compatible configuration".to_owned();
                let found = format!("a keeper whose {KEEPER_CONFIG_FILE} this server cannot read ({error})");
                // It is stopped at once, so its agent is not reached.
                let target = AgentTarget { image_hash: String::new(), transport: ChannelTransport::UnixSockets };
                (target, Some(StopReason::Mismatch { expected, found }))
            }
        };
        match self.reserve_slot(id.clone(), target, State::Cloning) {
            Ok(slot) => {
                tracing::info!(machine = %id, outcome = "adopted", "machine adopted");
                self.inner.tasks.spawn(machine_task::run_adopted(self.clone(), slot, client, incompatible));
            }
            Err(error) => tracing::warn!(machine = %id, %error, "machine adoption failed"),
        }
    }
}

/// Connects to the keeper of a run directory, with retries until `until` for one that is starting, and reads its configuration.
/// `None`: the keeper has exited.
async fn connect(path: PathBuf, until: Instant) -> io::Result<Option<(KeeperClient, io::Result<KeeperConfig>)>> {
    let run_dir = RunDir::open(path)?;
    loop {
        match KeeperClient::adopt(&run_dir) {
            Ok(client) => return Ok(Some((client, config(run_dir.path())))),
            // It may not be listening yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
            }
            // Refused: the socket file exists and its keeper has exited.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

fn config(run_dir: &Path) -> io::Result<KeeperConfig> {
    Ok(serde_json::from_slice(&fs::read(run_dir.join(KEEPER_CONFIG_FILE))?)?)
}
