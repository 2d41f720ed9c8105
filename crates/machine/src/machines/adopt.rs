//! A server's start: which machines live, which run directories are what is left of dead ones.

use super::{Machines, OpenError, driver};
use crate::{
    exit_reason::StopReason,
    keeper::client::KeeperClient,
    run_dir::RunDir,
    spec::{KeeperConfig, SPEC_FILE},
    state::State,
};
use anteroom_wire::MachineId;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// How long a run directory without a listening keeper is given: its keeper may have been started a moment ago by a server
/// that process_exited right after.
const LISTEN_MS_MAX: u64 = 500;
/// Between two tries to connect, milliseconds.
const TRY_EVERY_MS: u64 = 20;

impl Machines {
    /// Adopts every keeper that answers; removes the directories of those that do not.
    pub(super) async fn adopt_all(&self) -> Result<(), OpenError> {
        let path = self.inner.settings.run_dir.clone();
        let directory = |source| OpenError::Directory { path: path.clone(), source };
        let until = Instant::now() + Duration::from_millis(LISTEN_MS_MAX);
        for entry in fs::read_dir(&path).map_err(directory)? {
            let entry = entry.map_err(directory)?;
            let id = entry.file_name().to_str().and_then(|name| name.parse::<MachineId>().ok());
            let Some(id) = id else {
                tracing::warn!(path = %entry.path().display(), "not a machine's run directory; left alone");
                continue;
            };
            let path = entry.path();
            match find(path.clone(), until).await {
                Ok(Some((client, config))) => self.adopt(id, client, config),
                Ok(None) => {
                    tracing::info!(machine = %id, outcome = "dead", "no keeper answers; its directory is removed");
                    RunDir::remove(&path).map_err(|source| OpenError::Directory { path, source })?;
                }
                // Whether a machine lives there is not known: nothing may be taken from under it.
                Err(source) => return Err(OpenError::Directory { path, source }),
            }
        }
        Ok(())
    }

    /// A machine that this server cannot know is ended, by the keeper that has it: nobody else may.
    fn adopt(&self, id: MachineId, client: KeeperClient, config: io::Result<KeeperConfig>) {
        let (image_hash, incompatible) = match config {
            Ok(config) => (config.image_hash, None),
            Err(error) => {
                tracing::warn!(machine = %id, %error, outcome = "not_understood", "a machine outlived its server and this one cannot read its spec; it is ended");
                let expected = "one whose it can".to_owned();
                let found = format!("a version whose {SPEC_FILE} this server cannot read ({error})");
                (String::new(), Some(StopReason::Mismatch { expected, found }))
            }
        };
        match self.reserve_slot(id.clone(), image_hash, State::Cloning) {
            Ok(slot) => {
                tracing::info!(machine = %id, outcome = "adopted", "a machine outlived its server");
                self.inner.tasks.spawn(driver::adopt(self.clone(), slot, client, incompatible));
            }
            Err(error) => tracing::warn!(machine = %id, %error, "a machine could not be adopted"),
        }
    }
}

/// Connects to the keeper of a run directory, waiting a moment for one that is just starting, and reads what it keeps.
/// `None`: there is no keeper any more.
async fn find(path: PathBuf, until: Instant) -> io::Result<Option<(KeeperClient, io::Result<KeeperConfig>)>> {
    let run_dir = RunDir::open(path)?;
    loop {
        match KeeperClient::adopt(&run_dir) {
            Ok(client) => return Ok(Some((client, config(run_dir.path())))),
            // It may not listen yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(TRY_EVERY_MS)).await;
            }
            // Refused: it listened once and is dead.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

fn config(run_dir: &Path) -> io::Result<KeeperConfig> {
    Ok(serde_json::from_slice(&fs::read(run_dir.join(SPEC_FILE))?)?)
}
