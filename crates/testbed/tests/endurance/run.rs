//! A long run: concurrent random sessions while their server is killed repeatedly; after each round nothing may be left over.

use anteroom_testbed::{
    ApiClient, MachineBackend, TestServer,
    endurance::{
        audit::{self, AuditTarget},
        scenario::{RetryingClient, Scenario},
        seeded_rng::SeededRng,
    },
    processes,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    ops::Range,
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

/// Limit of one round of sessions.
const ROUND_S_MAX: u64 = 600;

/// The configuration of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunConfig {
    pub seed: u64,
    /// The number of concurrent sessions.
    pub concurrent: u64,
    /// The number of sessions between two audits for leftovers.
    pub audit_every: u64,
    /// The number of sessions from one server kill to the next.
    pub sessions_per_server: Range<u64>,
    /// Limit of one step of a session.
    pub wait_max: Duration,
    /// The scenario of a session, by seed and number.
    pub scenario: fn(u64, u64) -> Scenario,
}

/// The results of the sessions with one kind of scenario.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub as_planned: u64,
    pub idle: u64,
    pub kills: u64,
}

pub(crate) struct Run<M: MachineBackend> {
    pub server: TestServer<M>,
    config: RunConfig,
    api: watch::Sender<ApiClient>,
    /// The audit target of the present server.
    audit_target: AuditTarget,
    /// The number of ended sessions.
    done: Arc<AtomicU64>,
    pub tallies: Arc<Mutex<BTreeMap<&'static str, Tally>>>,
    pub server_kills: u64,
    next_kill_at: u64,
}

fn audit_target(server: &TestServer<impl MachineBackend>) -> AuditTarget {
    let (dir, state_dir) = (server.path().to_owned(), server.state_dir());
    let process = server.server_pid().unwrap();
    AuditTarget { dir, state_dir, server: process, baseline: processes::read_resource_usage(process).unwrap() }
}

impl<M: MachineBackend> Run<M> {
    pub(crate) fn new(server: TestServer<M>, config: RunConfig) -> Self {
        let api = watch::channel(server.operator_client().unwrap().without_response_recording()).0;
        let audit_target = audit_target(&server);
        let (done, tallies) = Default::default();
        let mut run = Self { server, config, api, audit_target, done, tallies, server_kills: 0, next_kill_at: 0 };
        run.next_kill_at = run.draw_next_kill();
        run
    }

    fn draw_next_kill(&self) -> u64 {
        let mut rng = SeededRng::new(self.config.seed, u64::MAX - self.server_kills);
        self.done.load(Relaxed) + rng.in_range(self.config.sessions_per_server.clone())
    }

    /// Runs `count` sessions with an audit after every round.
    pub(crate) async fn run_sessions(&mut self, count: u64) {
        let audit_every = self.config.audit_every;
        for round in 0..count / audit_every {
            let began = Instant::now();
            let limit = Duration::from_secs(ROUND_S_MAX);
            timeout(limit, self.round(round * audit_every)).await.expect("a round ends within its limit");
            let seen = audit::audit_server(&self.audit_target).await.unwrap();
            eprintln!("{:5.1} s for {audit_every} sessions; {seen}", began.elapsed().as_secs_f64());
        }
        eprintln!("the server was killed {} times", self.server_kills);
        for (name, tally) in &*self.tallies.lock().unwrap() {
            eprintln!(
                "{name}: {} as planned, {} idle before that, {} processes killed",
                tally.as_planned, tally.idle, tally.kills
            );
        }
        assert!(self.server_kills > 0, "the server was killed at least once");
    }

    /// Runs the sessions from number `first` concurrently, and kills the server during the round.
    async fn round(&mut self, first: u64) {
        let (state_dir, wait_max) = (Arc::new(self.server.state_dir()), self.config.wait_max);
        let client = RetryingClient { api: self.api.subscribe(), state_dir, wait_max };
        let next = Arc::new(AtomicU64::new(first));
        let mut workers: FuturesUnordered<_> = (0..self.config.concurrent)
            .map(|_| {
                let (client, next, done) = (client.clone(), next.clone(), self.done.clone());
                let (tallies, config) = (self.tallies.clone(), self.config.clone());
                async move {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= first + config.audit_every {
                            return;
                        }
                        let scenario = (config.scenario)(config.seed, number);
                        let result = client.run_session(scenario, &format!("cycle-{number}")).await.unwrap();
                        done.fetch_add(1, Relaxed);
                        let mut tallies = tallies.lock().unwrap();
                        let tally = tallies.entry(scenario.name()).or_default();
                        tally.as_planned += u64::from(result.as_planned);
                        tally.idle += u64::from(!result.as_planned);
                        tally.kills += result.kills;
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
            if self.done.load(Relaxed) >= self.next_kill_at {
                self.replace_server().await;
            }
        }
    }

    async fn replace_server(&mut self) {
        let pause = SeededRng::new(self.config.seed, self.done.load(Relaxed)).in_range(0..300);
        self.server.kill_server().await.unwrap();
        sleep(Duration::from_millis(pause)).await;
        self.server.start_server().await.unwrap();
        self.api.send_replace(self.server.operator_client().unwrap().without_response_recording());
        self.audit_target = audit_target(&self.server);
        self.server_kills += 1;
        self.next_kill_at = self.draw_next_kill();
    }
}
