//! A host loses its power while its desktop is viewed through another one: what is said, when another desktop is there, what the timeline has.

use super::{
    fixture::{FENCE, SAID_MAX, TIMES, connect_viewer, provider},
    in_lab,
};
use anteroom_testbed::{
    DurationStats, MachineBackend, QEMU_WAIT_TIMEOUT, TestConfig, WAIT_MAX,
    lab::{Lab, LabOptions},
    test_server::qemu::shell_provider,
};
use anteroom_wire::{SessionId, TimelineKind, hosts::HostState};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How much later than its fence another desktop may be there.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// The fence of the default times.
const DEFAULT_FENCE: Duration = Duration::from_secs(15);

/// When things were seen, counted from the loss of power.
#[derive(Debug)]
struct Seen {
    said: Duration,
    desktop: Duration,
    session: SessionId,
}

/// Starts a session on the first host, views it through the second one, and takes the first one's power away. It is back afterwards.
async fn power_off_once<M: MachineBackend>(lab: &mut Lab<M>, provider: &str, limit: Duration) -> Seen {
    let api = lab.operator(1).unwrap();
    let id = lab.operator(0).unwrap().start_session(provider).await.unwrap().session.id;
    let mut viewer = timeout(limit, connect_viewer(&api, &id)).await.unwrap();
    assert_eq!(lab.hosts[0].server.list_machines().len(), 1, "its machine is at the first host");
    let off = Instant::now();
    lab.hosts[0].power_off().await.unwrap();
    let end = viewer.wait_end(limit).await.unwrap();
    assert_eq!(end.code, Some(4_511), "{end:?}");
    for words in ["host_unreachable: host h1 silent since ", "another begins at ", " unless it comes back"] {
        assert!(end.reason.contains(words), "{end:?}");
    }
    let desktop = async {
        loop {
            // As the page does: another ticket for another socket, until there is a picture.
            if let Ok(mut viewer) = api.connect_desktop(&id).await
                && viewer.request_full_frame().await.is_ok()
            {
                return off.elapsed();
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let desktop = timeout(limit, desktop).await.unwrap();
    let timeline = api.get_timeline(&id).await.unwrap();
    let lost = timeline.iter().find(|entry| entry.kind == TimelineKind::HostLost).unwrap();
    assert!(lost.sentence.contains("The host h1 lost the session"), "{lost:?}");
    let requested = timeline.iter().filter(|entry| entry.kind == TimelineKind::MachineRequested);
    assert_eq!(requested.count(), 2, "both machines are on it: {timeline:#?}");
    lab.hosts[0].place.set_link(true).unwrap();
    lab.hosts[0].server.start_server().await.unwrap();
    api.cancel_session(&id).await.unwrap();
    lab.wait_states(1, HostState::Answers, 3).await.unwrap();
    Seen { said: end.at - off, desktop, session: id }
}

#[test]
fn host_without_power_is_named_and_another_begins() {
    in_lab("hosts::power_off::host_without_power_is_named_and_another_begins", async || {
        let flags = tempfile::tempdir().unwrap();
        let config = TestConfig::with_provider(provider("open", flags.path()));
        let options = LabOptions { hosts: 3, has_etcd: false, times: TIMES };
        let mut lab = Lab::start(&options, &config).await.unwrap();
        let seen = power_off_once(&mut lab, "open", WAIT_MAX).await;
        assert!(seen.said <= SAID_MAX && seen.desktop <= FENCE + BEGIN_MAX, "{seen:?}");
        lab.finish(&[seen.session]).await.unwrap();
    });
}

/// 20 times with `ANTEROOM_TEST_FULL=1`, else 3 times.
#[test]
fn qemu_full_desktops_of_a_host_without_power_are_replaced_at_default_times() {
    let name = "hosts::power_off::qemu_full_desktops_of_a_host_without_power_are_replaced_at_default_times";
    in_lab(name, async || {
        let times = if std::env::var_os("ANTEROOM_TEST_FULL").is_some_and(|value| value == "1") { 20 } else { 3 };
        let config = TestConfig::qemu("[machines]\nmachines_max = 2\n");
        let config = config.with_settings(&shell_provider());
        let mut lab = Lab::start(&LabOptions { hosts: 3, has_etcd: true, times: "" }, &config).await.unwrap();
        let (mut said, mut desktops, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..times {
            let seen = power_off_once(&mut lab, "shell", QEMU_WAIT_TIMEOUT).await;
            said.push(seen.said);
            desktops.push(seen.desktop);
            sessions.push(seen.session);
        }
        eprintln!("said: {}", DurationStats::from(&said[..]));
        eprintln!("another desktop: {}", DurationStats::from(&desktops[..]));
        assert!(said.iter().all(|after| *after <= SAID_MAX), "{said:?}");
        assert!(desktops.iter().all(|after| *after <= DEFAULT_FENCE + BEGIN_MAX), "{desktops:?}");
        lab.finish(&sessions).await.unwrap();
    });
}
