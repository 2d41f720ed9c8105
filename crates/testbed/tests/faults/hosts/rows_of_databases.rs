//! Faults of PostgreSQL and etcd, and of the way to them.

use super::{
    fixture::{FENCE, LabFixture, Phase, RENEW},
    rows::lasts,
    run_row, table,
};
use anteroom_testbed::{PausePoint, WAIT_MAX, eventually, lab::LabEtcd};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

/// More than the time after which a fence is possible.
const PAST_FENCE: Duration = Duration::from_secs(FENCE.as_secs() + 2);

fn etcd(fixture: &LabFixture) -> &LabEtcd {
    fixture.lab.etcd.as_ref().unwrap()
}

#[test]
fn full_cut_off_from_etcd() {
    run_row("hosts::rows_of_databases::full_cut_off_from_etcd", &table::NO_ETCD_HERE, async |fixture| {
        fixture.cut_off_from(&etcd(fixture).place, true);
        fixture.wait_health(0, "etcd cannot be written, so heartbeats go to the database").await;
        lasts(PAST_FENCE).await;
        fixture.cut_off_from(&etcd(fixture).place, false);
        fixture.wait_health(0, "acknowledged by etcd").await;
    });
}

#[test]
fn full_cut_off_from_postgres() {
    run_row("hosts::rows_of_databases::full_cut_off_from_postgres", &table::NO_POSTGRES_HERE, async |fixture| {
        fixture.cut_off_from(&fixture.lab.postgres.place, true);
        let refused = fixture.api(0).post("/api/auth/start", json!({"provider": "open"})).await.unwrap();
        assert_eq!(refused.status, 503, "{refused:?}");
        lasts(PAST_FENCE).await;
        let health = fixture.lab.hosts[0].server.anonymous_client().unwrap().get("/health").await.unwrap();
        assert!(health.status == 503 && health.text.contains("\"down\""), "{health:?}");
        fixture.cut_off_from(&fixture.lab.postgres.place, false);
        fixture.wait_health(0, "acknowledged by etcd").await;
    });
}

#[test]
fn full_leader_killed() {
    run_row("hosts::rows_of_databases::full_leader_killed", &table::LEADER_KILLED, async |fixture| {
        etcd(fixture).signal(etcd(fixture).leader(), Signal::KILL);
        lasts(PAST_FENCE).await;
        fixture.wait_health(0, "acknowledged by etcd").await;
    });
}

#[test]
fn full_leader_frozen() {
    run_row("hosts::rows_of_databases::full_leader_frozen", &table::LEADER_FROZEN, async |fixture| {
        let leader = etcd(fixture).leader();
        etcd(fixture).signal(leader, Signal::STOP);
        lasts(Duration::from_secs(12)).await;
        etcd(fixture).signal(leader, Signal::CONT);
        fixture.wait_health(0, "acknowledged by etcd").await;
    });
}

#[test]
fn etcd_unreachable() {
    run_row("hosts::rows_of_databases::etcd_unreachable", &table::ETCD_GONE, async |fixture| {
        etcd(fixture).place.set_link(false).unwrap();
        fixture.wait_health(0, "etcd cannot be written, so heartbeats go to the database").await;
        fixture.wait_health(1, "no host can be fenced").await;
        lasts(PAST_FENCE).await;
        etcd(fixture).place.set_link(true).unwrap();
        fixture.wait_health(0, "acknowledged by etcd").await;
    });
}

#[test]
fn full_operator_fences() {
    run_row("hosts::rows_of_databases::full_operator_fences", &table::OPERATOR_FENCES, async |fixture| {
        etcd(fixture).signal_all(Signal::STOP);
        fixture.wait_health(1, "no host can be fenced").await;
        fixture.lab.hosts[0].power_off().await.unwrap();
        fixture.keeper = None;
        let viewer = fixture.of(Phase::Open).viewer.as_mut().unwrap();
        assert!(viewer.wait_end(super::fixture::SAID_MAX).await.is_some(), "it was not said");
        lasts(PAST_FENCE).await;
        let fenced = fixture
            .api(1)
            .post(&format!("/api/hosts/{}/fence", fixture.ids[0]), json!({ "i_saw_it_dead": true }))
            .await
            .unwrap();
        assert!(fenced.status < 300, "{fenced:?}");
        fixture.wait_lost().await;
        etcd(fixture).signal_all(Signal::CONT);
        fixture.lab.hosts[0].place.set_link(true).unwrap();
        fixture.lab.hosts[0].server.start_server().await.unwrap();
        fixture.wait_health(0, "incarnation 2").await;
    });
}

#[test]
fn full_both_gone() {
    run_row("hosts::rows_of_databases::full_both_gone", &table::BOTH_GONE, async |fixture| {
        fixture.thaw(0);
        etcd(fixture).signal_all(Signal::STOP);
        fixture.lab.postgres.stop();
        // A host whose keeper hangs returns too late, and is fenced.
        fixture.lab.hosts[0].server.resume(PausePoint::KeeperStart).unwrap();
        let ended = async || Ok(fixture.lab.alive_on(0).is_empty().then_some(()));
        eventually("the machines end", WAIT_MAX, ended).await.unwrap();
        lasts(RENEW).await;
        fixture.lab.postgres.start_again().await;
        etcd(fixture).signal_all(Signal::CONT);
        let has_come_back = async || {
            let log = fixture.lab.hosts[0].server.read_log();
            Ok((log.contains("cluster_contact_lost") && log.contains("acts again")).then_some(()))
        };
        eventually("the host acts again", WAIT_MAX, has_come_back).await.unwrap();
    });
}

#[test]
fn full_postgres_restarted() {
    run_row("hosts::rows_of_databases::full_postgres_restarted", &table::POSTGRES_RESTARTED, async |fixture| {
        fixture.lab.postgres.stop();
        fixture.lab.postgres.start_again().await;
        lasts(PAST_FENCE).await;
    });
}
