//! Several machines, and owners that end.

use crate::host::{Host, Machine, new_id};
use anteroom_machine::{ExitReason, StopReason};
use anteroom_testbed::{eventually, machine_owner::OwnerProcess, machine_processes::send_signal};
use futures_util::future::join_all;
use rustix::process::Signal;
use std::time::Instant;

const ADOPTED: usize = 10;
const AT_ONCE: usize = 10;

/// Waits until all machines are ready and each agent answers.
async fn wait_all_ready(machines: &mut [Machine]) {
    join_all(machines.iter_mut().map(async |machine| {
        machine.wait_ready().await.agent.agent_info().await.unwrap();
    }))
    .await;
}

pub(crate) async fn machines_of_a_killed_owner_are_adopted(host: &Host) {
    let owner = OwnerProcess::start(host.kind, host.path(), ADOPTED).await.unwrap();
    let ids = owner.machines.clone();
    let before: Vec<_> = ids.iter().map(|id| host.processes(id)).collect();
    owner.kill().await.unwrap();
    let began = Instant::now();
    let server = host.open().await;
    assert_eq!(server.machines.list().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids);
    let mut machines: Vec<_> = ids.iter().map(|id| host.watch(&server, id)).collect();
    wait_all_ready(&mut machines).await;
    println!("{ADOPTED} machines adopted after {} ms", began.elapsed().as_millis());
    for (machine, before) in machines.iter_mut().zip(before) {
        let now = host.processes(&machine.id);
        assert_eq!((now.process, now.keeper), (before.process, before.keeper), "the same processes");
        server.machines.stop(&machine.id, StopReason::Orphaned);
        assert_eq!(machine.wait_removed().await.0, ExitReason::Stopped { reason: StopReason::Orphaned });
    }
    host.end(server).await;
}

pub(crate) async fn next_server_removes_what_lost_keepers_left(host: &Host) {
    let server = host.open().await;
    let machine = host.start_ready(&server).await;
    let processes = host.processes(&machine.id);
    host.end(server).await;
    send_signal(processes.keeper, Signal::KILL).unwrap();
    let exited = async || Ok((!processes.keeper.is_alive() && !processes.process.is_alive()).then_some(()));
    eventually("the machine ends with its keeper", host.kind.wait_max(), exited).await.unwrap();
    assert!(host.run_dir(&machine.id).exists(), "nothing has cleaned up yet");
    let without_keeper = host.run_dir(&new_id());
    std::fs::create_dir(&without_keeper).unwrap();
    let server = host.open().await;
    assert_eq!(server.machines.count(), 0);
    assert!(!host.run_dir(&machine.id).exists() && !without_keeper.exists());
    host.end(server).await;
}

pub(crate) async fn ten_machines_run_at_once(host: &Host) {
    let server = host.open().await;
    let began = Instant::now();
    let mut machines: Vec<_> = (0..AT_ONCE).map(|_| host.start(&server)).collect();
    wait_all_ready(&mut machines).await;
    println!("{AT_ONCE} machines are ready after {} ms", began.elapsed().as_millis());
    assert_eq!(server.machines.count(), AT_ONCE);
    for machine in &machines {
        host.processes(&machine.id);
        server.machines.stop(&machine.id, StopReason::Failed);
    }
    for machine in &mut machines {
        assert_eq!(machine.wait_removed().await.0, ExitReason::Stopped { reason: StopReason::Failed });
    }
    assert_eq!(server.machines.count(), 0);
    host.end(server).await;
}

pub(crate) async fn running_machine_is_found_by_the_check_for_leftovers(host: &Host) {
    let server = host.open().await;
    let machine = host.start_ready(&server).await;
    let process = host.processes(&machine.id).process;
    let found = host.find_leftovers();
    for part in [format!("ProcessId {{ pid: {},", process.pid), "control.sock".into()] {
        assert!(found.iter().any(|line| line.contains(&part)), "{part}: {found:#?}");
    }
    host.stop_and_end(server, machine).await;
}
