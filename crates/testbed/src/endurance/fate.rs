//! What becomes of one session of a long run, and what must be true of it afterwards.
//!
//! The server has two providers: `quick`, whose tool has a credential at once, and `idle`, whose tool waits.

use super::chance::Chance;
use crate::{Api, healing::machine_now, processes};
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

/// Restarts that a session of the cycles has.
pub const RESTARTS_MAX: u64 = 2;
const ASK_MS_MIN: u64 = 15;
const ASK_MS_MAX: u64 = 120;

/// What becomes of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
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

impl Fate {
    /// The fate of a run's session number `number`.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut chance = Chance::of(seed, number);
        let times = |chance: &mut Chance| if chance.in_range(0..4) == 0 { RESTARTS_MAX + 1 } else { 1 };
        match chance.in_range(0..100) {
            0..45 => Self::Completes,
            45..75 => Self::Cancelled { after_ms: chance.in_range(0..600) },
            75..87 => Self::MachineKilled { times: times(&mut chance) },
            87..97 => Self::KeeperKilled { times: times(&mut chance) },
            _ => Self::LeftAlone,
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Completes => "quick",
            Self::Cancelled { .. } | Self::MachineKilled { .. } | Self::KeeperKilled { .. } | Self::LeftAlone => "idle",
        }
    }

    /// What the session must have ended as. On a very busy host anything but a completion may be overtaken by the idle
    /// grace, which then must be named.
    fn check(self, view: &SessionView) -> anyhow::Result<()> {
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
        Ok(())
    }
}

/// A caller that goes on with the next server when one dies.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The present server's.
    pub api: watch::Receiver<Api>,
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
    pub async fn live(&self, fate: Fate, key: &str) -> anyhow::Result<SessionId> {
        let asked = json!({ "provider": fate.provider(), "idempotency_key": key });
        let started: Started = self.ask(async |api| api.post("/api/auth/start", asked.clone()).await?.read()).await?;
        let id = started.session.id;
        let done = match fate {
            Fate::Completes | Fate::LeftAlone => Ok(()),
            Fate::Cancelled { after_ms } => {
                sleep(Duration::from_millis(after_ms)).await;
                self.cancel(&id).await
            }
            Fate::MachineKilled { times } => self.kills(&id, times, processes::machine_of).await,
            Fate::KeeperKilled { times } => self.kills(&id, times, processes::keeper_of).await,
        };
        done.with_context(|| format!("{id}, {fate:?}"))?;
        let view = self.wait(&id, |view| view.status.is_terminal()).await?;
        fate.check(&view).with_context(|| format!("{id}, {fate:?}"))?;
        Ok(id)
    }

    async fn kills(
        &self,
        id: &SessionId,
        times: u64,
        whom: fn(&std::path::Path, &MachineId) -> Option<rustix::process::Pid>,
    ) -> anyhow::Result<()> {
        for _ in 0..times {
            let before = self.wait(id, |view| open(view) || view.status.is_terminal()).await?;
            if before.status.is_terminal() {
                return Ok(());
            }
            let machine = self.ask(async |api| machine_now(&api, id).await).await?;
            // It may have died with its server's crash handling meanwhile; then it needs no killing.
            if let Some(pid) = whom(&self.state_dir, &machine) {
                processes::kill(pid).ok();
            }
            self.wait(id, |view| view.generation > before.generation || view.status.is_terminal()).await?;
        }
        if times <= RESTARTS_MAX { self.cancel(id).await } else { Ok(()) }
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
    async fn ask<T>(&self, call: impl AsyncFn(Api) -> anyhow::Result<T>) -> anyhow::Result<T> {
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
