//! How soon the next server has taken over the machines of one that was killed.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-controller
//! cargo run --release -p anteroom-testbed --example measure_adoption             # 50 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_adoption -- qemu 10  # real ones, from ANTEROOM_TEST_IMAGE
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use anteroom_testbed::{QemuServer, Script, ScriptedTool, Step, TestConfig, TestServer, measure_adoption, stats};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(240);
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let qemu = args.iter().any(|word| word == "qemu");
    let asked = args.iter().find_map(|word| word.parse::<usize>().ok());
    let count = asked.unwrap_or(if qemu { 10 } else { 50 });
    println!("{}", stats::host_summary());
    let taken = if qemu { real(count).await? } else { plain(count).await? };
    println!("{count} machines; {taken}");
    println!("{}", stats::host_summary());
    Ok(())
}

async fn plain(count: usize) -> anyhow::Result<measure_adoption::Adoption> {
    let wait = Step::WaitFor { path: "never".into(), ms_max: 3_600_000 };
    let plan = TestConfig::with_tool(ScriptedTool::new("idle", Script::new([wait])));
    let mut world =
        TestServer::start(plan.with_settings(&format!("[machines]\nmachines_max = {}\n", count + 2))).await?;
    let taken = async {
        let before = measure_adoption::start_sessions(&world.operator()?.without_history(), "idle", count).await?;
        world.kill_server().await?;
        let began = Instant::now();
        world.start_server().await?;
        measure_adoption::measure(&world.operator()?.without_history(), &before, began, LIMIT).await
    };
    let taken = taken.await;
    world.finish().await?;
    taken
}

async fn real(count: usize) -> anyhow::Result<measure_adoption::Adoption> {
    let settings = format!("{SHELL}\n[machines]\nmachines_max = {}\n", count + 2);
    let mut house = QemuServer::start(&settings, &BTreeMap::new(), false).await?;
    let taken = async {
        let before = measure_adoption::start_sessions(&house.operator()?, "shell", count).await?;
        house.kill_server().await?;
        let began = Instant::now();
        house.start_server(false).await?;
        measure_adoption::measure(&house.operator()?, &before, began, LIMIT).await
    };
    let taken = taken.await;
    house.finish().await?;
    taken
}
