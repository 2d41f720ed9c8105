//! The servers of three hosts are restarted in turn under their viewers.

use super::{
    fixture::{TIMES, connect_viewer, provider},
    in_lab,
};
use crate::viewer::Viewer;
use anteroom_testbed::{
    ApiClient, DurationStats, TestConfig, WAIT_MAX,
    lab::{Lab, LabOptions},
    measure_recovery::current_machine,
};
use anteroom_wire::SessionId;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How soon a viewer has a picture again on an idle host.
const BACK_MAX: Duration = Duration::from_secs(3);

/// Connects until there is a picture, as the page does.
async fn connect_again(api: &ApiClient, id: &SessionId) -> Viewer {
    let since = Instant::now();
    loop {
        if let Ok(mut next) = api.connect_desktop(id).await
            && next.request_full_frame().await.is_ok()
        {
            return Viewer::reading(next.into_inner());
        }
        assert!(since.elapsed() < WAIT_MAX, "{id} has no picture");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Views the session through this host, and connects again whenever its socket ends. Returns the times without a picture.
async fn view(api: ApiClient, id: SessionId, mut viewer: Viewer, stop: CancellationToken) -> Vec<Duration> {
    let mut gaps = Vec::new();
    while let Some(Some(_)) = stop.run_until_cancelled(viewer.wait_end(WAIT_MAX * 10)).await {
        let since = Instant::now();
        viewer = connect_again(&api, &id).await;
        gaps.push(since.elapsed());
    }
    gaps
}

/// Restarts the servers in turn with so many sessions, each viewed through the host after its own.
async fn restart_in_turn(sessions: usize) -> Vec<Duration> {
    let flags = tempfile::tempdir().unwrap();
    let machines_max = sessions.div_ceil(3) + 2;
    let config = TestConfig::with_provider(provider("open", flags.path()));
    let config = config.with_settings(&format!("[machines]\nmachines_max = {machines_max}\n"));
    let mut lab = Lab::start(&LabOptions { hosts: 3, has_etcd: false, times: TIMES }, &config).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..sessions {
        ids.push(lab.operator(number % 3).unwrap().start_session("open").await.unwrap().session.id);
    }
    let (mut machines, stop) = (BTreeSet::new(), CancellationToken::new());
    let mut viewers = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let api = lab.operator((number + 1) % 3).unwrap();
        api.wait_until(id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
        machines.insert(current_machine(&api, id).await.unwrap());
        let viewer = connect_viewer(&api, id).await;
        viewers.push(tokio::spawn(view(api, id.clone(), viewer, stop.clone())));
    }
    for host in 0..3 {
        lab.hosts[host].server.stop_server().await.unwrap();
        lab.hosts[host].server.start_server().await.unwrap();
        for other in 0..3 {
            lab.wait_states(other, anteroom_wire::hosts::HostState::Answers, 3).await.unwrap();
        }
    }
    // Each viewer has a picture when it stops.
    sleep(BACK_MAX).await;
    stop.cancel();
    let mut gaps = Vec::new();
    for viewer in viewers {
        let of_viewer = viewer.await.unwrap();
        assert!(!of_viewer.is_empty(), "a restart ends a viewer's socket");
        gaps.extend(of_viewer);
    }
    eprintln!("{} times without a picture: {}", gaps.len(), DurationStats::from(&gaps[..]));
    let mut after = BTreeSet::new();
    for id in &ids {
        after.insert(current_machine(&lab.operator(0).unwrap(), id).await.unwrap());
    }
    assert_eq!(after, machines, "no machine was replaced");
    lab.finish(&ids).await.unwrap();
    gaps
}

#[test]
fn servers_are_restarted_in_turn_under_six_viewers() {
    in_lab("hosts::restarts::servers_are_restarted_in_turn_under_six_viewers", async || drop(restart_in_turn(6).await));
}

#[test]
fn full_servers_are_restarted_in_turn_under_thirty_viewers() {
    let name = "hosts::restarts::full_servers_are_restarted_in_turn_under_thirty_viewers";
    in_lab(name, async || {
        let gaps = restart_in_turn(30).await;
        assert!(gaps.iter().all(|gap| *gap <= BACK_MAX), "{gaps:?}");
    });
}
