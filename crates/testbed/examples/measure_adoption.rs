//! Measures how soon the next server process has adopted the machines of one that was killed.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_adoption             # 50 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_adoption -- qemu 10  # real ones, from ANTEROOM_TEST_IMAGE
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

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
    let qemu = args.iter().any(|argument| argument == "qemu");
    let count = args.iter().find_map(|argument| argument.parse::<usize>().ok());
    let count = count.unwrap_or(if qemu { 10 } else { 50 });
    println!("{}", stats::host_summary());
    let adoption = if qemu { qemu_machines(count).await? } else { plain_machines(count).await? };
    println!("{count} machines; {adoption}");
    println!("{}", stats::host_summary());
    Ok(())
}

async fn plain_machines(count: usize) -> anyhow::Result<measure_adoption::Adoption> {
    let wait = Step::WaitFor { path: "never".into(), ms_max: 3_600_000 };
    let config = TestConfig::with_tool(ScriptedTool::new("idle", Script::new([wait])));
    let mut server =
        TestServer::start(config.with_settings(&format!("[machines]\nmachines_max = {}\n", count + 2))).await?;
    let measured = async {
        let before = measure_adoption::start_sessions(&server.operator()?.without_history(), "idle", count).await?;
        server.kill_server().await?;
        let began = Instant::now();
        server.start_server().await?;
        measure_adoption::measure(&server.operator()?.without_history(), &before, began, LIMIT).await
    };
    let adoption = measured.await;
    server.finish().await?;
    adoption
}

async fn qemu_machines(count: usize) -> anyhow::Result<measure_adoption::Adoption> {
    let settings = format!("{SHELL}\n[machines]\nmachines_max = {}\n", count + 2);
    let mut server = QemuServer::start(&settings, &BTreeMap::new(), false).await?;
    let measured = async {
        let before = measure_adoption::start_sessions(&server.operator()?, "shell", count).await?;
        server.kill_server().await?;
        let began = Instant::now();
        server.start_server(false).await?;
        measure_adoption::measure(&server.operator()?, &before, began, LIMIT).await
    };
    let adoption = measured.await;
    server.finish().await?;
    adoption
}
