//! The scenarios of a long run: what happens to one session, and the state that it must end in.
//!
//! The server has two providers: `quick`, whose tool writes a credential at once, and `idle`, whose tool waits.

use super::seeded_rng::SeededRng;
use crate::{ApiClient, measure_recovery::current_machine, processes};
use anteroom_wire::{
    MachineId, SessionId,
    api::{SessionStatus, SessionView, StartResponse},
};
use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The sessions of a batch, of which [`Scenario::draw_from_fixed_shares`] gives each scenario a fixed share.
pub const BATCH_SIZE: u64 = 10;
/// The server's limit of machine restarts for a session.
pub const RESTARTS_MAX: u64 = 2;
/// Time between two requests, milliseconds: it grows from the minimum to the maximum.
const POLL_MS_MIN: u64 = 15;
const POLL_MS_MAX: u64 = 120;

/// What happens to one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Its tool writes a credential.
    Completes,
    /// It is cancelled some time after its start, in whatever state it is then.
    Cancelled {
        /// Milliseconds after its start.
        after_ms: u64,
    },
    /// Its machine's process is killed; the session is cancelled afterwards if it is still active.
    MachineKilled {
        /// How many times.
        times: u64,
    },
    /// The same with the machine's keeper.
    KeeperKilled {
        /// How many times.
        times: u64,
    },
    /// It is not used until it expires.
    Abandoned,
}

impl Scenario {
    /// The scenario of session number `number`, independent of the other sessions' scenarios.
    pub fn random(seed: u64, number: u64) -> Self {
        let mut rng = SeededRng::new(seed, number);
        match rng.in_range(0..100) {
            0..45 => Self::Completes,
            45..75 => Self::Cancelled { after_ms: rng.in_range(0..600) },
            75..87 => Self::MachineKilled { times: kills(&mut rng) },
            87..97 => Self::KeeperKilled { times: kills(&mut rng) },
            _ => Self::Abandoned,
        }
    }

    /// A scenario for real machines, of which a run has few sessions. Each batch of [`BATCH_SIZE`] sessions contains, in random order:
    /// three that complete, three that are cancelled within `cancel_ms_max`, two whose machine is killed, one whose keeper is
    /// killed, and one that is abandoned.
    pub fn draw_from_fixed_shares(seed: u64, number: u64, cancel_ms_max: u64) -> Self {
        let mut shuffle = SeededRng::new(seed, u64::MAX / 2 - number / BATCH_SIZE);
        let mut batch: Vec<u64> = (0..BATCH_SIZE).collect();
        for last in (1..batch.len()).rev() {
            let other = usize::try_from(shuffle.in_range(0..last as u64 + 1)).unwrap_or(last);
            batch.swap(last, other);
        }
        let drawn = usize::try_from(number % BATCH_SIZE).ok().and_then(|at| batch.get(at).copied()).unwrap_or_default();
        let mut rng = SeededRng::new(seed, number);
        match drawn {
            0..3 => Self::Completes,
            3..6 => Self::Cancelled { after_ms: rng.in_range(0..cancel_ms_max) },
            6..8 => Self::MachineKilled { times: kills(&mut rng) },
            8 => Self::KeeperKilled { times: kills(&mut rng) },
            _ => Self::Abandoned,
        }
    }

    /// The scenario's name, without its numbers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completes => "completes",
            Self::Cancelled { .. } => "is cancelled",
            Self::MachineKilled { .. } => "its machine is killed",
            Self::KeeperKilled { .. } => "its keeper is killed",
            Self::Abandoned => "is abandoned",
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Completes => "quick",
            Self::Cancelled { .. } | Self::MachineKilled { .. } | Self::KeeperKilled { .. } | Self::Abandoned => "idle",
        }
    }

    /// Checks the status that the session ended with; `false`: it expired first. On a very busy host any session that does not
    /// complete may reach the idle timeout, which must then be its reason.
    fn check(self, view: &SessionView) -> anyhow::Result<bool> {
        let reason = view.reason.as_ref().map(|reason| reason.code.as_str());
        let after_kills = |times| if times > RESTARTS_MAX { SessionStatus::Failed } else { SessionStatus::Cancelled };
        let wanted = match self {
            Self::Completes => SessionStatus::Completed,
            Self::Cancelled { .. } => SessionStatus::Cancelled,
            Self::MachineKilled { times } | Self::KeeperKilled { times } => after_kills(times),
            Self::Abandoned => SessionStatus::Expired,
        };
        let expired = (view.status, reason) == (SessionStatus::Expired, Some("idle_expired"));
        ensure!(view.status == wanted || expired, "ended as {:?} because of {reason:?}", view.status);
        ensure!(
            (view.status == SessionStatus::Completed) == view.credential.is_some(),
            "credential: {:?}",
            view.credential
        );
        Ok(view.status == wanted)
    }
}

/// A number of kills: usually one, in a quarter of cases one more than the restarts that the server allows.
fn kills(rng: &mut SeededRng) -> u64 {
    if rng.in_range(0..4) == 0 { RESTARTS_MAX + 1 } else { 1 }
}

/// The result of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionResult {
    /// Whether it ended as its scenario says, not by the idle timeout before that.
    pub as_planned: bool,
    /// How many of its processes were killed.
    pub kills: u64,
}

/// An API client that continues with the next server process after a crash.
#[derive(Debug, Clone)]
pub struct RetryingClient {
    /// A client of the current server process.
    pub api: watch::Receiver<ApiClient>,
    /// The server's state directory.
    pub state_dir: Arc<PathBuf>,
    /// The longest wait for one step of a session.
    pub wait_max: Duration,
}

impl RetryingClient {
    /// Runs one session from its start to its end.
    ///
    /// # Errors
    /// It did not end as its scenario requires.
    pub async fn run_session(&self, scenario: Scenario, key: &str) -> anyhow::Result<SessionResult> {
        let request = json!({ "provider": scenario.provider(), "idempotency_key": key });
        let started: StartResponse =
            self.call(async |api| api.post("/api/auth/start", request.clone()).await?.parse()).await?;
        let id = started.session.id;
        let done = match scenario {
            Scenario::Completes | Scenario::Abandoned => Ok(0),
            Scenario::Cancelled { after_ms } => {
                sleep(Duration::from_millis(after_ms)).await;
                self.cancel(&id).await.map(|()| 0)
            }
            Scenario::MachineKilled { times } => self.kill_repeatedly(&id, times, processes::find_machine_pid).await,
            Scenario::KeeperKilled { times } => self.kill_repeatedly(&id, times, processes::find_keeper_pid).await,
        };
        let kills = done.with_context(|| format!("{id}, {scenario:?}"))?;
        let view = self.wait_until(&id, |view| view.status.is_ended()).await?;
        let as_planned = scenario.check(&view).with_context(|| format!("{id}, {scenario:?}"))?;
        Ok(SessionResult { as_planned, kills })
    }

    /// Kills a process of the session `times` times and waits for the reaction each time; returns how many were killed.
    async fn kill_repeatedly(
        &self,
        id: &SessionId,
        times: u64,
        find_process: fn(&std::path::Path, &MachineId) -> Option<rustix::process::Pid>,
    ) -> anyhow::Result<u64> {
        let mut kills = 0;
        for _ in 0..times {
            let before = self.wait_until(id, |view| is_ready(view) || view.status.is_ended()).await?;
            if before.status.is_ended() {
                return Ok(kills);
            }
            let machine = self.call(async |api| current_machine(&api, id).await).await?;
            // The process may have ended already, when the server has crashed in between.
            if let Some(pid) = find_process(&self.state_dir, &machine) {
                kills += u64::from(processes::kill_process(pid).is_ok());
            }
            self.wait_until(id, |view| view.generation > before.generation || view.status.is_ended()).await?;
        }
        if times <= RESTARTS_MAX {
            self.cancel(id).await?;
        }
        Ok(kills)
    }

    async fn cancel(&self, id: &SessionId) -> anyhow::Result<()> {
        self.call(async |api| api.cancel_session(id).await).await.map(drop)
    }

    async fn wait_until(&self, id: &SessionId, wanted: impl Fn(&SessionView) -> bool) -> anyhow::Result<SessionView> {
        let deadline = Instant::now() + self.wait_max;
        let mut pause = POLL_MS_MIN;
        loop {
            let view = self.call(async |api| api.get_session(id).await).await?;
            if wanted(&view) {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                let timeline = self.call(async |api| api.get_timeline(id).await).await?;
                let timeline: Vec<_> =
                    timeline.into_iter().map(|entry| (entry.at, entry.kind, entry.sentence)).collect();
                bail!("{id} remains {view:#?}\n{timeline:#?}");
            }
            sleep(Duration::from_millis(pause)).await;
            pause = (pause * 5 / 4).min(POLL_MS_MAX);
        }
    }

    /// Repeats a request until a server answers it. Only requests that fail with a connection error are repeated.
    async fn call<T>(&self, call: impl AsyncFn(ApiClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let api = self.api.borrow().clone();
            match call(api).await {
                Err(error) if error.is::<reqwest::Error>() && Instant::now() < deadline => {
                    sleep(Duration::from_millis(POLL_MS_MAX)).await;
                }
                result => return result,
            }
        }
    }
}

fn is_ready(view: &SessionView) -> bool {
    matches!(view.status, SessionStatus::VmStarted | SessionStatus::Authenticating)
}

#[cfg(test)]
#[test]
fn each_batch_contains_every_scenario_in_a_different_order() {
    let order = |seed, batch| {
        (0..BATCH_SIZE).map(move |at| Scenario::draw_from_fixed_shares(seed, batch * BATCH_SIZE + at, 1_000).name())
    };
    let mut sorted: Vec<_> = order(7, 3).collect();
    sorted.sort_unstable();
    let [cancelled, completes] = ["is cancelled", "completes"].map(|name| [name; 3]);
    let killed = ["its keeper is killed", "its machine is killed", "its machine is killed"];
    assert_eq!(sorted, [&completes[..], &["is abandoned"], &cancelled, &killed].concat());
    assert!((0..5).any(|batch| order(7, batch).ne(order(7, batch + 1))));
    assert!(order(7, 3).eq(order(7, 3)), "the same seed gives the same order");
}
