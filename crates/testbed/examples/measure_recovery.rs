//! Measures how soon the crash of a machine is reported, and how soon the viewer has a desktop again.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_recovery             # 200 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_recovery -- qemu 20  # real ones, from ANTEROOM_TEST_IMAGE
//! ```
//!
//! `ANTEROOM_MEASUREMENT_LOG=FILE` keeps the server's log of a run with plain processes.

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_testbed::{
    ApiClient, DurationStats, QemuServer, Script, ScriptedTool, Step, TestConfig, TestServer, measure_recovery, stats,
};
use anteroom_wire::{SessionId, api::Status};
use anyhow::Context;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The longest wait for each step of a recovery.
const LIMIT: Duration = Duration::from_secs(60);
/// A crash that closes the viewer's connection later than this is printed with the session's id, to be found in the log.
const LATE: Duration = Duration::from_millis(500);
/// A tool that waits.
const SHELL: &str = r#"
[providers.shell]
name = "Shell"
cli = "codex"
argv = ["sh", "-i"]
lanes = ["terminal"]
next_action = "Type."
policy = "store"
egress = []
credential = { paths = [".shell/credential.json"], required = ["/token"] }
"#;

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
    let args: Vec<String> = std::env::args().skip(1).collect();
    let qemu = args.iter().any(|argument| argument == "qemu");
    let count = args.iter().find_map(|argument| argument.parse::<usize>().ok());
    let count = count.unwrap_or(if qemu { 20 } else { 200 });
    println!("{}", stats::host_summary());
    let mut measurements = Measurements::default();
    if qemu {
        let server = QemuServer::start(SHELL, &BTreeMap::new(), false).await?;
        let done = crash_machines(&server.operator()?, &server.state_dir(), "shell", count, &mut measurements).await;
        server.finish().await?;
        done?;
    } else {
        let wait = Step::WaitFor { path: "never".into(), ms_max: 3_600_000 };
        let server = TestServer::start(TestConfig::with_tool(ScriptedTool::new("idle", Script::new([wait])))).await?;
        let done = crash_machines(
            &server.operator()?.without_history(),
            &server.state_dir(),
            "idle",
            count,
            &mut measurements,
        )
        .await;
        if let Some(file) = std::env::var_os("ANTEROOM_MEASUREMENT_LOG") {
            std::fs::write(file, server.log())?;
        }
        server.finish().await?;
        done?;
    }
    println!("from SIGKILL of the machine's process to");
    println!("  the viewer's WebSocket closed       {}", measurements.closed);
    println!("  the session's status changed        {}", measurements.status_changed);
    println!("  machine_exited on the timeline      {}", measurements.timeline_entry);
    println!("  a whole frame of the next machine   {}", measurements.frame);
    println!("{}", stats::host_summary());
    Ok(())
}

async fn crash_machines(
    api: &ApiClient,
    state_dir: &Path,
    provider: &str,
    count: usize,
    measurements: &mut Measurements,
) -> anyhow::Result<()> {
    for number in 0..count {
        let id = api.start(provider).await?.session.id;
        let recovery = crash_machine(api, state_dir, &id).await.with_context(|| format!("crash {number} of {id}"))?;
        if recovery.close_code != 4510 || recovery.closed > LATE {
            println!("{id}: {recovery:?}");
        }
        measurements.closed.add(recovery.closed);
        measurements.status_changed.add(recovery.status_changed);
        measurements.timeline_entry.add(recovery.timeline_entry);
        measurements.frame.extend(recovery.frame);
        api.cancel(&id).await?;
    }
    Ok(())
}

async fn crash_machine(
    api: &ApiClient,
    state_dir: &Path,
    id: &SessionId,
) -> anyhow::Result<measure_recovery::Recovery> {
    api.wait_status(id, Status::VmStarted).await?;
    let mut viewer = api.desktop(id).await?;
    viewer.whole_frame().await?;
    measure_recovery::kill_and_measure(api, state_dir, id, viewer, LIMIT).await
}
