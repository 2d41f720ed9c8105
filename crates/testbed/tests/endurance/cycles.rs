//! Very many sessions, several at once, each with a fate drawn by lot, while the server itself is killed now and then.

use crate::{
    idle,
    run::{Course, Run},
};
use anteroom_testbed::{
    QemuServer, TestConfig, WAIT_MAX, Script, Step, ScriptedTool, TestServer,
    endurance::{
        seeded_rng,
        scenario::{BATCH_SIZE, Scenario, RESTARTS_MAX},
        full,
    },
    qemu_server::QEMU_WAIT_MAX,
};
use std::collections::BTreeMap;

const SETTINGS: &str = "
[log]
level = 'info'
[machines]
machines_max = 12
[sessions]
idle_s_max = 5
capture_stable_ms = 50
sweep_every_ms = 500
";

/// The same two tools in a real machine. A session that is abandoned must not hold up the others for long, and one that is
/// killed three times must be through before.
const REAL: &str = r#"
[machines]
machines_max = 4
[sessions]
idle_s_max = 20
capture_stable_ms = 50
sweep_every_ms = 500
[providers.quick]
name = "Quick"
cli = "codex"
argv = ["sh", "-c", "mkdir -p .quick; printf '{\"token\": \"q-1\"}' > .quick/credential.json; sleep 600"]
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = { paths = [".quick/credential.json"], required = ["/token"] }
[providers.idle]
name = "Idle"
cli = "codex"
argv = ["sleep", "3600"]
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = { paths = [".idle/credential.json"], required = ["/token"] }
"#;
/// Longer than a real machine needs to be ready, so that every stage of its start is met.
const REAL_CANCEL_MS_MAX: u64 = 3_000;

/// The provider `quick`: its tool has a credential at once.
fn quick() -> ScriptedTool {
    ScriptedTool::new("quick", Script::new([Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}")]))
}

#[tokio::test]
async fn ten_thousand_sessions_with_injected_faults_leave_nothing() {
    let plan = TestConfig { tools: vec![quick(), idle()], in_memory: true, ..TestConfig::default() };
    let world = TestServer::start(plan.with_settings(SETTINGS).with_settings(&format!("restarts_max = {RESTARTS_MAX}\n"))).await.unwrap();
    let course = Course {
        seed: seeded_rng::seed(),
        at_once: 8,
        look_every: 500,
        server_lives: 150..300,
        wait_max: WAIT_MAX,
        fate: Scenario::random,
    };
    let mut run = Run::new(world, course);
    run.live(if full() { 10_000 } else { 1_000 }).await;
    run.server.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_ten_cycles_leave_nothing() {
    let settings = REAL.replace("[sessions]", &format!("[sessions]\nrestarts_max = {RESTARTS_MAX}"));
    let house = QemuServer::start(&settings, &BTreeMap::new(), false).await.unwrap();
    let course = Course {
        seed: seeded_rng::seed(),
        at_once: 2,
        look_every: BATCH_SIZE,
        server_lives: 3..6,
        wait_max: QEMU_WAIT_MAX,
        fate: |seed, number| Scenario::draw(seed, number, REAL_CANCEL_MS_MAX),
    };
    let mut run = Run::new(house, course);
    run.live(if full() { 100 } else { BATCH_SIZE }).await;
    let tallies = std::mem::take(&mut *run.tallies.lock().unwrap());
    for (fate, kills) in [("its machine is killed", true), ("its keeper is killed", true), ("is abandoned", false)] {
        let tally = &tallies[fate];
        assert!(tally.as_planned > 0 && (tally.kills > 0) == kills, "{fate}: {tally:?}");
    }
    run.server.finish().await.unwrap();
}
