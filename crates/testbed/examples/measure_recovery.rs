//! Measures how soon the crash of a machine is reported, and how soon the viewer has a desktop again.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_recovery             # 200 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_recovery -- qemu 20  # real ones, from ANTEROOM_TEST_IMAGE
//! ```
//!
//! `ANTEROOM_MEASUREMENT_LOG=FILE` keeps the server's log.

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_testbed::{
    ApiClient, DurationStats, MachineBackend, ScriptedProvider, TestConfig, TestServer, measure_recovery, stats,
    test_server::qemu::shell_provider,
};
use anteroom_wire::{SessionId, api::SessionStatus};
use anyhow::Context;
use std::{path::Path, time::Duration};

/// The longest wait for each step of a recovery.
const LIMIT: Duration = Duration::from_secs(60);
/// A crash that closes the viewer's connection later than this is printed with the session's id, to be found in the log.
const LATE: Duration = Duration::from_millis(500);
/// The measurements of all crashes.
#[derive(Default)]
struct Measurements {
    closed: DurationStats,
    status_changed: DurationStats,
    timeline_entry: DurationStats,
    frame: DurationStats,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (qemu, count) = stats::measurement_arguments();
    let count = count.unwrap_or(if qemu { 20 } else { 200 });
    println!("{}", stats::host_summary());
    let measurements = if qemu {
        measure(TestConfig::qemu(&shell_provider()), "shell", count).await?
    } else {
        measure(TestConfig::with_provider(ScriptedProvider::idle("idle")), "idle", count).await?
    };
    println!("from SIGKILL of the machine's process to");
    println!("  the viewer's WebSocket closed       {}", measurements.closed);
    println!("  the session's status changed        {}", measurements.status_changed);
    println!("  machine_exited on the timeline      {}", measurements.timeline_entry);
    println!("  a whole frame of the next machine   {}", measurements.frame);
    println!("{}", stats::host_summary());
    Ok(())
}

async fn measure<M: MachineBackend>(
    config: TestConfig<M>,
    provider: &str,
    count: usize,
) -> anyhow::Result<Measurements> {
    let server = TestServer::start(config).await?;
    let api = server.operator_client()?.without_response_recording();
    let measured = crash_machines(&api, &server.state_dir(), provider, count).await;
    if let Some(file) = std::env::var_os("ANTEROOM_MEASUREMENT_LOG") {
        std::fs::write(file, server.read_log())?;
    }
    server.stop_and_check_leaks().await?;
    measured
}

async fn crash_machines(
    api: &ApiClient,
    state_dir: &Path,
    provider: &str,
    count: usize,
) -> anyhow::Result<Measurements> {
    let mut measurements = Measurements::default();
    for number in 0..count {
        let id = api.start_session(provider).await?.session.id;
        let recovery = crash_machine(api, state_dir, &id).await.with_context(|| format!("crash {number} of {id}"))?;
        if recovery.close_code != 4510 || recovery.closed > LATE {
            println!("{id}: {recovery:?}");
        }
        measurements.closed.add(recovery.closed);
        measurements.status_changed.add(recovery.status_changed);
        measurements.timeline_entry.add(recovery.timeline_entry);
        measurements.frame.extend(recovery.frame);
        api.cancel_session(&id).await?;
    }
    Ok(measurements)
}

async fn crash_machine(
    api: &ApiClient,
    state_dir: &Path,
    id: &SessionId,
) -> anyhow::Result<measure_recovery::RecoveryTimes> {
    api.wait_status(id, SessionStatus::VmStarted).await?;
    let mut viewer = api.connect_desktop(id).await?;
    viewer.request_full_frame().await?;
    measure_recovery::kill_and_measure(api, state_dir, id, viewer, LIMIT).await
}
