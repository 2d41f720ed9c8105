//! A server's start: which machines live, which run directories are what is left of dead ones.

use super::{Machines, OpenError, driver};
use crate::{
    keeper::link::Link,
    run_dir::RunDir,
    spec::{Brief, SPEC_FILE},
    state::State,
};
use anteroom_wire::MachineId;
use std::{fs, io, path::PathBuf, time::Duration};
use tokio::time::Instant;

/// How long a run directory without a listening keeper is given: its keeper may have been started a moment ago by a server
/// that died right after.
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
            match find(entry.path(), until).await {
                Ok((link, brief)) => self.adopt(id, link, &brief),
                Err(error) => {
                    tracing::info!(machine = %id, %error, outcome = "dead", "no keeper answers; its directory is removed");
                    RunDir::remove(&entry.path()).map_err(directory)?;
                }
            }
        }
        Ok(())
    }

    fn adopt(&self, id: MachineId, link: Link, brief: &Brief) {
        match self.seat(id.clone(), brief.image_hash.clone(), State::Cloning) {
            Ok(seat) => {
                tracing::info!(machine = %id, outcome = "adopted", "a machine outlived its server");
                self.inner.tasks.spawn(driver::adopt(self.clone(), seat, link));
            }
            Err(error) => tracing::warn!(machine = %id, %error, "a machine could not be adopted"),
        }
    }
}

/// Connects to the keeper of a run directory, waiting a moment for one that is just starting.
async fn find(path: PathBuf, until: Instant) -> io::Result<(Link, Brief)> {
    let run_dir = RunDir::open(path)?;
    loop {
        match Link::adopt(&run_dir) {
            Ok(link) => {
                let brief = serde_json::from_slice(&fs::read(run_dir.path().join(SPEC_FILE))?)?;
                return Ok((link, brief));
            }
            // Refused: it listened once and is dead. Not found: it may not listen yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(TRY_EVERY_MS)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
