//! Measures machines of one kind without a server above them: start, exit, ten at once, adoption.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent
//! cargo run --release -p anteroom-testbed --example measure_machines -- plain_process
//! cargo run --release -p anteroom-testbed --example measure_machines -- qemu         # from ANTEROOM_TEST_IMAGE
//! cargo run --release -p anteroom-testbed --example measure_machines -- firecracker  # from ANTEROOM_TEST_FIRECRACKER
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_machine::{MachinesSettings, SpecSource, State, StopReason};
use anteroom_testbed::{
    DurationStats, LeakScan, MachineProcesses,
    machine_kinds::{self, Kind, Preparation},
    machine_owner::OwnerProcess,
    machine_processes::send_signal,
    machine_server::{MachineServer, reject_all_requests},
    plain_process::built_program,
    stats,
};
use anteroom_wire::MachineId;
use anyhow::Context;
use futures_util::future::try_join_all;
use rustix::process::Signal;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// Machines that are started and killed one after the other.
const MACHINES: u64 = 20;
/// Machines that start at once, and machines that are adopted.
const AT_ONCE: usize = 10;
const LIMIT: Duration = Duration::from_secs(240);
/// The first part of the first machine's id.
const FIRST_ID: u64 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("usage: measure_machines KIND")?;
    let kind = machine_kinds::find(&name)?;
    let source = match kind.prepare().await? {
        Preparation::Ready(source) => source,
        Preparation::Unavailable { why } => anyhow::bail!("{why}"),
    };
    println!("{}", stats::host_summary());
    let dir = tempfile::tempdir()?;
    measure_exits(dir.path(), source.clone()).await?;
    println!("{AT_ONCE} at once, until all are ready   {:9.1} ms", start_at_once(dir.path(), source.clone()).await?);
    println!("{AT_ONCE} adopted, until all are ready   {:9.1} ms", adopt(kind, dir.path(), source).await?);
    LeakScan::for_dir(dir.path()).wait_none_left(LIMIT).await?;
    println!("{}", stats::host_summary());
    Ok(())
}

async fn open(dir: &Path, source: Arc<dyn SpecSource>) -> anyhow::Result<MachineServer> {
    let settings = MachinesSettings::in_state_dir(dir, built_program("anteroom-testbed")?);
    Ok(MachineServer::open(settings, source, reject_all_requests()).await?)
}

fn id(number: u64) -> MachineId {
    MachineId::from_parts(FIRST_ID + number, [1; 10])
}

async fn wait(state: &mut watch::Receiver<State>, wanted: impl Fn(&State) -> bool) -> anyhow::Result<()> {
    let reached = timeout(LIMIT, state.wait_for(|state| wanted(state) || state.is_removed())).await??;
    anyhow::ensure!(wanted(&reached), "{:?}", *reached);
    Ok(())
}

fn is_ready(state: &State) -> bool {
    matches!(state, State::Ready { .. })
}

fn milliseconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}

/// Starts and kills machines, one after the other.
async fn measure_exits(dir: &Path, source: Arc<dyn SpecSource>) -> anyhow::Result<()> {
    let server = open(dir, source).await?;
    let [mut ready, mut exited, mut removed] = [const { DurationStats::EMPTY }; 3];
    for number in 0..MACHINES {
        let id = id(number);
        let began = Instant::now();
        let mut state = server.machines.start(id.clone())?;
        wait(&mut state, is_ready).await?;
        ready.add(began.elapsed());
        let run_dir = server.machines.settings().run_dir.join(id.as_str());
        let processes = MachineProcesses::from_run_dir(&run_dir)?;
        let killed = Instant::now();
        send_signal(processes.process, Signal::KILL)?;
        wait(&mut state, |state| matches!(state, State::Exited { .. } | State::Removed { .. })).await?;
        exited.add(killed.elapsed());
        wait(&mut state, State::is_removed).await?;
        removed.add(killed.elapsed());
    }
    println!("start, until it is ready          {ready}");
    println!("SIGKILL, until the exit is known  {exited}");
    println!("SIGKILL, until it is removed      {removed}");
    server.end(LIMIT).await
}

async fn start_at_once(dir: &Path, source: Arc<dyn SpecSource>) -> anyhow::Result<f64> {
    let server = open(dir, source).await?;
    let began = Instant::now();
    let numbers = MACHINES..MACHINES + u64::try_from(AT_ONCE)?;
    let mut states = numbers.map(|number| server.machines.start(id(number))).collect::<Result<Vec<_>, _>>()?;
    try_join_all(states.iter_mut().map(|state| wait(state, is_ready))).await?;
    let took = milliseconds_since(began);
    stop_all(server).await?;
    Ok(took)
}

/// Starts machines in another process, kills it, and adopts them.
async fn adopt(kind: &dyn Kind, dir: &Path, source: Arc<dyn SpecSource>) -> anyhow::Result<f64> {
    let owner = OwnerProcess::start(kind, dir, AT_ONCE).await?;
    let ids = owner.machines.clone();
    owner.kill().await?;
    let began = Instant::now();
    let server = open(dir, source).await?;
    let watched = ids.iter().map(|id| server.machines.watch(id).context("a machine was not adopted"));
    let mut states = watched.collect::<anyhow::Result<Vec<_>>>()?;
    try_join_all(states.iter_mut().map(|state| wait(state, is_ready))).await?;
    let took = milliseconds_since(began);
    stop_all(server).await?;
    Ok(took)
}

async fn stop_all(server: MachineServer) -> anyhow::Result<()> {
    let mut states = Vec::new();
    for (id, _) in server.machines.list() {
        states.extend(server.machines.watch(&id));
        server.machines.stop(&id, StopReason::Completed);
    }
    try_join_all(states.iter_mut().map(|state| wait(state, State::is_removed))).await?;
    server.end(LIMIT).await
}
