//! Faults of a host and of its network.

use super::{
    fixture::{FENCE, LabFixture, Phase, RENEW},
    run_prepared, run_row,
    small_disk::SmallDisk,
    table,
};
use anteroom_testbed::{PausePoint, WAIT_MAX, eventually, lab::Network};
use anteroom_wire::hosts::HostState;
use rustix::process::{Signal, kill_process};
use std::{net::Ipv4Addr, time::Duration};
use tokio::time::{Instant, sleep};

/// How much later than its deadline a machine may end.
const LATE_MAX: Duration = Duration::from_secs(1);
/// An hour and a little, milliseconds.
const HOUR_MS: i64 = 3_600_500;

/// The time for which a fault lasts.
pub(super) async fn lasts(fault: Duration) {
    sleep(fault).await;
}

/// Waits until the host acts again, with the incarnation after its fence.
async fn wait_joined_again(fixture: &LabFixture) {
    fixture.wait_health(0, "incarnation 2").await;
    let log = fixture.lab.hosts[0].server.read_log();
    assert!(log.contains("cluster_contact_lost"), "{log}");
}

/// Waits until no machine of the first host has a process, which must be so soon after its deadline.
pub(super) async fn wait_keepers(fixture: &LabFixture, since: Instant) {
    let ended = async || Ok(fixture.lab.alive_on(0).is_empty().then(|| since.elapsed()));
    let after = eventually("the machines of the host end", WAIT_MAX, ended).await.unwrap();
    assert!(after <= RENEW + LATE_MAX, "they ended after {after:?}");
}

#[test]
fn full_server_killed() {
    run_row("hosts::rows::full_server_killed", &table::SERVER_KILLED, async |fixture| {
        fixture.lab.hosts[0].server.kill_server().await.unwrap();
        fixture.lab.hosts[0].server.start_server().await.unwrap();
    });
}

#[test]
fn full_keepers_killed() {
    run_row("hosts::rows::full_keepers_killed", &table::KEEPERS_KILLED, async |fixture| {
        fixture.lab.hosts[0].signal_all(Signal::KILL);
        fixture.keeper = None;
        fixture.lab.hosts[0].server.kill_server().await.unwrap();
        fixture.lab.hosts[0].server.start_server().await.unwrap();
    });
}

#[test]
fn full_server_paused() {
    run_row("hosts::rows::full_server_paused", &table::SERVER_PAUSED, async |fixture| {
        let pid = fixture.lab.hosts[0].server.server_pid().unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        lasts(Duration::from_secs(2)).await;
        kill_process(pid, Signal::CONT).unwrap();
    });
}

#[test]
fn full_server_stopped() {
    run_row("hosts::rows::full_server_stopped", &table::SERVER_STOPPED, async |fixture| {
        let pid = fixture.lab.hosts[0].server.server_pid().unwrap();
        // A keeper that is frozen cannot end its machine.
        fixture.thaw(0);
        let since = Instant::now();
        kill_process(pid, Signal::STOP).unwrap();
        wait_keepers(fixture, since).await;
        fixture.wait_lost().await;
        // A keeper that starts only now starts no machine.
        fixture.lab.hosts[0].server.resume(PausePoint::KeeperStart).unwrap();
        lasts(LATE_MAX).await;
        kill_process(pid, Signal::CONT).unwrap();
        wait_joined_again(fixture).await;
    });
}

#[test]
fn full_host_frozen() {
    run_row("hosts::rows::full_host_frozen", &table::HOST_FROZEN, async |fixture| {
        let before = fixture.lab.alive_on(0);
        fixture.lab.hosts[0].signal_all(Signal::STOP);
        fixture.wait_lost().await;
        // Other hosts have begun with its sessions when it continues.
        let id = fixture.of(Phase::Open).id.clone();
        let machines = async || Ok((fixture.lab.census.alive().len() > before.len()).then_some(()));
        eventually("machines elsewhere", WAIT_MAX, machines).await.unwrap();
        let thawed = Instant::now();
        fixture.thaw(0);
        let ended = async || Ok(fixture.lab.census.alive().is_disjoint(&before).then(|| thawed.elapsed()));
        let after = eventually("its machines end", WAIT_MAX, ended).await.unwrap();
        assert!(after <= LATE_MAX, "{id}: they ended {after:?} after it continued");
        wait_joined_again(fixture).await;
    });
}

#[test]
fn link_cut() {
    run_row("hosts::rows::link_cut", &table::LINK_CUT, async |fixture| {
        fixture.thaw(0);
        let since = Instant::now();
        fixture.lab.hosts[0].place.set_link(false).unwrap();
        wait_keepers(fixture, since).await;
        fixture.wait_lost().await;
        fixture.lab.hosts[0].place.set_link(true).unwrap();
        wait_joined_again(fixture).await;
    });
}

/// The addresses of everybody but the first host.
fn others(fixture: &LabFixture) -> Vec<Ipv4Addr> {
    let hosts = fixture.lab.hosts[1..].iter().map(|host| host.place.address());
    let etcd = fixture.lab.etcd.as_ref().map(|etcd| etcd.place.address());
    hosts.chain(etcd).chain([fixture.lab.postgres.place.address(), Network::TEST]).collect()
}

#[test]
fn full_sends_nothing() {
    run_row("hosts::rows::full_sends_nothing", &table::SENDS_NOTHING, async |fixture| {
        for other in others(fixture) {
            fixture.lab.hosts[0].place.lose_to(other, true).unwrap();
        }
        fixture.wait_lost().await;
        for other in others(fixture) {
            fixture.lab.hosts[0].place.lose_to(other, false).unwrap();
        }
        wait_joined_again(fixture).await;
    });
}

#[test]
fn full_gets_nothing() {
    run_row("hosts::rows::full_gets_nothing", &table::GETS_NOTHING, async |fixture| {
        let lose = |fixture: &LabFixture, loses: bool| {
            let (lab, first) = (&fixture.lab, fixture.lab.hosts[0].place.address());
            let places = lab.hosts[1..].iter().map(|host| &host.place).chain(lab.etcd.as_ref().map(|etcd| &etcd.place));
            places.chain([&lab.postgres.place]).for_each(|place| place.lose_to(first, loses).unwrap());
        };
        lose(fixture, true);
        fixture.wait_lost().await;
        lose(fixture, false);
        wait_joined_again(fixture).await;
    });
}

#[test]
fn cut_off_from_one_peer() {
    run_row("hosts::rows::cut_off_from_one_peer", &table::NO_PEER, async |fixture| {
        let since = Instant::now();
        fixture.cut_off_from(&fixture.lab.hosts[1].place, true);
        fixture.lab.wait_states(1, HostState::Silent, 1).await.unwrap();
        let open = fixture.of(Phase::Open);
        let end = open.viewer.as_mut().unwrap().wait_end(WAIT_MAX).await.unwrap();
        assert!(since.elapsed() < super::fixture::SAID_MAX, "{end:?}");
        let id = open.id.clone();
        let refused = fixture.api(1).get(&format!("/api/auth/session/{id}")).await.unwrap();
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "host_unreachable"));
        assert_eq!(fixture.api(2).get_session(&id).await.unwrap().id, id);
        lasts(FENCE + LATE_MAX).await;
        fixture.cut_off_from(&fixture.lab.hosts[1].place, false);
        fixture.lab.wait_states(1, HostState::Answers, 3).await.unwrap();
    });
}

async fn clock(fixture: &LabFixture, offset_ms: i64, words: &str) {
    fixture.lab.hosts[0].server.set_clock_offset(offset_ms).await.unwrap();
    fixture.wait_health(0, words).await;
    lasts(FENCE + LATE_MAX).await;
}

#[test]
fn full_clock_ahead() {
    run_row("hosts::rows::full_clock_ahead", &table::CLOCK_AHEAD, async |fixture| {
        clock(fixture, HOUR_MS, "its clock differs by 36").await;
    });
}

#[test]
fn full_clock_behind() {
    run_row("hosts::rows::full_clock_behind", &table::CLOCK_BEHIND, async |fixture| {
        clock(fixture, -HOUR_MS, "its clock differs by -3").await;
    });
}

#[test]
fn full_disk_full() {
    let prepare = async |fixture: &mut LabFixture| {
        let server = &mut fixture.lab.hosts[0].server;
        server.stop_server().await.unwrap();
        let disk = SmallDisk::mount_at(&server.state_dir());
        server.start_server().await.unwrap();
        fixture.mounts.push(disk);
        fixture.lab.wait_states(1, HostState::Answers, 3).await.unwrap();
    };
    run_prepared("hosts::rows::full_disk_full", &table::DISK_FULL, prepare, async |fixture| {
        fixture.mounts[0].fill();
        lasts(FENCE + LATE_MAX).await;
        assert!(!fixture.health(0).await.contains("incarnation 2"), "it was not fenced");
        fixture.mounts[0].empty();
    });
}

#[test]
fn full_two_of_three_silent() {
    run_row("hosts::rows::full_two_of_three_silent", &table::TWO_OF_THREE, async |fixture| {
        fixture.thaw(0);
        let since = Instant::now();
        for host in [0, 2] {
            fixture.lab.hosts[host].place.set_link(false).unwrap();
        }
        wait_keepers(fixture, since).await;
        fixture.wait_health(1, "2 of 3 hosts are silent, so none is fenced").await;
        lasts(FENCE).await;
        fixture.wait_health(1, "2 of 3 hosts are silent, so none is fenced").await;
        // One silent host is fenced.
        fixture.lab.hosts[2].place.set_link(true).unwrap();
        fixture.wait_lost().await;
        fixture.lab.hosts[0].place.set_link(true).unwrap();
        wait_joined_again(fixture).await;
    });
}
