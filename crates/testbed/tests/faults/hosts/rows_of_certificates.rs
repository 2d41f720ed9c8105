//! Certificates between hosts that count no more.

use super::{
    fixture::{LabFixture, Phase},
    rows::wait_keepers,
    run_prepared, run_row, table,
};
use anteroom_cluster::peer::IdentityFiles;
use anteroom_testbed::{WAIT_MAX, eventually, lab};
use anteroom_wire::{hosts::HostState, time::to_unix_ms};
use reqwest::Method;
use rustix::process::{Signal, kill_process};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// How long the certificate of the first host is valid, seconds: longer than its sessions need to start, shorter than until its server
/// looks whether to renew it.
const LIFETIME_S: u64 = 40;

/// When the certificate of the first host ends, milliseconds since 1970.
fn ends_at_ms(fixture: &LabFixture) -> u64 {
    IdentityFiles::in_state_dir(&fixture.lab.hosts[0].server.state_dir()).read().unwrap().ends_at_ms
}

fn now_ms() -> u64 {
    to_unix_ms(SystemTime::now())
}

/// The second host issues the certificate of the first one.
async fn issue_for_a_short_time(fixture: &mut LabFixture) {
    let lifetime_s = fixture.lab.hosts[1].server.machines_mut().limits.peers.certificate_lifetime_s;
    for lifetime_s in [LIFETIME_S, lifetime_s] {
        let second = &mut fixture.lab.hosts[1].server;
        second.stop_server().await.unwrap();
        second.machines_mut().limits.peers.certificate_lifetime_s = lifetime_s;
        second.start_server().await.unwrap();
        if lifetime_s == LIFETIME_S {
            let second = fixture.api(1);
            lab::join(&second, &mut fixture.lab.hosts[0]).await.unwrap();
        }
    }
    fixture.lab.wait_states(1, HostState::Answers, 3).await.unwrap();
    let left_ms = ends_at_ms(fixture).saturating_sub(now_ms());
    assert!(left_ms <= LIFETIME_S * 1_000, "{left_ms}");
}

#[test]
fn full_certificate_expired() {
    let name = "hosts::rows_of_certificates::full_certificate_expired";
    run_prepared(name, &table::CERTIFICATE_EXPIRED, issue_for_a_short_time, async |fixture| {
        let ends_at_ms = ends_at_ms(fixture);
        sleep(Duration::from_millis(ends_at_ms.saturating_sub(now_ms()))).await;
        fixture.lab.wait_states(1, HostState::Silent, 1).await.unwrap();
        let id = fixture.of(Phase::Open).id.clone();
        for other in [1, 2] {
            let refused = fixture.api(other).get(&format!("/api/auth/session/{id}")).await.unwrap();
            assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "host_unreachable"));
        }
        for phase in [Phase::Open, Phase::Delivering] {
            let viewer = fixture.of(phase).viewer.as_mut().unwrap();
            assert!(viewer.wait_end(WAIT_MAX).await.is_some(), "{phase}: an open connection ends with the certificate");
        }
        let looks = fixture.lab.hosts[0].server.server_pid().unwrap();
        kill_process(looks, Signal::HUP).unwrap();
        fixture.lab.wait_states(1, HostState::Answers, 3).await.unwrap();
    });
}

#[test]
fn full_host_removed() {
    run_row("hosts::rows_of_certificates::full_host_removed", &table::REMOVED, async |fixture| {
        fixture.thaw(0);
        let since = Instant::now();
        fixture.lab.hosts[0].place.set_link(false).unwrap();
        wait_keepers(fixture, since).await;
        fixture.wait_lost().await;
        let path = format!("/api/hosts/{}", fixture.ids[0]);
        let removed =
            async || Ok((fixture.api(1).call(Method::DELETE, &path, None).await?.status == 204).then_some(()));
        eventually("the host is removed, once it holds no session", WAIT_MAX, removed).await.unwrap();
        fixture.lab.hosts[0].place.set_link(true).unwrap();
        fixture.wait_health(0, "removed from the cluster").await;
        assert!(ends_at_ms(fixture) > now_ms() + 3_600_000, "its certificate is valid");
        // It asks the host that has the session now, which does not answer it.
        let id = fixture.of(Phase::Open).id.clone();
        let held = async || Ok(fixture.api(1).get_session(&id).await?.sign_in.url.is_some().then_some(()));
        eventually("another machine", WAIT_MAX, held).await.unwrap();
        let refused = fixture.api(0).get(&format!("/api/auth/session/{id}")).await.unwrap();
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "host_unreachable"));
        let was_refused = fixture.lab.hosts[1..].iter().any(|host| host.server.read_log().contains("peer_refused"));
        assert!(was_refused, "{:?}", fixture.ids[0]);
    });
}
