//! A backup that a server on another host sends.

use super::{
    BackupError, Manifest,
    archive::check_archive,
    create::{PART_NAME, output_path, parent_of, publish},
    work_dir::WorkDir,
};
use crate::unix_time::now_unix_ms;
use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A backup that is not complete. It has no name, and is removed when dropped.
#[derive(Debug)]
pub struct IncomingBackup {
    work: WorkDir,
    part: File,
    to: PathBuf,
}

impl IncomingBackup {
    /// Begins to receive a backup, into a file that does not exist or a directory.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn begin(to: &Path) -> Result<Self, BackupError> {
        let to = output_path(to, now_unix_ms())?;
        let failed = |source| BackupError::Write { path: to.clone(), source };
        let work = WorkDir::create_in(&parent_of(&to)).map_err(failed)?;
        let part = File::options().write(true).create_new(true).mode(0o600).open(work.path(PART_NAME));
        let part = part.map_err(failed)?;
        Ok(Self { work, part, to })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.part.write_all(bytes).map_err(|source| BackupError::Write { path: self.to.clone(), source })
    }

    /// Compares all files with their digests, and gives the backup its name. Returns the path, the size in bytes and the description.
    ///
    /// # Errors
    /// It is not complete, or not as it was sent; or it cannot be written. Nothing is left.
    pub fn finish(self) -> Result<(PathBuf, u64, Manifest), BackupError> {
        let failed = |source| BackupError::Write { path: self.to.clone(), source };
        self.part.sync_all().map_err(failed)?;
        let bytes = self.part.metadata().map_err(failed)?.len();
        let path = self.work.path(PART_NAME);
        let named = |error| {
            if let BackupError::Damaged { why, .. } = error {
                BackupError::Damaged { path: self.to.clone(), why }
            } else {
                error
            }
        };
        let manifest = check_archive(&path).map_err(named)?;
        publish(&path, &self.to)?;
        Ok((self.to, bytes, manifest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_complete_backup_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a.tar.gz");
        let mut incoming = IncomingBackup::begin(&to).unwrap();
        incoming.write(b"the beginning of something else").unwrap();
        let error = incoming.finish().unwrap_err().to_string();
        assert!(error.contains("a.tar.gz is not a complete backup"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        fs::write(&to, "").unwrap();
        assert!(matches!(IncomingBackup::begin(&to), Err(BackupError::Exists { .. })));
    }
}
