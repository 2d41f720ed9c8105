//! Very many sessions, several at once, each with a fate drawn by lot, while the server itself is killed now and then.

use crate::idle;
use anteroom_testbed::{
    Plan, SOON, Script, Step, Tool, World,
    endurance::{
        audit::{self, Place},
        chance,
        fate::{Fate, Patient, RESTARTS_MAX},
        full,
    },
    processes,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Sessions at once.
const AT_ONCE: u64 = 8;
/// Sessions between two looks at what is left.
const LOOK_EVERY: u64 = 500;
/// Sessions from one death of the server to the next: this and up to twice as many.
const SERVER_LIVES: u64 = 150;
/// The longest time for sessions between two looks.
const ROUND_S_MAX: u64 = 600;

const SETTINGS: &str = "
[log]
level = 'info'
[machines]
machines_max = 12
[sessions]
idle_s_max = 5
capture_stable_ms = 50
sweep_every_ms = 500
";

/// The provider `quick`: its tool has a credential at once.
fn quick() -> Tool {
    Tool::new("quick", Script::new([Step::write(Tool::CREDENTIAL, "{\"token\": \"x\"}")]))
}

#[tokio::test]
async fn ten_thousand_sessions_with_deaths_in_between_leave_nothing() {
    let (seed, count) = (chance::seed(), if full() { 10_000 } else { 1_000 });
    let plan = Plan { tools: vec![quick(), idle()], in_memory: true, ..Plan::default() };
    let world = World::start(plan.set(SETTINGS).set(&format!("restarts_max = {RESTARTS_MAX}\n"))).await.unwrap();
    let mut run = Run::new(world, seed);
    for round in 0..count / LOOK_EVERY {
        let began = Instant::now();
        timeout(Duration::from_secs(ROUND_S_MAX), run.round(round * LOOK_EVERY)).await.expect("a round ends in time");
        let seen = audit::audit(&run.place).await.unwrap();
        println!("{:5.1} s for {LOOK_EVERY} sessions; {seen}", began.elapsed().as_secs_f64());
    }
    println!("the server was killed {} times", run.server_deaths);
    assert!(run.server_deaths > 0, "a run without a server's death says little");
    run.world.finish().await.unwrap();
}

fn place(world: &World) -> Place {
    let server = world.server_process().unwrap();
    let young = processes::holds(server).unwrap();
    Place { dir: world.path().to_owned(), state_dir: world.state_dir(), server, young }
}

struct Run {
    world: World,
    seed: u64,
    api: watch::Sender<anteroom_testbed::Api>,
    /// Of the present server.
    place: Place,
    /// Sessions that have ended.
    done: Arc<AtomicU64>,
    server_deaths: u64,
    next_death: u64,
}

impl Run {
    fn new(world: World, seed: u64) -> Self {
        let api = watch::channel(world.operator().unwrap().forgetful()).0;
        let place = place(&world);
        let mut run = Self { world, seed, api, place, done: Arc::default(), server_deaths: 0, next_death: 0 };
        run.next_death = run.life();
        run
    }

    fn life(&self) -> u64 {
        let mut chance = chance::Chance::of(self.seed, u64::MAX - self.server_deaths);
        self.done.load(Relaxed) + chance.in_range(SERVER_LIVES..2 * SERVER_LIVES)
    }

    /// Lives the sessions from `first` on, some at once, and kills the server meanwhile.
    async fn round(&mut self, first: u64) {
        let patient =
            Patient { api: self.api.subscribe(), state_dir: Arc::new(self.world.state_dir()), patience: SOON };
        let next = Arc::new(AtomicU64::new(first));
        let mut workers: FuturesUnordered<_> = (0..AT_ONCE)
            .map(|_| {
                let (patient, next, done, seed) = (patient.clone(), next.clone(), self.done.clone(), self.seed);
                async move {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= first + LOOK_EVERY {
                            return;
                        }
                        patient.live(Fate::of(seed, number), &format!("cycle-{number}")).await.unwrap();
                        done.fetch_add(1, Relaxed);
                    }
                }
            })
            .collect();
        loop {
            tokio::select! {
                ended = workers.next() => if ended.is_none() {
                    return;
                },
                () = sleep(Duration::from_millis(20)) => {}
            }
            if self.done.load(Relaxed) >= self.next_death {
                self.replace_server().await;
            }
        }
    }

    async fn replace_server(&mut self) {
        let pause = chance::Chance::of(self.seed, self.done.load(Relaxed)).in_range(0..300);
        self.world.kill_server().await.unwrap();
        sleep(Duration::from_millis(pause)).await;
        self.world.start_server().await.unwrap();
        self.api.send_replace(self.world.operator().unwrap().forgetful());
        self.place = place(&self.world);
        self.server_deaths += 1;
        self.next_death = self.life();
    }
}
