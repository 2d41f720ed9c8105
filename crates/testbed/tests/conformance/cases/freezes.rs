//! Machines and keepers that stop running without an exit.

use crate::{
    desktop::Desktop,
    host::{Host, Machine},
};
use anteroom_machine::{ExitCause, ExitReason, MachinesSettings, State, StopReason};
use anteroom_testbed::machine_processes::send_signal;
use rustix::process::Signal;

const LIVENESS_TIMEOUT_MS: u64 = 4_000;
/// Longer than any case.
const LONG_LIVENESS_TIMEOUT_MS: u64 = 3_600_000;

/// Settings by which an unanswered ping is noticed soon.
fn settings(host: &Host, liveness_timeout_ms: u64) -> MachinesSettings {
    MachinesSettings { ping_every_ms: 100, ping_ms_max: 1_500, liveness_timeout_ms, ..host.settings() }
}

async fn wait_unanswered(machine: &mut Machine) {
    let unanswered = |state: &State| matches!(state, State::Waiting { last_error: Some(error), .. } if error.contains("no answer to pings"));
    machine.wait_for("no answer to pings", unanswered).await;
}

pub(crate) async fn frozen_machine_is_not_ready_until_it_resumes(host: &Host) {
    let server = host.open_with(settings(host, LONG_LIVENESS_TIMEOUT_MS), host.source.clone()).await.unwrap();
    let mut machine = host.start(&server);
    let channels = machine.wait_ready().await;
    let mut desktop = Desktop::open(host, &channels.agent).await;
    let process = host.processes(&machine.id).process;
    send_signal(process, Signal::STOP).unwrap();
    wait_unanswered(&mut machine).await;
    send_signal(process, Signal::CONT).unwrap();
    machine.wait_ready().await;
    assert!(!channels.agent.is_closed(), "the same connection");
    desktop.check().await;
    host.stop_and_end(server, machine).await;
}

pub(crate) async fn hung_machine_is_stopped_after_the_liveness_timeout(host: &Host) {
    let server = host.open_with(settings(host, LIVENESS_TIMEOUT_MS), host.source.clone()).await.unwrap();
    let mut machine = host.start(&server);
    machine.wait_ready().await;
    send_signal(host.processes(&machine.id).process, Signal::STOP).unwrap();
    let (reason, receipt) = machine.wait_removed().await;
    let ExitReason::Hung { unanswered_ms } = reason else { panic!("{reason:?}") };
    assert!(unanswered_ms >= LIVENESS_TIMEOUT_MS, "{unanswered_ms}");
    assert_eq!(receipt.cause, ExitCause::Stopped { reason: "hung".into() });
    host.end(server).await;
}

pub(crate) async fn frozen_machine_can_be_stopped(host: &Host) {
    let server = host.open().await;
    let machine = host.start_ready(&server).await;
    send_signal(host.processes(&machine.id).process, Signal::STOP).unwrap();
    host.stop_and_end(server, machine).await;
}

pub(crate) async fn hung_keeper_is_killed_with_its_machine(host: &Host) {
    let settings = MachinesSettings { keeper_exit_timeout_ms: 500, ..host.settings() };
    let server = host.open_with(settings, host.source.clone()).await.unwrap();
    let mut machine = host.start_ready(&server).await;
    let processes = host.processes(&machine.id);
    send_signal(processes.keeper, Signal::STOP).unwrap();
    server.machines.stop(&machine.id, StopReason::Cancelled);
    let (reason, receipt) = machine.wait_removed_by_server().await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Cancelled });
    assert_eq!(receipt.cause, ExitCause::KeeperLost);
    assert!(!processes.process.is_alive() && !processes.keeper.is_alive() && !host.run_dir(&machine.id).exists());
    host.end(server).await;
}
