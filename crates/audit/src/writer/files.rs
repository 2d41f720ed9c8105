//! The file to which records are appended.

use super::sync_dir;
use crate::segments::file_name;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The newest file of the trail, open for appending.
pub(crate) struct OpenSegment {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    path: PathBuf,
    file: File,
}

impl OpenSegment {
    /// Creates an empty file (mode 0600).
    pub(crate) fn create(dir: &Path, number: u64) -> io::Result<Self> {
        let path = dir.join(file_name(number));
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        sync_dir(dir)?;
        Ok(Self { number, bytes: 0, path, file })
    }

    /// Opens an existing file and removes what follows its first `bytes` bytes.
    pub(crate) fn open(path: &Path, number: u64, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        if file.metadata()?.len() > bytes {
            file.set_len(bytes)?;
            file.sync_all()?;
        }
        Ok(Self { number, bytes, path: path.to_owned(), file })
    }

    /// Appends the text as a whole: after an error the file is as before.
    pub(crate) fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(text) {
            // A full disk accepts this: it only frees.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }

    /// Writes the content to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What differs between the file at the path and the one that was written. Only this process writes it.
    pub(crate) fn damage(&self) -> Option<String> {
        let own = self.file.metadata().ok()?;
        match fs::symlink_metadata(&self.path) {
            Err(error) => Some(format!("the file is missing ({})", error.kind())),
            Ok(found) if (found.dev(), found.ino()) != (own.dev(), own.ino()) => Some("another file".to_owned()),
            Ok(found) if found.len() != self.bytes => Some(format!("{} bytes instead of {}", found.len(), self.bytes)),
            Ok(_) => None,
        }
    }
}
