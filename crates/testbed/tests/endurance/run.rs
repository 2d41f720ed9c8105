//! A long run: sessions by lot, some at once, while their server is killed now and then; after each round nothing may be left.

use anteroom_testbed::{
    ApiClient, QemuServer, TestServer,
    endurance::{
        audit::{self, AuditTarget},
        seeded_rng::SeededRng,
        scenario::{Scenario, RetryingClient},
    },
    processes,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The longest time for sessions between two looks.
const ROUND_S_MAX: u64 = 600;

/// A server that is killed and started again, with all that is its own: plain machines or real ones.
pub(crate) trait Mortal {
    fn api(&self) -> ApiClient;
    async fn kill(&mut self);
    async fn start(&mut self);
    fn process(&self) -> rustix::process::Pid;
    /// Its directory and, in it, its state directory.
    fn dirs(&self) -> [PathBuf; 2];
}

impl Mortal for TestServer {
    fn api(&self) -> ApiClient {
        self.operator().unwrap()
    }

    async fn kill(&mut self) {
        self.kill_server().await.unwrap();
    }

    async fn start(&mut self) {
        self.start_server().await.unwrap();
    }

    fn process(&self) -> rustix::process::Pid {
        self.server_pid().unwrap()
    }

    fn dirs(&self) -> [PathBuf; 2] {
        [self.path().to_owned(), self.state_dir()]
    }
}

impl Mortal for QemuServer {
    fn api(&self) -> ApiClient {
        QemuServer::operator(self).unwrap()
    }

    async fn kill(&mut self) {
        self.kill_server().await.unwrap();
    }

    async fn start(&mut self) {
        self.start_server(false).await.unwrap();
    }

    fn process(&self) -> rustix::process::Pid {
        self.server_pid().unwrap()
    }

    fn dirs(&self) -> [PathBuf; 2] {
        [self.path().to_owned(), self.state_dir()]
    }
}

/// How a run goes.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub seed: u64,
    /// Sessions at once.
    pub at_once: u64,
    /// Sessions between two looks at what is left.
    pub look_every: u64,
    /// Sessions from one death of the server to the next.
    pub server_lives: Range<u64>,
    /// The longest wait for one step of a session.
    pub wait_max: Duration,
    /// The fate of a session, by seed and number.
    pub fate: fn(u64, u64) -> Scenario,
}

/// What became of the sessions of one kind of fate.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub as_planned: u64,
    pub idle: u64,
    pub kills: u64,
}

pub(crate) struct Run<S> {
    pub server: S,
    course: Course,
    api: watch::Sender<ApiClient>,
    /// Of the present server.
    place: AuditTarget,
    /// Sessions that have ended.
    done: Arc<AtomicU64>,
    pub tallies: Arc<Mutex<BTreeMap<&'static str, Tally>>>,
    pub server_deaths: u64,
    next_death: u64,
}

fn place(server: &impl Mortal) -> AuditTarget {
    let ([dir, state_dir], process) = (server.dirs(), server.process());
    AuditTarget { dir, state_dir, server: process, baseline: processes::resource_usage(process).unwrap() }
}

impl<S: Mortal> Run<S> {
    pub(crate) fn new(server: S, course: Course) -> Self {
        let api = watch::channel(server.api().without_history()).0;
        let place = place(&server);
        let (done, tallies) = Default::default();
        let mut run = Self { server, course, api, place, done, tallies, server_deaths: 0, next_death: 0 };
        run.next_death = run.life();
        run
    }

    fn life(&self) -> u64 {
        let mut chance = SeededRng::new(self.course.seed, u64::MAX - self.server_deaths);
        self.done.load(Relaxed) + chance.in_range(self.course.server_lives.clone())
    }

    /// Lives `count` sessions and looks around after every round.
    pub(crate) async fn live(&mut self, count: u64) {
        let look_every = self.course.look_every;
        for round in 0..count / look_every {
            let began = Instant::now();
            let limit = Duration::from_secs(ROUND_S_MAX);
            timeout(limit, self.round(round * look_every)).await.expect("a round ends in time");
            let seen = audit::audit(&self.place).await.unwrap();
            eprintln!("{:5.1} s for {look_every} sessions; {seen}", began.elapsed().as_secs_f64());
        }
        eprintln!("the server was killed {} times", self.server_deaths);
        for (name, tally) in &*self.tallies.lock().unwrap() {
            eprintln!(
                "{name}: {} so, {} idle before that, {} processes killed",
                tally.as_planned, tally.idle, tally.kills
            );
        }
        assert!(self.server_deaths > 0, "a run without a server's death says little");
    }

    /// Lives the sessions from `first` on, some at once, and kills the server meanwhile.
    async fn round(&mut self, first: u64) {
        let [_, state_dir] = self.server.dirs();
        let (state_dir, wait_max) = (Arc::new(state_dir), self.course.wait_max);
        let patient = RetryingClient { api: self.api.subscribe(), state_dir, wait_max };
        let next = Arc::new(AtomicU64::new(first));
        let mut workers: FuturesUnordered<_> = (0..self.course.at_once)
            .map(|_| {
                let (patient, next, done) = (patient.clone(), next.clone(), self.done.clone());
                let (tallies, course) = (self.tallies.clone(), self.course.clone());
                async move {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= first + course.look_every {
                            return;
                        }
                        let fate = (course.fate)(course.seed, number);
                        let lived = patient.run_session(fate, &format!("cycle-{number}")).await.unwrap();
                        done.fetch_add(1, Relaxed);
                        let mut tallies = tallies.lock().unwrap();
                        let tally = tallies.entry(fate.name()).or_default();
                        tally.as_planned += u64::from(lived.as_planned);
                        tally.idle += u64::from(!lived.as_planned);
                        tally.kills += lived.kills;
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
        let pause = SeededRng::new(self.course.seed, self.done.load(Relaxed)).in_range(0..300);
        self.server.kill().await;
        sleep(Duration::from_millis(pause)).await;
        self.server.start().await;
        self.api.send_replace(self.server.api().without_history());
        self.place = place(&self.server);
        self.server_deaths += 1;
        self.next_death = self.life();
    }
}
