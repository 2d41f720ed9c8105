//! Many concurrent sessions, each with a random scenario, while the server itself is killed repeatedly.

use crate::{
    idle_provider,
    run::{Run, RunConfig},
};
use anteroom_testbed::{
    PlainProcess, QEMU_WAIT_TIMEOUT, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    endurance::{
        is_full_run,
        scenario::{BATCH_SIZE, RESTARTS_MAX, Scenario},
        seeded_rng,
    },
    test_server::qemu::{command_provider, quick_provider},
};

const SETTINGS: &str = "
[log]
level = 'info'
[machines]
machines_max = 12
[sessions]
idle_s_max = 5
capture_stable_ms = 50
";
const LIMITS: &str = "
[limits.sessions]
reconcile_every_ms = 500
";

/// With QEMU machines. The idle timeout is short, so that abandoned sessions do not delay the others, and long enough for a session
/// whose machine is killed three times.
const QEMU_SETTINGS: &str = "
[machines]
machines_max = 4
[sessions]
idle_s_max = 20
capture_stable_ms = 50
";
/// Longer than a QEMU machine needs to be ready, so that cancellations hit every stage of its start.
const QEMU_CANCEL_MS_MAX: u64 = 3_000;

/// The provider `quick`: its tool writes a credential immediately.
fn quick_scripted_provider() -> ScriptedProvider {
    ScriptedProvider::new("quick", Script::new([Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}")]))
}

#[tokio::test]
async fn ten_thousand_sessions_with_injected_faults_leave_nothing() {
    let providers = vec![quick_scripted_provider(), idle_provider()];
    let machines = PlainProcess { providers, in_memory: true, ..PlainProcess::default() };
    let settings = format!("{SETTINGS}restarts_max = {RESTARTS_MAX}\n{LIMITS}");
    let server = TestServer::start(TestConfig::new(machines).with_settings(&settings)).await.unwrap();
    let config = RunConfig {
        seed: seeded_rng::read_or_create_seed(),
        concurrent: 8,
        audit_every: 500,
        sessions_per_server: 150..300,
        wait_max: WAIT_MAX,
        scenario: Scenario::random,
    };
    let mut run = Run::new(server, config);
    run.run_sessions(if is_full_run() { 10_000 } else { 1_000 }).await;
    run.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_ten_cycles_leave_nothing() {
    let settings = format!("{QEMU_SETTINGS}restarts_max = {RESTARTS_MAX}\n");
    let idle = command_provider("idle", &["sleep", "3600"]);
    let config = TestConfig::qemu(&settings).with_settings(&quick_provider()).with_settings(&idle);
    let server = TestServer::start(config).await.unwrap();
    let config = RunConfig {
        seed: seeded_rng::read_or_create_seed(),
        concurrent: 2,
        audit_every: BATCH_SIZE,
        sessions_per_server: 3..6,
        wait_max: QEMU_WAIT_TIMEOUT,
        scenario: |seed, number| Scenario::draw_from_fixed_shares(seed, number, QEMU_CANCEL_MS_MAX),
    };
    let mut run = Run::new(server, config);
    run.run_sessions(if is_full_run() { 100 } else { BATCH_SIZE }).await;
    let tallies = std::mem::take(&mut *run.tallies.lock().unwrap());
    for (scenario, kills) in [("its machine is killed", true), ("its keeper is killed", true), ("is abandoned", false)]
    {
        let tally = &tallies[scenario];
        assert!(tally.as_planned > 0 && (tally.kills > 0) == kills, "{scenario}: {tally:?}");
    }
    run.server.stop_and_check_leaks().await.unwrap();
}
