//! Real machines that die, are replaced and are taken over. Many of them, one after the other: `endurance/cycles.rs`.

use super::SHELL;
use anteroom_testbed::{House, Spread, adoption, healing};
use anteroom_wire::api::Status;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const DEATHS: usize = 3;
/// On a busy host under emulation; the tight figures are `examples/healing_times.rs`'s.
const KNOWN_S_MAX: u64 = 10;
const MACHINES: usize = 3;
const ADOPTED_S_MAX: u64 = 60;

#[tokio::test]
async fn qemu_a_machines_death_is_told_and_healed_while_somebody_looks() {
    let house = House::open(SHELL, &BTreeMap::new(), false).await.unwrap();
    let api = house.api().unwrap();
    let [mut closed, mut told, mut noted, mut frame] = [const { Spread::NONE }; 4];
    for _ in 0..DEATHS {
        let id = super::open_shell(&house).await;
        let mut viewer = api.desktop(&id).await.unwrap();
        viewer.whole_frame().await.unwrap();
        let limit = Duration::from_secs(KNOWN_S_MAX);
        let seen = healing::kill_under(&api, &house.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(seen.close_code, 4510);
        closed.add(seen.closed);
        told.add(seen.told);
        noted.add(seen.noted);
        frame.extend(seen.frame);
        api.wait_status(&id, Status::VmStarted).await.unwrap();
        api.cancel(&id).await.unwrap();
    }
    println!("closed {closed}\ntold   {told}\nnoted  {noted}\nframe  {frame}");
    assert_eq!(frame.count(), DEATHS, "every viewer has a desktop again");
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_machines_are_taken_over_by_the_next_server_and_shown_again() {
    let mut house = House::open(SHELL, &BTreeMap::new(), false).await.unwrap();
    let before = adoption::open(&house.api().unwrap(), "shell", MACHINES).await.unwrap();
    let machines = house.machines();
    house.kill_server().await.unwrap();
    let began = Instant::now();
    house.serve(false).await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let taken = adoption::watch(&house.api().unwrap(), &before, began, limit).await.unwrap();
    println!("{taken}");
    assert_eq!(taken.frames.count(), MACHINES);
    assert_eq!(house.machines(), machines, "the same machines");
    house.finish().await.unwrap();
}
