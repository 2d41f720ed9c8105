//! Clones of a template.

use super::host::{Host, Machine};
use anteroom_machine::{Channels, State};
use std::{
    fs,
    time::{Duration, Instant},
};

const CLONES: usize = 10;
const MEASURED: usize = 20;

fn channels(machine: &Machine) -> Channels {
    let State::Ready { channels } = machine.state.borrow().clone() else { panic!("it is not ready") };
    channels
}

fn template_memory(host: &Host) -> Vec<u8> {
    fs::read(host.template.dir().join("memory")).unwrap()
}

#[tokio::test]
async fn clone_is_ready_over_vsock_and_is_confined_by_every_layer() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = server.start();
    machine.ready().await;
    let info = channels(&machine).agent.agent_info().await.unwrap();
    assert_eq!(info.agent_version, "test-guest");
    let status = fs::read_to_string(format!("/proc/{}/status", machine.processes().1)).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("CapEff:").as_str(), field("NoNewPrivs:").as_str()), ("0000000000000000", "1"));
    assert_eq!(field("Seccomp:"), "2");
    let receipt = server.stop(&mut machine).await;
    assert!(receipt.denied_system_calls.is_empty(), "{:?}", receipt.denied_system_calls);
    assert!(receipt.console_tail.contains("tick"), "{}", receipt.console_tail);
    assert!(receipt.output_tail.contains("snapshot"), "{}", receipt.output_tail);
    server.end().await;
}

#[tokio::test]
async fn ten_clones_start_at_once_share_one_memory_file_and_leave_nothing() {
    let Some(host) = Host::new().await else { return };
    let before = template_memory(&host);
    let server = host.open().await;
    let began = Instant::now();
    let mut machines: Vec<Machine> = (0..CLONES).map(|_| server.start()).collect();
    for machine in &mut machines {
        machine.ready().await;
    }
    println!("{CLONES} clones were ready after {} ms", began.elapsed().as_millis());
    for machine in &machines {
        assert!(machine.command(b'd'), "the guest did not write to its memory");
        let maps = fs::read_to_string(format!("/proc/{}/maps", machine.processes().1)).unwrap();
        let mapped: Vec<&str> = maps.lines().filter(|line| line.ends_with("/memory")).collect();
        assert!(!mapped.is_empty() && mapped.iter().all(|line| line.contains(" rw-p ")), "{mapped:?}");
    }
    for machine in &mut machines {
        server.stop(machine).await;
    }
    assert!(template_memory(&host) == before, "a clone changed the template's memory");
    server.end().await;
}

#[tokio::test]
async fn clone_starts_within_a_second_and_its_kill_is_reported_within_a_second() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let (mut ready, mut exited) = (Vec::new(), Vec::new());
    for _ in 0..MEASURED {
        let began = Instant::now();
        let mut machine = server.start();
        machine.ready().await;
        ready.push(began.elapsed());
        let killed = Instant::now();
        machine.signal(rustix::process::Signal::KILL);
        machine.until(|state| matches!(state, State::Exited { .. } | State::Removed { .. })).await;
        exited.push(killed.elapsed());
        machine.removed().await;
    }
    for (name, times) in [("ready", &mut ready), ("exit reported", &mut exited)] {
        times.sort_unstable();
        let (middle, high) = (times[MEASURED / 2], times[MEASURED * 95 / 100]);
        println!("{name}: p50 {} ms, p95 {} ms, n = {MEASURED}", middle.as_millis(), high.as_millis());
        assert!(middle < Duration::from_secs(1), "{times:?}");
    }
    server.end().await;
}
