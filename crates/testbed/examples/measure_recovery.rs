//! How soon everybody knows that a machine has died, and how soon there is a desktop again.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-controller
//! cargo run --release -p anteroom-testbed --example measure_recovery             # 200 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_recovery -- qemu 20  # real ones, from ANTEROOM_TEST_IMAGE
//! ```
//!
//! `ANTEROOM_FIGURES_LOG=FILE` keeps the server's log of a run with plain processes.

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use anteroom_testbed::{
    ApiClient, DurationStats, QemuServer, Script, ScriptedTool, Step, TestConfig, TestServer, measure_recovery, stats,
};
use anteroom_wire::{SessionId, api::Status};
use anyhow::Context;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Beyond this a death counts as not heard of.
const LIMIT: Duration = Duration::from_secs(60);
/// A death that is heard of later than this is printed with the session's id, to be looked up in the log.
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

/// What is told of all deaths.
#[derive(Default)]
struct Figures {
    closed: DurationStats,
    told: DurationStats,
    noted: DurationStats,
    frame: DurationStats,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let qemu = args.iter().any(|word| word == "qemu");
    let asked = args.iter().find_map(|word| word.parse::<usize>().ok());
    let count = asked.unwrap_or(if qemu { 20 } else { 200 });
    println!("{}", stats::host_summary());
    let mut figures = Figures::default();
    if qemu {
        let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await?;
        let done = deaths(&house.operator()?, &house.state_dir(), "shell", count, &mut figures).await;
        house.finish().await?;
        done?;
    } else {
        let wait = Step::WaitFor { path: "never".into(), ms_max: 3_600_000 };
        let world = TestServer::start(TestConfig::with_tool(ScriptedTool::new("idle", Script::new([wait])))).await?;
        let done = deaths(&world.operator()?.without_history(), &world.state_dir(), "idle", count, &mut figures).await;
        if let Some(file) = std::env::var_os("ANTEROOM_FIGURES_LOG") {
            std::fs::write(file, world.log())?;
        }
        world.finish().await?;
        done?;
    }
    println!("from SIGKILL of the machine's process to");
    println!("  the viewer's WebSocket closed       {}", figures.closed);
    println!("  the session says so                 {}", figures.told);
    println!("  machine_exited on the timeline        {}", figures.noted);
    println!("  a whole frame of the next machine   {}", figures.frame);
    println!("{}", self::stats::host_summary());
    Ok(())
}

async fn deaths(
    api: &ApiClient,
    state_dir: &Path,
    provider: &str,
    count: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for number in 0..count {
        let id = api.start(provider).await?.session.id;
        let seen = death(api, state_dir, &id).await.with_context(|| format!("death {number} of {id}"))?;
        if seen.close_code != 4510 || seen.closed > LATE {
            println!("{id}: {seen:?}");
        }
        figures.closed.add(seen.closed);
        figures.told.add(seen.told);
        figures.noted.add(seen.noted);
        figures.frame.extend(seen.frame);
        api.cancel(&id).await?;
    }
    Ok(())
}

async fn death(api: &ApiClient, state_dir: &Path, id: &SessionId) -> anyhow::Result<measure_recovery::Seen> {
    api.wait_status(id, Status::VmStarted).await?;
    let mut viewer = api.desktop(id).await?;
    viewer.whole_frame().await?;
    measure_recovery::kill_and_measure(api, state_dir, id, viewer, LIMIT).await
}
