//! Machines that outlive their server.

use super::host::{Host, Machine, Programs, STATE_TIMEOUT, Server, settings_in, template_in};
use anteroom_machine::{ExitReason, State, StopReason};
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

const MACHINES: usize = 10;
/// The directory of the server that this program runs as.
const SERVER_VARIABLE: &str = "ANTEROOM_TEST_SERVER_DIR";
const READY_LINE: &str = "all machines are ready";

/// Not a test: the server of the test below, in its own process.
#[tokio::test]
async fn server_process() {
    let Some(top) = std::env::var_os(SERVER_VARIABLE).map(PathBuf::from) else { return };
    let template = template_in(&top, &Programs::find().unwrap()).await;
    let server = Server::open(settings_in(&top), Arc::new(template)).await;
    let mut machines: Vec<Machine> = (0..MACHINES).map(|_| server.start()).collect();
    for machine in &mut machines {
        machine.ready().await;
    }
    println!("\n{READY_LINE}");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn ten_machines_survive_the_kill_of_their_server_and_are_adopted() {
    let Some(host) = Host::new().await else { return };
    #[allow(clippy::disallowed_methods, reason = "this test itself, as a server")]
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adoption::server_process", "--nocapture"])
        .env(SERVER_VARIABLE, host.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(server.stdout.take().unwrap());
    let ready = tokio::task::spawn_blocking(move || output.lines().any(|line| line.unwrap() == READY_LINE));
    assert!(tokio::time::timeout(STATE_TIMEOUT, ready).await.unwrap().unwrap(), "the server ended");
    server.kill().unwrap();
    server.wait().unwrap();

    let began = Instant::now();
    let adopter = host.open().await;
    assert_eq!(adopter.machines.count(), MACHINES);
    let mut adopted: Vec<Machine> = adopter.machines.list().into_iter().map(|(id, _)| machine(&adopter, id)).collect();
    for machine in &mut adopted {
        machine.ready().await;
    }
    println!("{MACHINES} machines were adopted and ready after {} ms", began.elapsed().as_millis());
    for machine in &mut adopted {
        adopter.stop(machine).await;
    }
    adopter.end().await;
}

fn machine(server: &Server, id: anteroom_wire::MachineId) -> Machine {
    let state = server.machines.watch(&id).unwrap();
    let run_dir = server.machines.settings().run_dir.join(id.as_str());
    Machine { id, state, run_dir }
}

#[tokio::test]
async fn machine_ends_with_its_keeper() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = server.start();
    machine.ready().await;
    let keeper = i32::try_from(machine.processes().0).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    assert_eq!(machine.removed().await.0, ExitReason::KeeperLost);
    server.end().await;
}

#[tokio::test]
async fn orderly_stop_of_the_server_leaves_its_machines_running() {
    let Some(host) = Host::new().await else { return };
    let first = host.open().await;
    let mut machine = first.start();
    machine.ready().await;
    first.end().await;
    let second = host.open().await;
    let mut adopted = self::machine(&second, machine.id);
    adopted.ready().await;
    second.machines.stop(&adopted.id, StopReason::Operator);
    assert!(matches!(adopted.until(State::is_removed).await, State::Removed { .. }));
    second.end().await;
}
