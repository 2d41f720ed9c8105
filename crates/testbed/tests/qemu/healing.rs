//! Real machines that come, die, are replaced, are taken over and go: nothing may be left of any.

use super::SHELL;
use anteroom_testbed::{
    House, Spread, adoption,
    endurance::{
        audit::{self, Place},
        chance,
        fate::{Fate, Patient},
        full,
    },
    healing,
    house::LONG,
    processes,
};
use anteroom_wire::api::Status;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The providers of [`Fate`].
const TOOLS: &str = r#"
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
/// Sessions at once.
const AT_ONCE: u64 = 2;
const DEATHS: usize = 3;
/// On a busy host under emulation; the tight figures are `examples/healing_times.rs`'s.
const KNOWN_S_MAX: u64 = 10;
const MACHINES: usize = 3;
const ADOPTED_S_MAX: u64 = 60;

#[tokio::test]
async fn qemu_ten_cycles_leave_nothing() {
    let (seed, count) = (chance::seed(), if full() { 100 } else { 10 });
    let house = House::open(TOOLS, &BTreeMap::new(), false).await.unwrap();
    let server = house.server_process().unwrap();
    let young = processes::holds(server).unwrap();
    let api = watch::channel(house.api().unwrap().forgetful()).1;
    let patient = Patient { api, state_dir: Arc::new(house.state_dir()), patience: LONG };
    let began = Instant::now();
    // Waiting for the idle grace would take its time and says nothing more about machines.
    let fates = (0..).map(|number| (number, Fate::of(seed, number))).filter(|(_, fate)| *fate != Fate::LeftAlone);
    let mut fates = fates.take(count).peekable();
    while fates.peek().is_some() {
        let some: Vec<_> = fates.by_ref().take(AT_ONCE as usize).collect();
        let lived =
            some.iter().map(async |(number, fate)| patient.live(*fate, &format!("cycle-{number}")).await.unwrap());
        futures_util::future::join_all(lived).await;
    }
    println!("{:.1} s for {count} sessions", began.elapsed().as_secs_f64());
    let place = Place { dir: house.path().to_owned(), state_dir: house.state_dir(), server, young };
    println!("{}", audit::audit(&place).await.unwrap());
    house.finish().await.unwrap();
}

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
