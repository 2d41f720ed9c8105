//! A directory for files that are not complete. It is removed with its value; one of a process that was killed is removed by the next.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const PREFIX: &str = ".anteroom-backup-";
/// A process that writes into the directory holds the lock on this file.
const LOCK_NAME: &str = "lock";

/// A locked directory (mode 0700) that is removed when dropped.
#[derive(Debug)]
pub(super) struct WorkDir {
    dir: TempDir,
    _lock: File,
}

impl WorkDir {
    /// Creates one in `parent`, and removes those that killed processes have left there.
    pub(super) fn create_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::options().write(true).create_new(true).mode(0o600).open(dir.path().join(LOCK_NAME))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn remove_abandoned(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // One without a lock is being created.
        let Ok(lock) = File::open(entry.path().join(LOCK_NAME)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Flushes the entries of a directory to the disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = WorkDir::create_in(parent.path()).unwrap();
        let abandoned = parent.path().join(format!("{PREFIX}killed"));
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK_NAME), "").unwrap();
        fs::write(abandoned.join("part"), "sealed bytes").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        drop(WorkDir::create_in(parent.path()).unwrap());
        assert!(!abandoned.exists());
        assert!(living.path(LOCK_NAME).exists() && parent.path().join("other").exists());
    }
}
