//! The directory of one test's server: its configuration, state directory and log. [`TestServer`](crate::TestServer) and
//! [`QemuServer`](crate::QemuServer) share it.

use crate::{Leaks, eventually};
use anteroom_wire::MachineId;
use anyhow::Context;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Lines of the log that an error contains.
const LOG_TAIL_LINES: usize = 40;

/// A temporary directory with everything that belongs to one server. It is removed when dropped.
#[derive(Debug)]
pub struct ServerDir(TempDir);

impl ServerDir {
    /// Creates an empty directory below `parent`. Its name is short, because Unix socket paths are limited to 107 bytes.
    pub(crate) fn create_in(parent: &Path) -> io::Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("test").tempdir_in(parent)?))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The server's configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// The state directory: database, keys, run directories, receipts.
    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The machines that have a run directory.
    pub fn machines(&self) -> Vec<MachineId> {
        let entries = fs::read_dir(self.state_dir().join("run")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// A machine's run directory.
    pub fn run_dir(&self, machine: &MachineId) -> PathBuf {
        self.state_dir().join("run").join(machine.as_str())
    }

    /// Waits until no machine has a run directory.
    ///
    /// # Errors
    /// Machines are left after `limit`.
    pub(crate) async fn wait_no_machines(&self, limit: Duration) -> anyhow::Result<()> {
        let removed =
            eventually("every machine is removed", limit, async || Ok(self.machines().is_empty().then_some(())));
        removed.await.with_context(|| format!("machines are left: {:?}", self.machines()))
    }

    /// Opens the log for appending.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Finds processes and files that belong to this directory.
    pub fn leaks(&self) -> Leaks {
        Leaks::for_dir(self.path())
    }
}
