//! The directory of one test's server: its configuration, state directory and log, and the commands that use them.

use crate::{LeakScan, MachineProcesses, plain_process::built_program};
use anteroom_machine::Receipt;
use anteroom_wire::MachineId;
use anyhow::{Context, bail, ensure};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// Lines of the log that an error contains.
const LOG_TAIL_LINES: usize = 40;
/// How long a command may take: a sign-in in an emulated machine on a busy host.
const COMMAND_MAX: Duration = Duration::from_secs(240);

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
    pub fn config_file(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// The state directory: database, keys, run directories, receipts.
    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The machines that have a run directory.
    pub fn list_machines(&self) -> Vec<MachineId> {
        let entries = fs::read_dir(self.state_dir().join("run")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The receipts of removed machines. One that is being written is left out.
    pub fn receipts(&self) -> Vec<Receipt> {
        let entries = fs::read_dir(self.state_dir().join("receipts")).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        ids.filter_map(|id: MachineId| Receipt::read(&self.state_dir().join("receipts"), &id).ok()?).collect()
    }

    /// The only machine that has a run directory, and its processes.
    ///
    /// # Errors
    /// There is none, or more than one, or its processes are not running.
    pub fn only_machine(&self) -> anyhow::Result<(MachineId, MachineProcesses)> {
        let machines = self.list_machines();
        let [machine] = &machines[..] else { bail!("not one machine: {machines:?}") };
        Ok((machine.clone(), MachineProcesses::from_run_dir(&self.run_dir(machine))?))
    }

    /// A machine's run directory.
    pub fn run_dir(&self, machine: &MachineId) -> PathBuf {
        self.state_dir().join("run").join(machine.as_str())
    }

    /// The receipt that a machine's keeper wrote when the machine ended.
    ///
    /// # Errors
    /// There is no receipt, or it cannot be read.
    pub fn read_receipt(&self, machine: &MachineId) -> anyhow::Result<Receipt> {
        Receipt::read(&self.state_dir().join("receipts"), machine)?.context("there is no receipt")
    }

    /// A command that runs `anteroom` with this server's configuration.
    ///
    /// # Errors
    /// It is not built.
    pub fn anteroom_command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(built_program("anteroom")?);
        command.arg("--config").arg(self.config_file()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs `anteroom ARGS` with this server's configuration and returns its standard output.
    ///
    /// # Errors
    /// It fails; the text contains its standard error.
    pub async fn run_anteroom(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = timeout(COMMAND_MAX, self.anteroom_command()?.args(args).stdin(Stdio::null()).output()).await??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "anteroom {args:?}: {}\n{stderr}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Opens the log for appending.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// Everything that the server has logged.
    pub fn read_log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn read_log_tail(&self) -> String {
        let log = self.read_log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Finds processes and files that belong to this directory.
    pub fn leak_scan(&self) -> LeakScan {
        LeakScan::for_dir(self.path())
    }
}
