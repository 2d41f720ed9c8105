//! Everything that is bounded follows its setting.

use crate::{
    host::Host,
    sources::{changed, with_program},
};
use anteroom_machine::{
    Confinement, ExitCause, ExitReason, MachineStartError, MachinesSettings, RenewDeadlineFile, SpecSource, StopReason,
};
use anteroom_testbed::{eventually, machine_kinds::GuestAction, machine_processes::send_signal};
use rustix::process::Signal;
use std::fs;

/// Time for a machine to start on a busy host, and for its deadline.
const LIFETIME_S_MAX: u64 = 10;
const MIB: u64 = 1024 * 1024;
/// Two lengths of each bounded text, bytes.
const TEXT_BYTES_MAX: [usize; 2] = [100, 5_000];

pub(crate) async fn deadline_ends_a_machine_without_its_server(host: &Host) {
    let settings = MachinesSettings { lifetime_s_max: LIFETIME_S_MAX, ..host.settings() };
    let server = host.open_with(settings, host.source.clone()).await.unwrap();
    let machine = host.start_ready(&server).await;
    let processes = host.processes(&machine.id);
    host.end(server).await;
    let exited = async || Ok((!processes.process.is_alive() && !processes.keeper.is_alive()).then_some(()));
    eventually("the deadline ends the machine", host.kind.wait_max(), exited).await.unwrap();
    assert!(!host.run_dir(&machine.id).exists());
    let server = host.open().await;
    let receipt = server.machines.read_receipt(&machine.id).unwrap().expect("the keeper left a receipt");
    assert_eq!((&receipt.cause, receipt.exit_reason()), (&ExitCause::Deadline, ExitReason::Deadline));
    let lived_ms = receipt.ended_unix_ms - receipt.began_unix_ms;
    assert!(lived_ms >= LIFETIME_S_MAX * 1_000, "it ended after {lived_ms} ms");
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert_eq!(server.machines.count(), 0);
    host.end(server).await;
}

pub(crate) async fn renew_deadline_ends_a_machine_without_its_server(host: &Host) {
    let file = RenewDeadlineFile::open(&host.settings().run_dir).unwrap();
    let settings = MachinesSettings { renew_deadline_file: Some(file.path().to_owned()), ..host.settings() };
    file.set(boottime_ms() + LIFETIME_S_MAX * 1_000);
    let server = host.open_with(settings, host.source.clone()).await.unwrap();
    let machine = host.start_ready(&server).await;
    let processes = host.processes(&machine.id);
    host.end(server).await;
    let renewed_until_ms = file.get() + 1_000;
    file.set(renewed_until_ms);
    let exited = async || Ok((!processes.process.is_alive() && !processes.keeper.is_alive()).then_some(()));
    eventually("the renew deadline ends the machine", host.kind.wait_max(), exited).await.unwrap();
    assert!(boottime_ms() >= renewed_until_ms, "it ended before the renewed deadline");
    let server = host.open().await;
    let receipt = server.machines.read_receipt(&machine.id).unwrap().expect("the keeper left a receipt");
    assert_eq!((&receipt.cause, receipt.exit_reason()), (&ExitCause::RenewDeadline, ExitReason::RenewDeadline));
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    host.end(server).await;
    // It belongs to the host, not to a machine.
    std::fs::remove_file(file.path()).unwrap();
}

/// CLOCK_BOOTTIME, milliseconds.
fn boottime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec * 1_000 + now.tv_nsec / 1_000_000).unwrap()
}

pub(crate) async fn machine_is_replaced_within_the_limit_of_machines(host: &Host) {
    let settings = MachinesSettings { machines_max: 1, ..host.settings() };
    let server = host.open_with(settings, host.source.clone()).await.unwrap();
    let mut first = host.start_ready(&server).await;
    let rejected = server.machines.start(crate::host::new_id());
    assert!(matches!(rejected, Err(MachineStartError::NoCapacity { machines: 1, machines_max: 1 })), "{rejected:?}");
    let rejected = server.machines.start(first.id.clone());
    assert!(matches!(rejected, Err(MachineStartError::AlreadyExists)), "{rejected:?}");
    send_signal(host.processes(&first.id).process, Signal::KILL).unwrap();
    first.wait_removed().await;
    let second = host.start_ready(&server).await;
    host.processes(&second.id);
    host.stop_and_end(server, second).await;
}

pub(crate) async fn receipts_are_bounded_by_their_setting(host: &Host) {
    let settings = MachinesSettings { receipts_max: 2, ..host.settings() };
    let receipts_dir = settings.receipts_dir.clone();
    let exits = with_program(&host.source, "/usr/bin/true", &[]);
    let server = host.open_with(settings, exits).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let mut machine = host.start(&server);
        machine.wait_removed().await;
        ids.push(machine.id);
    }
    assert_eq!(fs::read_dir(receipts_dir).unwrap().count(), 2);
    let kept: Vec<bool> = ids.iter().map(|id| server.machines.read_receipt(id).unwrap().is_some()).collect();
    assert_eq!(kept, [false, false, true, true], "the newest are kept");
    host.end(server).await;
}

pub(crate) async fn output_is_bounded_by_its_setting(host: &Host) {
    let written: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let talkative = with_program(&host.source, "/usr/bin/seq", &["20000"]);
    for bytes_max in TEXT_BYTES_MAX {
        let settings = MachinesSettings { console_bytes_max: bytes_max, ..host.settings() };
        let server = host.open_with(settings, talkative.clone()).await.unwrap();
        let (_, receipt) = host.start(&server).wait_removed().await;
        // Firecracker's standard output is the guest's console.
        let tails = [&receipt.output_tail, &receipt.console_tail];
        assert!(tails.contains(&&written[written.len() - bytes_max..].to_owned()), "{tails:?}");
        host.end(server).await;
    }
}

pub(crate) async fn console_is_bounded_by_its_setting(host: &Host) {
    for bytes_max in [50, 200] {
        let settings = MachinesSettings { console_bytes_max: bytes_max, ..host.settings() };
        let server = host.open_with(settings, host.source.clone()).await.unwrap();
        let mut machine = host.start_ready(&server).await;
        // A panic writes some lines.
        let (processes, run_dir) = (host.processes(&machine.id), host.run_dir(&machine.id));
        host.kind.act(&processes, &run_dir, GuestAction::Panic).await.unwrap();
        let (_, receipt) = machine.wait_removed().await;
        assert_eq!(receipt.console_tail.len(), bytes_max, "{}", receipt.console_tail);
        host.end(server).await;
    }
}

/// The address space of a process, bytes (proc(5), `limits`).
fn address_space_max(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn address_space_of_spec(source: &dyn SpecSource) -> u64 {
    match source.build_spec(&crate::host::new_id()).unwrap().confinement {
        Confinement::Confined { limits, .. } => limits.address_space_bytes_max,
        Confinement::Unconfined => panic!("the process is not confined"),
    }
}

pub(crate) async fn process_has_the_resource_limits_of_its_spec(host: &Host) {
    let larger = changed(&host.source, |spec| {
        if let Confinement::Confined { limits, .. } = &mut spec.confinement {
            limits.address_space_bytes_max += 64 * MIB;
        }
    });
    assert_eq!(address_space_of_spec(&*larger), address_space_of_spec(&*host.source) + 64 * MIB);
    for source in [host.source.clone(), larger] {
        let expected = address_space_of_spec(&*source);
        let server = host.open_with(host.settings(), source).await.unwrap();
        let machine = host.start_ready(&server).await;
        assert_eq!(address_space_max(host.processes(&machine.id).process.pid), expected);
        host.stop_and_end(server, machine).await;
    }
}

pub(crate) async fn clone_copies_only_the_memory_that_it_writes(host: &Host) {
    let server = host.open().await;
    let machine = host.start_ready(&server).await;
    let process = host.processes(&machine.id).process;
    let measured = async || Ok(server.machines.memory_usage(&machine.id));
    let memory = eventually("its memory is measured", host.kind.wait_max(), measured).await.unwrap();
    let address_space = address_space_max(process.pid);
    println!("{memory:?}");
    assert!(memory.pss_bytes > 0 && memory.private_bytes < address_space / 8, "{memory:?} of {address_space}");
    server.machines.stop(&machine.id, StopReason::IdleExpired);
    let mut machine = machine;
    assert_eq!(machine.wait_removed().await.0, ExitReason::Stopped { reason: StopReason::IdleExpired });
    host.end(server).await;
}
