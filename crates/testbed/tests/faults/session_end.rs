//! Releases everything that holds the sessions, and finishes each of them.

use crate::{
    expectations::ViewerOutcome,
    states::{FaultFixture, State, accept_credentials},
};
use anteroom_testbed::{PausePoint, WAIT_MAX};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, SessionView},
};
use std::{fs, time::Duration};
use tokio::time::{Instant, sleep};

impl FaultFixture {
    /// Releases keepers, desktops and deliveries; the tools still wait for their flags.
    pub(crate) async fn release_all(&self) {
        self.server.resume(PausePoint::KeeperStart).unwrap();
        self.server.resume(PausePoint::DesktopStart).unwrap();
        accept_credentials(&self.server).await;
    }

    /// Signs in on the current machine until the session ends, or cancels it if that is expected.
    pub(crate) async fn finish_session(&self, id: &SessionId, expected: SessionStatus) -> SessionView {
        let api = self.api();
        if expected == SessionStatus::Cancelled {
            api.cancel_session(id).await.unwrap();
        }
        let until = Instant::now() + WAIT_MAX;
        loop {
            let view = api.get_session(id).await.unwrap();
            if view.status.is_ended() {
                return view;
            }
            if let Some(machine) = self.machine(id).await {
                // The home directory exists only while the machine exists.
                for name in ["url", "go"] {
                    let _ = fs::write(self.server.tool_home(&machine).join(name), "");
                }
            }
            assert!(Instant::now() < until, "{id} does not end: {view:#?}\n{:#?}", api.get_timeline(id).await.unwrap());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Checks that the session has one final entry, and one credential if it completed.
    pub(crate) async fn check_ended_once(&self, view: &SessionView) -> Result<(), String> {
        let timeline = self.api().get_timeline(&view.id).await.unwrap();
        let ends: Vec<_> = timeline.iter().map(|entry| entry.kind).filter(|kind| kind.is_session_end()).collect();
        let kept = self.api().list_credentials().await.unwrap().credentials;
        let kept = kept.iter().filter(|credential| credential.session == view.id).count();
        let expected_credentials = usize::from(view.status == SessionStatus::Completed);
        let valid = ends.len() == 1 && kept == expected_credentials;
        if valid { Ok(()) } else { Err(format!("ended {ends:?} with {kept} credential(s)")) }
    }

    /// The error for a new viewer of an ended session.
    pub(crate) async fn new_viewer_outcome(&self, id: &SessionId) -> ViewerOutcome {
        let api = self.api();
        let response = api
            .post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({ "purpose": "desktop" }))
            .await
            .unwrap();
        let problem = response.problem().unwrap();
        ViewerOutcome::Rejected(problem.close_code, problem.code)
    }

    /// Checks that a new viewer gets a picture.
    pub(crate) async fn check_viewer_reconnects(&self, id: &SessionId) {
        let viewer = self.connect_viewer(State::Started, id, false).await;
        viewer.disconnect();
    }
}
