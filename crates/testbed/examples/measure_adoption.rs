//! Measures how soon the next server process has adopted the machines of one that was killed.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_adoption             # 50 machines that are plain processes
//! cargo run --release -p anteroom-testbed --example measure_adoption -- qemu 10  # real ones, from ANTEROOM_TEST_IMAGE
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_testbed::{
    MachineBackend, ScriptedProvider, TestConfig, TestServer, measure_adoption, stats,
    test_server::qemu::shell_provider,
};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(240);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (qemu, count) = stats::measurement_arguments();
    let count = count.unwrap_or(if qemu { 10 } else { 50 });
    let settings = format!("[machines]\nmachines_max = {}\n", count + 2);
    println!("{}", stats::host_summary());
    let adoption = if qemu {
        measure(TestConfig::qemu(&settings).with_settings(&shell_provider()), "shell", count).await?
    } else {
        measure(TestConfig::with_provider(ScriptedProvider::idle("idle")).with_settings(&settings), "idle", count)
            .await?
    };
    println!("{count} machines; {adoption}");
    println!("{}", stats::host_summary());
    Ok(())
}

async fn measure<M: MachineBackend>(
    config: TestConfig<M>,
    provider: &str,
    count: usize,
) -> anyhow::Result<measure_adoption::AdoptionTimes> {
    let mut server = TestServer::start(config).await?;
    let measured = async {
        let before =
            measure_adoption::start_sessions(&server.operator_client()?.without_response_recording(), provider, count)
                .await?;
        server.kill_server().await?;
        let began = Instant::now();
        server.start_server().await?;
        measure_adoption::measure_adoption(
            &server.operator_client()?.without_response_recording(),
            &before,
            began,
            LIMIT,
        )
        .await
    };
    let adoption = measured.await;
    server.stop_and_check_leaks().await?;
    adoption
}
