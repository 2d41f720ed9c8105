//! A machine's run directory and the sockets in it.
//!
//! A Unix socket path may have at most 107 bytes (unix(7)); a run directory's path may be longer. So every connect and bind
//! uses `/proc/self/fd/N/name`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

/// Exists in the run directory of a machine that was ready once. A server that adopts the machine needs it to distinguish a hung
/// machine from one that is still starting.
const READY_FILE: &str = "was_ready";

/// A run directory, held open.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    dir: File,
}

impl RunDir {
    /// Creates the directory with mode 0700; it must not exist.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Self::open(path)
    }

    /// Opens an existing one.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file with mode 0600.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name))?.write_all(bytes)
    }

    /// Records that the machine of the run directory `path` was ready. Idempotent.
    pub(crate) fn record_ready(path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(READY_FILE)).map(drop)
    }

    /// Whether [`RunDir::record_ready`] was called for this run directory.
    pub(crate) fn was_ready(path: &Path) -> bool {
        path.join(READY_FILE).exists()
    }

    /// A short path of the socket `name`; valid until this value is dropped.
    fn short(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// Connects to the socket `name`, without waiting.
    pub(crate) fn connect_blocking(&self, name: &str) -> io::Result<UnixStream> {
        UnixStream::connect(self.short(name))
    }

    /// Connects to the socket `name` on tokio's reactor. A Unix connect blocks only when the listener's queue is full; it is
    /// non-blocking here, so a full queue is an error.
    pub(crate) async fn connect_async(&self, name: &str) -> io::Result<tokio::net::UnixStream> {
        tokio::net::UnixStream::connect(self.short(name)).await
    }

    /// Removes the directory with everything in it. Idempotent.
    pub(crate) fn remove(path: &Path) -> io::Result<()> {
        let mut removed = fs::remove_dir_all(path);
        if removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
            // The server recorded at this moment that the machine was ready.
            removed = fs::remove_dir_all(path);
        }
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn socket_in_a_directory_with_a_long_name_is_reachable() {
        let top = tempfile::tempdir().unwrap();
        let dir = RunDir::create(top.path().join("x".repeat(200))).unwrap();
        let _listener = UnixListener::bind(dir.short("agent.sock")).unwrap();
        dir.connect_blocking("agent.sock").unwrap();
        assert!(dir.path().join("agent.sock").exists());
        RunDir::remove(dir.path()).unwrap();
        RunDir::remove(dir.path()).unwrap();
        assert!(!dir.path().exists());
    }
}
