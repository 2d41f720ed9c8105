//! Every cause for which a machine's process ends or does not start.

use crate::{
    host::{Host, Machine, new_id},
    memory_cgroup::MemoryCgroup,
    sources::{changed, with_program},
};
use anteroom_machine::{ExitCause, ExitReason, MachinesSettings, Receipt, SpecSource, StopReason, StopRequestOutcome};
use anteroom_testbed::{MachineProcesses, machine_kinds::GuestAction, machine_processes::send_signal};
use rustix::process::Signal;
use std::{path::Path, sync::Arc, time::Instant};

/// More than a keeper needs, bytes.
const CGROUP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Makes the guest end the machine.
async fn end_by_guest(host: &Host, action: GuestAction) -> (ExitReason, Receipt) {
    end_machine(host, async |processes, run_dir| host.kind.act(processes, run_dir, action).await.unwrap()).await
}

/// Ends a running machine by `end`; returns the published reason and the receipt.
async fn end_machine(host: &Host, end: impl AsyncFnOnce(&MachineProcesses, &Path)) -> (ExitReason, Receipt) {
    let server = host.open().await;
    let mut machine = host.start_ready(&server).await;
    let processes = host.processes(&machine.id);
    let began = Instant::now();
    end(&processes, &host.run_dir(&machine.id)).await;
    let published = machine.wait_exited().await;
    println!("published after {:.1} ms", began.elapsed().as_secs_f64() * 1_000.0);
    let (reason, receipt) = machine.wait_removed().await;
    assert_eq!(published, reason, "the published reason does not change");
    assert!(!processes.process.is_alive() && !processes.keeper.is_alive() && !host.run_dir(&machine.id).exists());
    assert_eq!(server.machines.count(), 0);
    host.end(server).await;
    (reason, receipt)
}

/// Starts a machine that ends before its guest runs.
async fn start_and_end(host: &Host, source: Arc<dyn SpecSource>) -> ExitReason {
    let server = host.open_with(host.settings(), source).await.unwrap();
    let mut machine: Machine = host.start(&server);
    let (reason, _) = machine.wait_removed().await;
    host.end(server).await;
    reason
}

pub(crate) async fn killed_machine_is_reported_with_its_signal(host: &Host) {
    let (reason, receipt) =
        end_machine(host, async |processes, _| send_signal(processes.process, Signal::KILL).unwrap()).await;
    assert_eq!((reason, receipt.cause), (ExitReason::Killed { signal: 9 }, ExitCause::Killed { signal: 9 }));
}

pub(crate) async fn ended_process_is_reported_with_its_exit_status(host: &Host) {
    let (reason, _) =
        end_machine(host, async |processes, _| send_signal(processes.process, Signal::TERM).unwrap()).await;
    assert_eq!(reason, ExitReason::Exited { code: 0 });
}

pub(crate) async fn missing_program_is_named(host: &Host) {
    let reason = start_and_end(host, with_program(&host.source, "/no/such/program", &[])).await;
    let ExitReason::NeverStarted { error } = reason else { panic!("{reason:?}") };
    assert!(error.contains("/no/such/program") && error.contains("No such file"), "{error}");
}

pub(crate) async fn damaged_saved_state_is_reported(host: &Host) {
    let (kind, dir) = (host.kind, host.path().to_owned());
    let damaged = changed(&host.source, move |spec| kind.damage_saved_state(spec, &dir).unwrap());
    let reason = start_and_end(host, damaged).await;
    let ExitReason::NeverStarted { error } = reason else { panic!("{reason:?}") };
    assert!(error.to_lowercase().contains("load"), "the error names what failed: {error}");
}

pub(crate) async fn guest_panic_is_reported(host: &Host) {
    let (reason, receipt) = end_by_guest(host, GuestAction::Panic).await;
    assert_eq!((reason, receipt.cause), (ExitReason::GuestPanic, ExitCause::GuestPanic));
    assert!(!receipt.console_tail.is_empty(), "the end of the console is in the receipt");
    println!("console: {}", receipt.console_tail);
}

pub(crate) async fn guest_power_off_is_reported(host: &Host) {
    let (reason, receipt) = end_by_guest(host, GuestAction::PowerOff).await;
    assert_eq!((reason, receipt.cause), (ExitReason::GuestPowerOff, ExitCause::GuestPowerOff));
}

pub(crate) async fn machine_can_be_stopped_before_it_is_ready(host: &Host) {
    let server = host.open().await;
    let mut machine = host.start(&server);
    assert_eq!(server.machines.stop(&machine.id, StopReason::Restarted), StopRequestOutcome::Enqueued);
    assert_eq!(machine.wait_removed().await.0, ExitReason::Stopped { reason: StopReason::Restarted });
    host.end(server).await;
}

pub(crate) async fn machine_ends_with_its_keeper(host: &Host) {
    let (reason, receipt) =
        end_machine(host, async |processes, _| send_signal(processes.keeper, Signal::KILL).unwrap()).await;
    assert_eq!((reason, receipt.cause), (ExitReason::KeeperLost, ExitCause::KeeperLost));
    assert_eq!(receipt.checks.pids.len(), 1, "{:?}", receipt.checks);
}

pub(crate) async fn process_killed_for_lack_of_memory_is_distinguished(host: &Host) {
    let cgroup = match MemoryCgroup::new(&format!("anteroom-{}", new_id()), CGROUP_BYTES_MAX) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            println!("not run: no cgroup with a memory limit can be made on this host: {error}");
            return;
        }
    };
    let keeper_program = host.path().join("keeper-in-a-cgroup");
    cgroup.write_script(&keeper_program, &host.settings().keeper_program).unwrap();
    let settings = MachinesSettings { keeper_program, ..host.settings() };
    // It opens no file, which a confined process could not.
    let takes_all =
        with_program(&host.source, "/usr/bin/mawk", &["BEGIN { text = \"x\"; while (1) text = text text }"]);
    let server = host.open_with(settings, takes_all).await.unwrap();
    let (reason, receipt) = host.start(&server).wait_removed().await;
    assert_eq!((reason, receipt.cause), (ExitReason::OutOfMemory, ExitCause::OutOfMemory));
    host.end(server).await;
    host.wait_nothing_left().await;
}
