//! A database on a file system that becomes read-only while the server runs, as the kernel makes it after a disk error.
//!
//! No ordinary user can do this with a real mount: a mount with a file that is open for writing cannot become read-only (`mount`:
//! busy), and only root can set the flag "immutable". A user can bind-mount the files read-only over themselves, which affects
//! files that are opened later. For files that the server has open already, `anteroom-testbed` defines a `pwrite64` (see
//! `main.rs`), which SQLite writes with, and which fails with `EROFS` as the kernel's does.

use crate::TestServer;
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// While this file exists, the database is read-only.
const READ_ONLY_FILE: &str = "database-read-only";
/// The database files that are written with `pwrite64`. The third, the index, is mapped into memory.
pub const DATABASE_FILES: [&str; 2] = ["anteroom.db", "anteroom.db-wal"];

static WATCHED: OnceLock<PathBuf> = OnceLock::new();

/// Makes [`rejects_write`] depend on the file in the server's directory.
pub(super) fn watch(server_dir: &Path) {
    // It is set once: a process runs one server.
    let _ = WATCHED.set(server_dir.join(READ_ONLY_FILE));
}

/// Whether a write to this file descriptor fails with `EROFS`.
pub fn rejects_write(fd: i32) -> bool {
    // The descriptor's file name is read only while the database is read-only.
    WATCHED.get().is_some_and(|file| file.exists())
        && fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|file| DATABASE_FILES.iter().any(|name| file.file_name() == Some(OsStr::new(name))))
}

impl TestServer {
    /// Makes the server's writes to the database files fail with `EROFS`, or succeed again.
    ///
    /// # Errors
    /// The file that controls this cannot be written or removed.
    pub fn set_database_read_only(&self, read_only: bool) -> io::Result<()> {
        let file = self.path().join(READ_ONLY_FILE);
        if read_only { fs::write(file, "") } else { fs::remove_file(file) }
    }
}
