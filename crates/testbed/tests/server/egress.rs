//! The egress of a machine.

use crate::Flags;
use anteroom_testbed::{ScriptedTool, Step, TestConfig, TestServer};
use anteroom_wire::{TimelineKind, api::SessionStatus};
use axum::{Router, routing::get};
use tokio::net::TcpListener;

#[tokio::test]
async fn allowed_and_rejected_egress_is_on_the_timeline() {
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = outside.local_addr().unwrap();
    let serving =
        tokio::spawn(async move { axum::serve(outside, Router::new().route("/hello", get(|| async { "hi" }))).await });
    let flags = Flags::new();
    let tool = flags.tool_with_steps([
        Step::Connect { authority: "evil.example:443".into() },
        Step::Connect { authority: "evil.example:443".into() },
        Step::Connect { authority: format!("{address}") },
        Step::Connect { authority: "granted.example:80".into() },
        Step::Get { url: "http://granted.example/hello".into() },
        Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}"),
        flags.wait_step("never"),
    ]);
    let plan = TestConfig::with_tool(tool.reaching("granted.example", 80)).host_override("granted.example:80", address);
    let server = TestServer::start(plan).await.unwrap();
    let api = server.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let timeline = api.timeline(&id).await.unwrap();
    let about = |name: &str| {
        timeline
            .iter()
            .filter(|entry| entry.kind.as_str().starts_with("egress") && entry.data.to_string().contains(name))
            .count()
    };
    assert!(about("evil.example") >= 1, "{timeline:#?}");
    assert!(about("granted.example") >= 1, "{timeline:#?}");
    let rejected: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressDenied).collect();
    assert_eq!(rejected.len(), 2, "one entry for each host: {rejected:#?}");
    serving.abort();
    server.finish().await.unwrap();
}
