//! One credential and two hosts: its uses take turns over both, and a host that dies gives its turn back when it is fenced.

use crate::{
    Flags,
    cluster::start_with,
    command_line::{sign_in, start_use},
    postgres::own_server::OwnServer,
    r16_turns::{Issuer, exec, tool, wait_behind},
};
use anteroom_testbed::{ApiClient, TestConfig};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use serde_json::json;

const CLUSTER: &str = "liveness = 'database'\nheartbeat_interval_ms = 200\nrenew_deadline_s = 3\nfence_after_s = 5\n";
/// Of both hosts; no more may wait.
const EXECS: usize = 14;
const LEASES: usize = 86;

async fn entry_at_ms(api: &ApiClient, session: &SessionId, kind: TimelineKind) -> String {
    api.wait_entry(session, kind).await.unwrap().at
}

#[tokio::test]
async fn credential_is_used_by_one_of_two_hosts_at_a_time_and_is_free_after_a_fence_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let issuer = Issuer::new(&flags);
    let (one, two) = (tool(&flags, false), tool(&flags, false));
    let mut first = start_with(&postgres, TestConfig::with_provider(one), keys.path(), "first", CLUSTER).await;
    let second = start_with(&postgres, TestConfig::with_provider(two), keys.path(), "second", CLUSTER).await;
    let id = sign_in(&flags, &first).await;
    let apis = [first.backend_client().unwrap(), second.client_with_token(&first.backend_tokens()[0]).unwrap()];

    // A hundred uses at once: the issuer refuses a token that is used twice, and no two commands run at once.
    flags.set("end_x");
    let (alone, twice) = (flags.path("alone"), flags.path("twice"));
    let mut argv = issuer.exchange("x");
    argv[2] = format!(
        "mkdir {alone} || touch {twice}\n{script}\nrmdir {alone}",
        alone = alone.display(),
        twice = twice.display(),
        script = argv[2]
    );
    let leases: Vec<_> = (0..LEASES)
        .map(|number| {
            let (api, path) = (apis[number % 2].clone(), format!("/api/credentials/{id}/lease"));
            tokio::spawn(async move { api.post(&path, json!({})).await.unwrap() })
        })
        .collect();
    let mut execs = Vec::new();
    for number in 0..EXECS {
        execs.push(exec(&apis[number % 2], &id, argv.clone()).await.id);
    }
    for (number, session) in execs.iter().enumerate() {
        let view = apis[number % 2].wait_status(session, SessionStatus::Completed).await.unwrap();
        assert_eq!(view.credential_use.unwrap().exit_code, Some(0));
    }
    for lease in leases {
        let answer = lease.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    issuer.assert_nothing_refused();
    assert!(!twice.exists(), "two commands ran at once");

    // The first host dies with the turn.
    let using = exec(&apis[0], &id, issuer.exchange("first")).await;
    apis[0].wait_entry(&using.id, TimelineKind::CliStarted).await.unwrap();
    let check = start_use(&apis[1], &id, json!({ "purpose": "check" })).await;
    wait_behind(&apis[1], &check.id, &using.id).await;
    first.kill_server().await.unwrap();
    apis[1].wait_status(&check.id, SessionStatus::Completed).await.unwrap();
    let (lost, turn) = (
        entry_at_ms(&apis[1], &using.id, TimelineKind::HostLost).await,
        entry_at_ms(&apis[1], &check.id, TimelineKind::CredentialUseTurn).await,
    );
    assert!(lost <= turn, "{lost} {turn}");
    second.stop_and_check_leaks().await.unwrap();
    first.start_server().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}
