//! Letting everything go and seeing each session to its end.

use crate::{
    expectations::Told,
    states::{Scene, State, take_credentials},
};
use anteroom_testbed::{PausePoint, WAIT_MAX};
use anteroom_wire::{
    SessionId,
    api::{SessionView, Status},
};
use std::{fs, time::Duration};
use tokio::time::{Instant, sleep};

impl Scene {
    /// Nothing is held any more but the tools.
    pub(crate) async fn let_go(&self) {
        self.world.resume(PausePoint::KeeperStart).unwrap();
        self.world.resume(PausePoint::DesktopStart).unwrap();
        take_credentials(&self.world).await;
    }

    /// Signs in, whatever machine the session has by now, until it ends; cancels it when it shall end so.
    pub(crate) async fn see_to_end(&self, id: &SessionId, shall: Status) -> SessionView {
        let api = self.api();
        if shall == Status::Cancelled {
            api.cancel(id).await.unwrap();
        }
        let until = Instant::now() + WAIT_MAX;
        loop {
            let view = api.session(id).await.unwrap();
            if view.status.is_terminal() {
                return view;
            }
            if let Some(machine) = self.machine(id).await {
                // It has a home from some moment on, and until it is gone.
                for name in ["url", "go"] {
                    let _ = fs::write(self.world.home(&machine).join(name), "");
                }
            }
            assert!(Instant::now() < until, "{id} does not end: {view:#?}\n{:#?}", api.timeline(id).await.unwrap());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// One end, and one credential or none.
    pub(crate) async fn ended_once(&self, view: &SessionView) -> Result<(), String> {
        let timeline = self.api().timeline(&view.id).await.unwrap();
        let ends = ["completed", "failed", "cancelled", "expired"];
        let ends: Vec<_> =
            timeline.iter().map(|entry| entry.kind.as_str()).filter(|kind| ends.contains(kind)).collect();
        let kept = self.api().credentials().await.unwrap().credentials;
        let kept = kept.iter().filter(|credential| credential.session == view.id).count();
        let wanted = usize::from(view.status == Status::Completed);
        let good = ends.len() == 1 && kept == wanted;
        if good { Ok(()) } else { Err(format!("ended {ends:?} with {kept} credential(s)")) }
    }

    /// What a viewer is told who comes to a session that is over.
    pub(crate) async fn told_at_the_door(&self, id: &SessionId) -> Told {
        let api = self.api();
        let refused = api
            .post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({ "purpose": "desktop" }))
            .await
            .unwrap();
        let problem = refused.problem().unwrap();
        Told::Refused(problem.close_code, problem.code)
    }

    /// A new viewer of a session that has a desktop gets a picture.
    pub(crate) async fn shows_again(&self, id: &SessionId) {
        let viewer = self.viewer(State::Started, id, false).await;
        viewer.vanish();
    }
}
