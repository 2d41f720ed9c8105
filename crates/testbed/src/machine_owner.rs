//! A process that owns machines, for tests that kill it and adopt them.
//!
//! ```text
//!  test ─▶ anteroom-testbed own KIND STATE_DIR COUNT ─▶ keepers ─▶ machines
//!       ◀─ ["mac_…", …] when they are ready; then it waits to be killed
//! ```

use crate::{
    machine_kinds::{self, Kind, Preparation},
    machine_server::{MachineServer, reject_all_requests},
    plain_process::built_program,
};
use anteroom_machine::{MachinesSettings, State};
use anteroom_wire::MachineId;
use anyhow::Context;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A number of milliseconds in the past for the first part of ids: they need only be different from each other.
const FIRST_ID: u64 = 1_000;

/// Starts `count` machines, prints their ids when all are ready, and waits until it is killed.
///
/// # Errors
/// The kind cannot be used on this host, or a machine is not ready in time.
#[allow(clippy::print_stdout, reason = "its output is read by the test that started it")]
pub async fn run(kind: &str, state_dir: &Path, count: u64) -> anyhow::Result<()> {
    let kind = machine_kinds::find(kind)?;
    let source = match kind.prepare().await? {
        Preparation::Ready(source) => source,
        Preparation::Unavailable { why } => anyhow::bail!("{why}"),
    };
    let settings = MachinesSettings::in_state_dir(state_dir, built_program("anteroom-testbed")?);
    let server = MachineServer::open(settings, source, reject_all_requests()).await?;
    let mut ids = Vec::new();
    let mut states = Vec::new();
    for number in 0..count {
        let id = MachineId::from_parts(FIRST_ID + number, std::process::id().to_le_bytes().repeat(3)[..10].try_into()?);
        states.push(server.machines.start(id.clone())?);
        ids.push(id);
    }
    for mut state in states {
        let ready = state.wait_for(|state| matches!(state, State::Ready { .. } | State::Removed { .. }));
        let state = timeout(kind.wait_max(), ready).await.context("a machine is not ready")??.clone();
        anyhow::ensure!(!state.is_removed(), "a machine ended: {state:?}");
    }
    println!("{}", serde_json::to_string(&ids)?);
    std::future::pending().await
}

/// A running owner. Dropping it kills it; its machines continue.
pub struct OwnerProcess {
    process: Child,
    /// Its machines.
    pub machines: Vec<MachineId>,
}

impl OwnerProcess {
    /// Starts an owner of `count` machines and waits until they are ready.
    ///
    /// # Errors
    /// The owner has ended; its standard error has the cause.
    pub async fn start(kind: &dyn Kind, state_dir: &Path, count: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(built_program("anteroom-testbed")?);
        command.args(["own", kind.name()]).arg(state_dir).arg(count.to_string());
        let mut process = command.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("its output is a pipe")?).lines();
        let line = timeout(kind.wait_max(), lines.next_line()).await.context("its machines are not ready")??;
        let machines = serde_json::from_str(&line.context("the owner has ended")?)?;
        Ok(Self { process, machines })
    }

    /// Sends SIGKILL and waits until it has exited.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}
