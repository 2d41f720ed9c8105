//! Compares the results of a fault with its row, and finishes the sessions.

use super::{
    fixture::{CREDENTIAL, LabFixture, Phase},
    table::{Effect, Row, Sight},
};
use crate::viewer::Viewer;
use anteroom_testbed::{PausePoint, WAIT_MAX, eventually, measure_recovery::current_machine};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use rustix::process::{Signal, kill_process};
use std::time::Duration;

/// What a viewer that stays connected is given to be closed.
const SETTLE: Duration = Duration::from_millis(300);

impl LabFixture {
    /// Compares what happened to each session and its viewers with the row.
    pub(crate) async fn check(&mut self, row: &Row) {
        for (index, effect) in row.effects.into_iter().enumerate() {
            self.check_effect(index, effect).await;
        }
        let open = self.of(Phase::Open);
        let (viewer, direct) = (open.viewer.take().unwrap(), open.direct.take().unwrap());
        check_sight("viewer through the second host", viewer, row.viewer).await;
        check_sight("viewer at the first host", direct, row.direct).await;
        let third = self.of(Phase::Delivering).viewer.take().unwrap();
        check_sight("viewer through the third host", third, row.third).await;
    }

    async fn check_effect(&self, index: usize, effect: Effect) {
        let held = &self.held[index];
        let what = format!("{}: {effect:?}", held.phase);
        // Just after a fault a host may not answer yet.
        let is_so = async || Ok(self.effect_of(index).await.is_ok_and(|found| found == effect).then_some(()));
        if let Err(error) = eventually(&what, WAIT_MAX, is_so).await {
            let timeline = self.api(1).get_timeline(&held.id).await;
            panic!("{error:#}: {:?}, {held:#?}\n{timeline:#?}", self.effect_of(index).await);
        }
    }

    /// What has happened to a session so far.
    async fn effect_of(&self, index: usize) -> anyhow::Result<Effect> {
        let held = &self.held[index];
        let api = self.api(1);
        let view = api.get_session(&held.id).await?;
        if held.phase == Phase::Ending {
            anyhow::ensure!(view.status == SessionStatus::Cancelled, "{view:?}");
            return Ok(Effect::Same);
        }
        anyhow::ensure!(!view.status.is_ended(), "it ended: {view:?}");
        let machine = current_machine(&api, &held.id).await.ok();
        if machine == held.machine {
            let is_alive = machine
                .is_none_or(|machine| held.phase == Phase::Preparing || self.lab.census.alive().contains(&machine));
            return Ok(if is_alive { Effect::Same } else { Effect::Ends });
        }
        let machine = machine.unwrap();
        let at = self.lab.hosts.iter().position(|host| host.server.list_machines().contains(&machine));
        let is_lost = api.get_timeline(&held.id).await?.iter().any(|entry| entry.kind == TimelineKind::HostLost);
        match (at, is_lost) {
            // Room became free.
            (Some(0), false) if held.phase == Phase::Waiting => Ok(Effect::Same),
            (Some(0), false) => Ok(Effect::Again),
            (Some(1 | 2), is_lost) if is_lost || held.phase == Phase::Waiting => Ok(Effect::Elsewhere),
            _ => Ok(Effect::Ends),
        }
    }

    /// Lets all sessions finish, and checks that each has ended once, with one credential if it was not cancelled.
    pub(crate) async fn finish(self) {
        self.lab.hosts[0].server.resume(PausePoint::KeeperStart).unwrap();
        self.lab.postgres.execute("DROP TRIGGER lab_reject ON credentials").await.unwrap();
        if let Some(keeper) = self.keeper {
            // It may have ended.
            let _ = kill_process(keeper, Signal::CONT);
        }
        self.set_draining_others(false).await;
        self.set_flag("open");
        let api = self.api(1);
        for held in &self.held {
            let expected =
                if held.phase == Phase::Ending { SessionStatus::Cancelled } else { SessionStatus::Completed };
            let view = api.wait_until(&held.id, "ended", |view| view.status.is_ended()).await.unwrap();
            assert_eq!(view.status, expected, "{}", held.phase);
            let timeline = api.get_timeline(&held.id).await.unwrap();
            assert_eq!(timeline.iter().filter(|entry| entry.kind.is_session_end()).count(), 1, "{timeline:#?}");
        }
        let kept = api.list_credentials().await.unwrap().credentials;
        let mut of: Vec<_> = kept.iter().map(|credential| credential.session.clone()).collect();
        of.sort();
        let completed = self.held.iter().filter(|held| held.phase != Phase::Ending).map(|held| held.id.clone());
        let mut completed: Vec<_> = completed.collect();
        completed.sort();
        assert_eq!(of, completed, "one credential of each");
        for credential in kept {
            let lease = api.lease_credential(&credential.id).await.unwrap();
            assert_eq!(lease.files[0].content.expose(), CREDENTIAL.as_bytes());
        }
        let sessions: Vec<SessionId> = self.held.iter().map(|held| held.id.clone()).collect();
        self.lab.finish(&sessions).await.unwrap();
    }

    /// All of a host continues.
    pub(crate) fn thaw(&self, host: usize) {
        self.lab.hosts[host].signal_all(Signal::CONT);
        if let Some(keeper) = self.keeper.filter(|_| host == 0) {
            // It may have ended.
            let _ = kill_process(keeper, Signal::CONT);
        }
    }
}

async fn check_sight(who: &str, mut viewer: Viewer, expected: Sight) {
    let limit = if expected == Sight::Stays { SETTLE } else { WAIT_MAX };
    let end = viewer.wait_end(limit).await;
    match (expected, end) {
        (Sight::Stays, None) => viewer.disconnect(),
        (Sight::Closed(code, words), Some(end)) => {
            assert_eq!(end.code, Some(code), "{who}: {end:?}");
            assert!(end.reason.contains(words), "{who}: {end:?}");
        }
        (Sight::Lost, Some(end)) => assert_eq!(end.code, None, "{who}: {end:?}"),
        (expected, end) => panic!("{who}: {end:?} instead of {expected:?}"),
    }
}
