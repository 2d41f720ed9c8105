//! The state directory of a server.

use anteroom_controller::state_file_system;
use anyhow::Context;
use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The locked state directory; only one server can hold it.
pub struct StateDir {
    /// The path.
    pub path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory (mode 0700) and locks it.
    ///
    /// # Errors
    /// It is on a file system of a network, it cannot be created, or another server holds the lock.
    pub fn lock(path: &Path) -> anyhow::Result<Self> {
        state_file_system::require_local_state_dir(path).map_err(anyhow::Error::msg)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the state directory {} cannot be created", path.display()))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("the state directory {} cannot be written", path.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow::anyhow!(
                "another server runs with the state directory {}; stop it, or set state_dir",
                path.display()
            )
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The same for a command that works on what a server has stored: it does not create a directory.
    ///
    /// # Errors
    /// There is no such directory, or another process uses it.
    pub fn lock_existing(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            path.is_dir(),
            "no server runs, and there is no state directory {}: start `anteroom serve` once, or name the server's directory with \
             --state-dir or --config",
            path.display()
        );
        Self::lock(path)
    }
}
