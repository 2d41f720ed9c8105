//! The start of a machine and its two channels.

use crate::{
    claim::{TOOL_OUTPUT, claim},
    desktop::Desktop,
    host::Host,
    sources::{OtherImage, with_program},
};
use anteroom_machine::{AgentClient, AgentError, ExitReason, MachinesSettings, StopReason, StopRequestOutcome};
use anteroom_testbed::eventually;
use anteroom_wire::{
    MachineId,
    agent::{EVENTS_PATH, Stage, TerminalSize},
};
use std::sync::Arc;
use tokio::{io::AsyncReadExt, time::timeout};

const READY_MS_MAX: u64 = 4_000;

/// Waits until the machine has sent events to its controller.
async fn wait_events(host: &Host, id: &MachineId) {
    let mut requests = host.requests.subscribe();
    let sent = requests.wait_for(|requests| requests.iter().any(|(from, path)| from == id && path == EVENTS_PATH));
    timeout(host.kind.wait_max(), sent).await.expect("the machine sends events to its controller").unwrap();
}

/// Waits until the tool's output is on the screen.
async fn wait_screen(host: &Host, agent: &AgentClient) {
    let shown = async || {
        let screen = agent.read_screen().await?;
        Ok(screen.lines.iter().any(|line| line.contains(TOOL_OUTPUT)).then_some(()))
    };
    eventually("the tool's output is on the screen", host.kind.wait_max(), shown).await.unwrap();
}

pub(crate) async fn clone_is_ready_and_its_agent_answers(host: &Host) {
    let server = host.open().await;
    let mut machine = host.start(&server);
    let channels = machine.wait_ready().await;
    host.processes(&machine.id);
    let timings = channels.timings;
    assert!(
        timings.spawned_ms <= timings.channel_ms
            && timings.channel_ms <= timings.agent_info_ms
            && timings.agent_info_ms <= timings.ready_ms,
        "{timings:?}"
    );
    println!("{timings:?}");
    let info = channels.agent.agent_info().await.unwrap();
    assert_eq!((info.image_hash.as_str(), info.claimed_by), (host.source.image_hash(), None));
    Desktop::open(host, &channels.agent).await.check().await;
    let size = TerminalSize { cols: 100, rows: 30 };
    assert!(matches!(channels.agent.open_terminal("../x", size).await, Err(AgentError::InvalidRequest { .. })));

    assert_eq!(server.machines.stop(&machine.id, StopReason::Completed), StopRequestOutcome::Enqueued);
    let (reason, receipt) = machine.wait_removed().await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Completed });
    assert!(!receipt.checks.pids.is_empty() && !receipt.checks.sockets.is_empty(), "{receipt:?}");
    assert!(receipt.checks.paths.contains(&host.run_dir(&machine.id)), "{receipt:?}");
    assert_eq!(server.machines.read_receipt(&machine.id).unwrap(), Some(receipt));
    assert_eq!(server.machines.stop(&machine.id, StopReason::Completed), StopRequestOutcome::UnknownMachine);
    channels.agent.wait_closed().await;
    assert!(matches!(channels.agent.agent_info().await, Err(AgentError::Closed { .. })));
    host.end(server).await;
}

pub(crate) async fn claimed_clone_shows_desktop_and_tool_and_sends_events(host: &Host) {
    let server = host.open().await;
    let mut machine = host.start(&server);
    let channels = machine.wait_ready().await;
    host.processes(&machine.id);
    channels.agent.claim(&claim(&machine.id)).await.unwrap();
    wait_events(host, &machine.id).await;
    wait_screen(host, &channels.agent).await;
    let size = TerminalSize { cols: 100, rows: 30 };
    let mut terminal = channels.agent.open_terminal("t1", size).await.unwrap();
    let mut first = [0];
    let shown = timeout(host.kind.wait_max(), terminal.read_exact(&mut first));
    shown.await.expect("the terminal shows the screen").unwrap();
    Desktop::open(host, &channels.agent).await.check().await;
    host.stop_and_end(server, machine).await;
}

pub(crate) async fn clones_share_no_writes(host: &Host) {
    let server = host.open().await;
    let [mut first, mut second] = [host.start(&server), host.start(&server)];
    let [claimed, unclaimed] = [first.wait_ready().await, second.wait_ready().await];
    claimed.agent.claim(&claim(&first.id)).await.unwrap();
    let claimed_by = claimed.agent.agent_info().await.unwrap().claimed_by.unwrap();
    assert_eq!(claimed_by.machine, first.id);
    if host.has_tools() {
        wait_screen(host, &claimed.agent).await;
    }
    assert_eq!(unclaimed.agent.agent_info().await.unwrap().claimed_by, None);
    let mut third = host.start(&server);
    assert_eq!(third.wait_ready().await.agent.agent_info().await.unwrap().claimed_by, None);
    for machine in [&mut first, &mut second, &mut third] {
        host.processes(&machine.id);
        server.machines.stop(&machine.id, StopReason::Completed);
        machine.wait_removed().await;
    }
    host.end(server).await;
}

pub(crate) async fn next_server_reopens_both_channels_with_a_nonce(host: &Host) {
    let server = host.open().await;
    let mut machine = host.start(&server);
    let channels = machine.wait_ready().await;
    let processes = host.processes(&machine.id);
    channels.agent.claim(&claim(&machine.id)).await.unwrap();
    if host.has_tools() {
        wait_events(host, &machine.id).await;
    }
    // Streams are active when a server ends: the next one finds their bytes in the channel.
    let mut desktop = Desktop::open(host, &channels.agent).await;
    desktop.check().await;
    host.end(server).await;
    drop(desktop);
    for _ in 0..2 {
        assert!(processes.process.is_alive() && processes.keeper.is_alive(), "the machine outlives its server");
        let server = host.open().await;
        machine = host.watch(&server, &machine.id);
        let channels = machine.wait_ready().await;
        let claimed_by = channels.agent.agent_info().await.unwrap().claimed_by.unwrap();
        assert_eq!(claimed_by.machine, machine.id, "the same machine");
        let mut desktop = Desktop::open(host, &channels.agent).await;
        desktop.check().await;
        host.end(server).await;
    }
    let server = host.open().await;
    let mut machine = host.watch(&server, &machine.id);
    machine.wait_ready().await;
    server.machines.stop(&machine.id, StopReason::Orphaned);
    assert_eq!(machine.wait_removed().await.0, ExitReason::Stopped { reason: StopReason::Orphaned });
    host.end(server).await;
}

pub(crate) async fn stage_that_is_not_reached_in_time_is_named(host: &Host) {
    let settings = MachinesSettings { ready_ms_max: READY_MS_MAX, ..host.settings() };
    let never_ready = with_program(&host.source, "/usr/bin/sleep", &["1000"]);
    let server = host.open_with(settings, never_ready).await.unwrap();
    let mut machine = host.start(&server);
    let (reason, _) = machine.wait_removed().await;
    let ExitReason::ReadyTimeout { stage, last_error, attempts, elapsed_ms } = reason else { panic!("{reason:?}") };
    assert_eq!(stage, Stage::Channel);
    assert!(last_error.is_some(), "the last error is reported");
    assert!(attempts >= 1 && elapsed_ms >= READY_MS_MAX, "{attempts} {elapsed_ms}");
    host.end(server).await;
}

pub(crate) async fn machine_of_another_image_is_stopped(host: &Host) {
    let found = host.source.image_hash().to_owned();
    let other = Arc::new(OtherImage(host.source.clone()));
    let server = host.open_with(host.settings(), other).await.unwrap();
    let mut machine = host.start(&server);
    let (reason, _) = machine.wait_removed().await;
    let expected = format!("image {}", OtherImage::HASH);
    assert_eq!(reason, ExitReason::Mismatch { expected, found: format!("image {found}") });
    host.end(server).await;
}
