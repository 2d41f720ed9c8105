//! The egress of a machine.

use crate::{Flags, start_session_with};
use anteroom_testbed::{ScriptedProvider, Step, TestConfig, WAIT_MAX, eventually};
use anteroom_wire::{
    TimelineKind,
    api::{ScreenView, SessionStatus},
};
use axum::{Router, routing::get};
use tokio::net::TcpListener;

#[tokio::test]
async fn allowed_and_denied_egress_is_on_the_timeline() {
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = outside.local_addr().unwrap();
    let serving =
        tokio::spawn(async move { axum::serve(outside, Router::new().route("/hello", get(|| async { "hi" }))).await });
    let flags = Flags::new();
    let provider = flags.provider_with_steps([
        Step::ProxyConnect { authority: "evil.example:443".into() },
        Step::ProxyConnect { authority: "evil.example:443".into() },
        Step::ProxyConnect { authority: format!("{address}") },
        Step::ProxyConnect { authority: "closed.example:80".into() },
        Step::ProxyConnect { authority: "allowed.example:80".into() },
        Step::HttpGet { url: "http://allowed.example/hello".into() },
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
        flags.wait_step("never"),
    ]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = provider.with_egress("allowed.example", 80).with_egress("closed.example", 80);
    let config = TestConfig::with_provider(provider)
        .with_host_override("allowed.example:80", address)
        .with_host_override("closed.example:80", closed);
    let (server, api, id) = start_session_with(config).await;
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let timeline = api.get_timeline(&id).await.unwrap();
    let about = |name: &str| {
        timeline
            .iter()
            .filter(|entry| entry.kind.as_str().starts_with("egress") && entry.data.to_string().contains(name))
            .count()
    };
    assert!(about("evil.example") >= 1, "{timeline:#?}");
    assert!(about("allowed.example") >= 1, "{timeline:#?}");
    let rejected: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressDenied).collect();
    assert_eq!(rejected.len(), 3, "one entry for each host: {rejected:#?}");
    for entry in rejected {
        let was_denied = entry.data["host"] != "closed.example";
        assert_eq!(entry.sentence.contains(" and was denied: "), was_denied, "{entry:?}");
        assert_eq!(entry.sentence.contains(" and did not reach it: "), !was_denied, "{entry:?}");
    }
    serving.abort();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn restarts_of_the_server_refuse_no_granted_host() {
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = Flags::new();
    let provider = flags.provider_with_steps([
        Step::ProxyConnectUntil { authority: "allowed.example:80".into(), path: flags.path("enough") },
        flags.wait_step("never"),
    ]);
    let config = TestConfig::with_provider(provider.with_egress("allowed.example", 80))
        .with_host_override("allowed.example:80", outside.local_addr().unwrap());
    let (mut server, api, id) = start_session_with(config).await;
    api.wait_entry(&id, TimelineKind::EgressAllowed).await.unwrap();
    for (adopted, is_killed) in [true, false, true, false].into_iter().enumerate() {
        if is_killed {
            server.kill_server().await.unwrap()
        } else {
            server.stop_server().await.unwrap()
        }
        server.start_server().await.unwrap();
        let api = server.backend_client().unwrap();
        eventually("the machine is adopted", WAIT_MAX, async || {
            let timeline = api.get_timeline(&id).await?;
            let entries = timeline.iter().filter(|entry| entry.kind == TimelineKind::MachineAdopted);
            Ok((entries.count() == adopted + 1).then_some(()))
        })
        .await
        .unwrap();
    }
    flags.set("enough");
    let operator = server.operator_client().unwrap();
    let line = eventually("the tool reports its connections", WAIT_MAX, async || {
        let screen = operator.get(&format!("/api/auth/session/{id}/screen")).await?;
        let lines = screen.parse::<ScreenView>().map(|screen| screen.lines).unwrap_or_default();
        Ok(lines.into_iter().find(|line| line.starts_with("CONNECTED ")))
    })
    .await
    .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert!(
        matches!(words[..], ["CONNECTED", "allowed.example:80:", opened, "of", requested] if opened == requested),
        "{line}"
    );
    let timeline = server.backend_client().unwrap().get_timeline(&id).await.unwrap();
    assert!(timeline.iter().all(|entry| entry.kind != TimelineKind::EgressDenied), "{timeline:#?}");
    server.stop_and_check_leaks().await.unwrap();
}
