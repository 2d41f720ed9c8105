//! What becomes of one session of a long run, and what must be true of it afterwards.
//!
//! The server has two providers: `quick`, whose tool has a credential at once, and `idle`, whose tool waits.

use super::seeded_rng::SeededRng;
use crate::{ApiClient, measure_recovery::machine_now, processes};
use anteroom_wire::{
    MachineId, SessionId,
    api::{SessionView, Started, Status},
};
use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// Sessions of a deck ([`Scenario::dealt`]).
pub const DECK: u64 = 10;
/// Restarts that a session of the cycles has.
pub const RESTARTS_MAX: u64 = 2;
const ASK_MS_MIN: u64 = 15;
const ASK_MS_MAX: u64 = 120;

/// What becomes of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Its tool writes a credential.
    Completes,
    /// It is cancelled so long after its start, at whatever stage that is.
    Cancelled {
        /// Milliseconds.
        after_ms: u64,
    },
    /// Its machine's process is killed so often; then it is cancelled, if it lives.
    MachineKilled {
        /// How often.
        times: u64,
    },
    /// The same with the machine's keeper.
    KeeperKilled {
        /// How often.
        times: u64,
    },
    /// Nobody uses it any more.
    LeftAlone,
}

impl Scenario {
    /// The fate of a run's session number `number`.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut chance = SeededRng::of(seed, number);
        let times = |chance: &mut SeededRng| if chance.in_range(0..4) == 0 { RESTARTS_MAX + 1 } else { 1 };
        match chance.in_range(0..100) {
            0..45 => Self::Completes,
            45..75 => Self::Cancelled { after_ms: chance.in_range(0..600) },
            75..87 => Self::MachineKilled { times: times(&mut chance) },
            87..97 => Self::KeeperKilled { times: times(&mut chance) },
            _ => Self::LeftAlone,
        }
    }

    /// The same with real machines, whose sessions are few: of every [`DECK`] in a row three complete, three are cancelled within
    /// `cancel_ms_max`, two lose their machine, one its keeper, one is left alone. Which is which is by lot.
    pub fn dealt(seed: u64, number: u64, cancel_ms_max: u64) -> Self {
        let mut shuffle = SeededRng::of(seed, u64::MAX / 2 - number / DECK);
        let mut deck: Vec<u64> = (0..DECK).collect();
        for last in (1..deck.len()).rev() {
            let other = usize::try_from(shuffle.in_range(0..last as u64 + 1)).unwrap_or(last);
            deck.swap(last, other);
        }
        let card = usize::try_from(number % DECK).ok().and_then(|at| deck.get(at).copied()).unwrap_or_default();
        let mut chance = SeededRng::of(seed, number);
        let times = |chance: &mut SeededRng| if chance.in_range(0..4) == 0 { RESTARTS_MAX + 1 } else { 1 };
        match card {
            0..3 => Self::Completes,
            3..6 => Self::Cancelled { after_ms: chance.in_range(0..cancel_ms_max) },
            6..8 => Self::MachineKilled { times: times(&mut chance) },
            8 => Self::KeeperKilled { times: times(&mut chance) },
            _ => Self::LeftAlone,
        }
    }

    /// What it is, without its figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completes => "completes",
            Self::Cancelled { .. } => "is cancelled",
            Self::MachineKilled { .. } => "its machine is killed",
            Self::KeeperKilled { .. } => "its keeper is killed",
            Self::LeftAlone => "is left alone",
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Completes => "quick",
            Self::Cancelled { .. } | Self::MachineKilled { .. } | Self::KeeperKilled { .. } | Self::LeftAlone => "idle",
        }
    }

    /// What the session must have ended as; whether it did. On a very busy host anything but a completion may be overtaken by
    /// the idle grace, which then must be named.
    fn check(self, view: &SessionView) -> anyhow::Result<bool> {
        let reason = view.reason.as_ref().map(|reason| reason.code.as_str());
        let spent = |times| if times > RESTARTS_MAX { Status::Failed } else { Status::Cancelled };
        let wanted = match self {
            Self::Completes => Status::Completed,
            Self::Cancelled { .. } => Status::Cancelled,
            Self::MachineKilled { times } | Self::KeeperKilled { times } => spent(times),
            Self::LeftAlone => Status::Expired,
        };
        let expired = (view.status, reason) == (Status::Expired, Some("idle_expired"));
        ensure!(view.status == wanted || expired, "ended as {:?} because of {reason:?}", view.status);
        ensure!((view.status == Status::Completed) == view.credential.is_some(), "credential: {:?}", view.credential);
        Ok(view.status == wanted)
    }
}

/// What a session's life came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lived {
    /// Whether it ended by its fate, not by the idle grace before that.
    pub by_fate: bool,
    /// How many of its processes were really killed.
    pub kills: u64,
}

/// A caller that goes on with the next server when one dies.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The present server's.
    pub api: watch::Receiver<ApiClient>,
    /// Where its machines are.
    pub state_dir: Arc<PathBuf>,
    /// The longest wait for one step of a session.
    pub patience: Duration,
}

impl Patient {
    /// Lives one session from its start to its end.
    ///
    /// # Errors
    /// It did not end as it should have.
    pub async fn live(&self, fate: Scenario, key: &str) -> anyhow::Result<Lived> {
        let asked = json!({ "provider": fate.provider(), "idempotency_key": key });
        let started: Started = self.ask(async |api| api.post("/api/auth/start", asked.clone()).await?.read()).await?;
        let id = started.session.id;
        let done = match fate {
            Scenario::Completes | Scenario::LeftAlone => Ok(0),
            Scenario::Cancelled { after_ms } => {
                sleep(Duration::from_millis(after_ms)).await;
                self.cancel(&id).await.map(|()| 0)
            }
            Scenario::MachineKilled { times } => self.kills(&id, times, processes::machine_of).await,
            Scenario::KeeperKilled { times } => self.kills(&id, times, processes::keeper_of).await,
        };
        let kills = done.with_context(|| format!("{id}, {fate:?}"))?;
        let view = self.wait(&id, |view| view.status.is_terminal()).await?;
        let by_fate = fate.check(&view).with_context(|| format!("{id}, {fate:?}"))?;
        Ok(Lived { by_fate, kills })
    }

    /// Kills so often, waits for what follows, and says how often there was something to kill.
    async fn kills(
        &self,
        id: &SessionId,
        times: u64,
        whom: fn(&std::path::Path, &MachineId) -> Option<rustix::process::Pid>,
    ) -> anyhow::Result<u64> {
        let mut kills = 0;
        for _ in 0..times {
            let before = self.wait(id, |view| open(view) || view.status.is_terminal()).await?;
            if before.status.is_terminal() {
                return Ok(kills);
            }
            let machine = self.ask(async |api| machine_now(&api, id).await).await?;
            // It may have died with its server's crash handling meanwhile; then it needs no killing.
            if let Some(pid) = whom(&self.state_dir, &machine) {
                kills += u64::from(processes::kill(pid).is_ok());
            }
            self.wait(id, |view| view.generation > before.generation || view.status.is_terminal()).await?;
        }
        if times <= RESTARTS_MAX {
            self.cancel(id).await?;
        }
        Ok(kills)
    }

    async fn cancel(&self, id: &SessionId) -> anyhow::Result<()> {
        self.ask(async |api| api.cancel(id).await).await.map(drop)
    }

    async fn wait(&self, id: &SessionId, wanted: impl Fn(&SessionView) -> bool) -> anyhow::Result<SessionView> {
        let until = Instant::now() + self.patience;
        let mut pause = ASK_MS_MIN;
        loop {
            let view = self.ask(async |api| api.session(id).await).await?;
            if wanted(&view) {
                return Ok(view);
            }
            if Instant::now() >= until {
                let story = self.ask(async |api| api.timeline(id).await).await?;
                let story: Vec<_> = story.into_iter().map(|entry| (entry.at, entry.kind, entry.sentence)).collect();
                bail!("{id} stays {view:#?}\n{story:#?}");
            }
            sleep(Duration::from_millis(pause)).await;
            pause = (pause * 5 / 4).min(ASK_MS_MAX);
        }
    }

    /// Asks until a server answers: a request that died with one is asked again.
    async fn ask<T>(&self, call: impl AsyncFn(ApiClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let until = Instant::now() + self.patience;
        loop {
            let api = self.api.borrow().clone();
            match call(api).await {
                Err(error) if error.is::<reqwest::Error>() && Instant::now() < until => {
                    sleep(Duration::from_millis(ASK_MS_MAX)).await;
                }
                answered => return answered,
            }
        }
    }
}

fn open(view: &SessionView) -> bool {
    matches!(view.status, Status::VmStarted | Status::Authenticating)
}

#[cfg(test)]
#[test]
fn every_fate_is_dealt_in_every_ten_sessions_and_in_another_order() {
    let order = |seed, deck| (0..DECK).map(move |card| Scenario::dealt(seed, deck * DECK + card, 1_000).name());
    let mut sorted: Vec<_> = order(7, 3).collect();
    sorted.sort_unstable();
    let [cancelled, completes] = ["is cancelled", "completes"].map(|name| [name; 3]);
    let killed = ["is left alone", "its keeper is killed", "its machine is killed", "its machine is killed"];
    assert_eq!(sorted, [&completes[..], &cancelled, &killed].concat());
    assert!((0..5).any(|deck| order(7, deck).ne(order(7, deck + 1))));
    assert!(order(7, 3).eq(order(7, 3)), "a seed repeats it");
}
