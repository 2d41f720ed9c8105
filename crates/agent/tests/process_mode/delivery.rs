//! The delivery of a credential, from the file to the controller's response.

use crate::fixture::*;
use anteroom_wire::{
    Problem,
    agent::{AgentEvent, CaptureEvent, CaptureState, ToolEvent},
};
use std::fs;

const CREDENTIAL: &str = "{ \"tokens\": { \"access\": \"s3cret\" },\n  \"unknown\": [1] }";

async fn claim_idle_tool(fixture: &AgentFixture, sender: &mut Sender) {
    fixture.claim(sender, provider(IDLE)).await;
}

async fn wait_delivered(fixture: &AgentFixture, sender: &mut Sender) {
    eventually("delivered", async || (fixture.sign_in(sender).await.capture == CaptureState::Delivered).then_some(()))
        .await;
}

fn delivered_contents(fixture: &AgentFixture) -> Vec<String> {
    let controller = fixture.controller.lock().unwrap();
    let content = controller.deliveries.iter().map(|delivery| delivery.files[0].content.expose().to_vec());
    content.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

async fn wait_rejection(fixture: &AgentFixture, why: &str) {
    fixture
        .wait_event(why, |event| {
            matches!(event, AgentEvent::Capture(CaptureEvent::CandidateRejected { why: reported, .. }) if reported == why)
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn renamed_credential_file_is_delivered_unchanged() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    claim_idle_tool(&fixture, &mut sender).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/new"), CREDENTIAL).unwrap();
    fs::rename(fixture.home(".demo/new"), fixture.home(".demo/auth.json")).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [CREDENTIAL]);
    let delivery = fixture.controller.lock().unwrap().deliveries[0].clone();
    assert_eq!(delivery.files[0].path, ".demo/auth.json");
    assert_eq!((delivery.generation, delivery.provider.as_str()), (1, "demo"));
    fixture
        .wait_event("accepted", |event| {
            matches!(event, AgentEvent::Capture(CaptureEvent::CandidateAccepted { bytes: 54, .. })).then_some(())
        })
        .await;
    let events = format!("{:?}", fixture.controller.lock().unwrap().events);
    let log = fs::read_to_string(fixture.path("agent.log")).unwrap();
    assert!(!events.contains("s3cret") && !log.contains("s3cret") && !log.contains(TOKEN));
}

#[tokio::test]
async fn events_that_led_to_a_delivery_are_sent_before_it() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    claim_idle_tool(&fixture, &mut sender).await;
    fixture.wait_event("started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(())).await;
    fixture.controller.lock().unwrap().events_to_reject = 2;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    let controller = fixture.controller.lock().unwrap();
    let accepted = controller
        .events
        .iter()
        .position(|event| matches!(event.event, AgentEvent::Capture(CaptureEvent::CandidateAccepted { .. })));
    assert!(accepted.expect("a CandidateAccepted event") < controller.events_before_delivery[0]);
}

#[tokio::test]
async fn delivery_does_not_wait_for_rejected_events() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    claim_idle_tool(&fixture, &mut sender).await;
    fixture.controller.lock().unwrap().events_to_reject = u32::MAX;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [CREDENTIAL]);
}

#[tokio::test]
async fn partial_file_is_delivered_only_when_complete() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    claim_idle_tool(&fixture, &mut sender).await;
    fs::write(fixture.home(".demo/auth.json"), &CREDENTIAL[..30]).unwrap();
    wait_rejection(&fixture, "not complete JSON").await;
    fs::write(fixture.home(".demo/auth.json"), "{\"tokens\":{}}").unwrap();
    wait_rejection(&fixture, "missing or empty: /tokens/access").await;
    assert!(matches!(fixture.sign_in(&mut sender).await.capture, CaptureState::CandidateRejected { .. }));
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [CREDENTIAL]);
}

#[tokio::test]
async fn credential_from_before_the_sign_in_is_ignored() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    claim_idle_tool(&fixture, &mut sender).await;
    wait_rejection(&fixture, "the same as before the sign-in").await;
    // Rewriting the same content changes nothing; the other path is watched as well.
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    fs::create_dir(fixture.home(".config")).unwrap();
    let new = CREDENTIAL.replace("s3cret", "n3w");
    fs::write(fixture.home(".config/demo.json"), &new).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [new]);
}

#[tokio::test]
async fn delivery_is_retried_until_it_is_accepted() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.controller.lock().unwrap().delivery_responses.extend([
        (503, String::new()),
        (500, "?".into()),
        (200, "not json".into()),
    ]);
    claim_idle_tool(&fixture, &mut sender).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    eventually("delivery retried", async || (delivered_contents(&fixture).len() >= 2).then_some(())).await;
    fixture.disconnect_controller();
    // The tool may delete the file: the agent still holds the bytes.
    fs::remove_file(fixture.home(".demo/auth.json")).unwrap();
    fixture.connect_controller().await;
    wait_delivered(&fixture, &mut sender).await;
    assert!(delivered_contents(&fixture).iter().all(|content| content == CREDENTIAL));
    fixture
        .wait_event("retry event", |event| {
            matches!(event, AgentEvent::Capture(CaptureEvent::DeliveryRetry { .. })).then_some(())
        })
        .await;
}

#[tokio::test]
async fn rejected_credential_is_resent_only_after_a_change() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let rejection = serde_json::to_string(&Problem::InvalidCredentialFormat.with_detail("")).unwrap();
    fixture.controller.lock().unwrap().delivery_responses.push_back((422, rejection));
    claim_idle_tool(&fixture, &mut sender).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    let rejected = CaptureState::DeliveryRejected { code: "invalid_credential_format".into() };
    eventually("delivery rejected", async || (fixture.sign_in(&mut sender).await.capture == rejected).then_some(()))
        .await;
    // A rejection at the other path shows that another scan has run.
    fs::create_dir(fixture.home(".config")).unwrap();
    fs::write(fixture.home(".config/demo.json"), "{").unwrap();
    wait_rejection(&fixture, "not complete JSON").await;
    assert_eq!(delivered_contents(&fixture).len(), 1);
    let new = CREDENTIAL.replace("s3cret", "n3w");
    fs::write(fixture.home(".demo/auth.json"), &new).unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [CREDENTIAL.to_owned(), new]);
}

#[tokio::test]
async fn status_command_decides_whether_a_credential_is_accepted() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.status_argv =
        ["/bin/sh", "-c", "test -e signed-in || exit 4; cat signed-in; test -t 0 && exit 9; exit 0"]
            .map(str::to_owned)
            .to_vec();
    tool.credential.status_matches = Some("logged ?in".into());
    fixture.claim(&mut sender, tool).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_rejection(&fixture, "the tool's status command ended with 4").await;
    fs::write(fixture.home("signed-in"), "no account").unwrap();
    wait_rejection(&fixture, "the tool's status command does not report that it is signed in").await;
    assert!(delivered_contents(&fixture).is_empty());
    fs::write(fixture.home("signed-in"), "loggedin as x").unwrap();
    wait_delivered(&fixture, &mut sender).await;
    assert_eq!(delivered_contents(&fixture), [CREDENTIAL]);
}
