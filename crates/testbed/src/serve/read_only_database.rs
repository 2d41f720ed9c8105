//! A database whose file system the kernel has made read-only under a running server, as it does after a disk's fault.
//!
//! No ordinary user can bring that about: a mount with a file that is open for writing cannot be made read-only (`mount`: busy),
//! and the flag "immutable" is root's. What every user can do is bind the files read-only over themselves, which meets whoever
//! opens them from then on; those that the server has open already are refused here. The program of the testbed brings its own
//! `pwrite64` (see `main.rs`), by which SQLite writes: the answer is the one that the kernel gives then, `EROFS`.

use crate::TestServer;
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

const ORDER: &str = "database-read-only";
/// The files that are written by what they are called: the third, the index, lies in memory.
pub const FILES: [&str; 2] = ["anteroom.db", "anteroom.db-wal"];

static ORDERED_BY: OnceLock<PathBuf> = OnceLock::new();

/// From now on obeys the world's orders.
pub(super) fn obey(world: &Path) {
    // A process serves one world.
    let _ = ORDERED_BY.set(world.join(ORDER));
}

/// Whether a write to this descriptor of this process is refused.
pub fn refuses(fd: i32) -> bool {
    // Without an order nobody looks what file it is.
    ORDERED_BY.get().is_some_and(|order| order.exists())
        && fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|file| FILES.iter().any(|name| file.file_name() == Some(OsStr::new(name))))
}

impl TestServer {
    /// Has the server's writes to the database's files refused from now on, or no longer.
    ///
    /// # Errors
    /// The order cannot be given.
    pub fn refuse_writes(&self, refuse: bool) -> io::Result<()> {
        let order = self.path().join(ORDER);
        if refuse { fs::write(order, "") } else { fs::remove_file(order) }
    }
}
