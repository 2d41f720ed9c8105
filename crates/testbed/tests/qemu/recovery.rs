//! Real machines that die, are replaced and are taken over. Many of them, one after the other: `endurance/cycles.rs`.

use super::SHELL;
use anteroom_testbed::{QemuServer, DurationStats, measure_adoption, measure_recovery};
use anteroom_wire::api::Status;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const DEATHS: usize = 3;
/// On a busy host under emulation; the tight figures are `examples/measure_recovery.rs`'s.
const KNOWN_S_MAX: u64 = 10;
const MACHINES: usize = 3;
const ADOPTED_S_MAX: u64 = 60;

#[tokio::test]
async fn qemu_killed_machine_is_reported_and_replaced_while_viewed() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let api = house.operator().unwrap();
    let [mut closed, mut told, mut noted, mut frame] = [const { DurationStats::EMPTY }; 4];
    for _ in 0..DEATHS {
        let id = super::open_shell(&house).await;
        let mut viewer = api.desktop(&id).await.unwrap();
        viewer.whole_frame().await.unwrap();
        let limit = Duration::from_secs(KNOWN_S_MAX);
        let seen = measure_recovery::kill_and_measure(&api, &house.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(seen.close_code, 4510);
        closed.add(seen.closed);
        told.add(seen.status_changed);
        noted.add(seen.timeline_entry);
        frame.extend(seen.frame);
        api.wait_status(&id, Status::VmStarted).await.unwrap();
        api.cancel(&id).await.unwrap();
    }
    println!("closed {closed}\ntold   {told}\nnoted  {noted}\nframe  {frame}");
    assert_eq!(frame.count(), DEATHS, "every viewer has a desktop again");
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_next_server_adopts_machines_and_shows_them_again() {
    let mut house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let before = measure_adoption::start_sessions(&house.operator().unwrap(), "shell", MACHINES).await.unwrap();
    let machines = house.machines();
    house.kill_server().await.unwrap();
    let began = Instant::now();
    house.start_server(false).await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let taken = measure_adoption::measure(&house.operator().unwrap(), &before, began, limit).await.unwrap();
    println!("{taken}");
    assert_eq!(taken.frames.count(), MACHINES);
    assert_eq!(house.machines(), machines, "the same machines");
    house.finish().await.unwrap();
}
