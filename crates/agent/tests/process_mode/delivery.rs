//! The credential, from the file to the controller's answer.

use crate::fixture::*;
use anteroom_wire::{
    Problem,
    agent::{CaptureState, Event},
};
use std::fs;

const WHOLE: &str = "{ \"tokens\": { \"access\": \"s3cret\" },\n  \"unknown\": [1] }";

async fn claimed(world: &World, sender: &mut Sender) {
    world.claim(sender, provider(IDLE)).await;
}

async fn delivered(world: &World, sender: &mut Sender) {
    until("delivered", async || (world.sign_in(sender).await.capture == CaptureState::Delivered).then_some(())).await;
}

fn deliveries(world: &World) -> Vec<String> {
    let heard = world.heard.lock().unwrap();
    let content = heard.deliveries.iter().map(|delivery| delivery.files[0].content.expose().to_vec());
    content.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

async fn rejected(world: &World, why: &str) {
    world
        .event(why, |event| matches!(event, Event::CandidateRejected { why: told, .. } if told == why).then_some(()))
        .await;
}

#[tokio::test]
async fn renamed_credential_file_is_delivered_unchanged() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    claimed(&world, &mut sender).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/new"), WHOLE).unwrap();
    fs::rename(world.home(".demo/new"), world.home(".demo/auth.json")).unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [WHOLE]);
    let delivery = world.heard.lock().unwrap().deliveries[0].clone();
    assert_eq!(delivery.files[0].path, ".demo/auth.json");
    assert_eq!((delivery.generation, delivery.provider.as_str()), (1, "demo"));
    world.event("accepted", |event| matches!(event, Event::CandidateAccepted { bytes: 54, .. }).then_some(())).await;
    let heard = format!("{:?}", world.heard.lock().unwrap().events);
    let log = fs::read_to_string(world.path("agent.log")).unwrap();
    assert!(!heard.contains("s3cret") && !log.contains("s3cret") && !log.contains(TOKEN));
}

#[tokio::test]
async fn events_that_led_to_a_delivery_are_sent_before_it() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    claimed(&world, &mut sender).await;
    world.event("started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    world.heard.lock().unwrap().events_refused = 2;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    delivered(&world, &mut sender).await;
    let heard = world.heard.lock().unwrap();
    let accepted = heard.events.iter().position(|event| matches!(event.event, Event::CandidateAccepted { .. }));
    assert!(accepted.expect("told") < heard.events_before[0]);
}

#[tokio::test]
async fn delivery_does_not_wait_for_rejected_events() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    claimed(&world, &mut sender).await;
    world.heard.lock().unwrap().events_refused = u32::MAX;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [WHOLE]);
}

#[tokio::test]
async fn partial_file_is_delivered_only_when_complete() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::create_dir(world.home(".demo")).unwrap();
    claimed(&world, &mut sender).await;
    fs::write(world.home(".demo/auth.json"), &WHOLE[..30]).unwrap();
    rejected(&world, "not whole JSON").await;
    fs::write(world.home(".demo/auth.json"), "{\"tokens\":{}}").unwrap();
    rejected(&world, "missing /tokens/access").await;
    assert!(matches!(world.sign_in(&mut sender).await.capture, CaptureState::Rejected { .. }));
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [WHOLE]);
}

#[tokio::test]
async fn credential_from_before_the_sign_in_is_ignored() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    claimed(&world, &mut sender).await;
    rejected(&world, "the same as before the sign-in").await;
    // Touching it changes nothing; the other path counts as well.
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    fs::create_dir(world.home(".config")).unwrap();
    let new = WHOLE.replace("s3cret", "n3w");
    fs::write(world.home(".config/demo.json"), &new).unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [new]);
}

#[tokio::test]
async fn delivery_is_retried_until_it_is_accepted() {
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    world.heard.lock().unwrap().answers.extend([(503, String::new()), (500, "?".into()), (200, "not json".into())]);
    claimed(&world, &mut sender).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    until("a retry", async || (deliveries(&world).len() >= 2).then_some(())).await;
    world.disconnect_host();
    // The tool may clean up after itself: the bytes are safe.
    fs::remove_file(world.home(".demo/auth.json")).unwrap();
    world.connect_host().await;
    delivered(&world, &mut sender).await;
    assert!(deliveries(&world).iter().all(|content| content == WHOLE));
    world.event("the retry", |event| matches!(event, Event::DeliveryRetry { .. }).then_some(())).await;
}

#[tokio::test]
async fn rejected_credential_is_resent_only_after_a_change() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let refusal = serde_json::to_string(&Problem::InvalidCredentialFormat.with("")).unwrap();
    world.heard.lock().unwrap().answers.push_back((422, refusal));
    claimed(&world, &mut sender).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    let refused = CaptureState::Refused { code: "invalid_credential_format".into() };
    until("refused", async || (world.sign_in(&mut sender).await.capture == refused).then_some(())).await;
    // A rejection at the other path shows that the watch has looked again.
    fs::create_dir(world.home(".config")).unwrap();
    fs::write(world.home(".config/demo.json"), "{").unwrap();
    rejected(&world, "not whole JSON").await;
    assert_eq!(deliveries(&world).len(), 1);
    let new = WHOLE.replace("s3cret", "n3w");
    fs::write(world.home(".demo/auth.json"), &new).unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [WHOLE.to_owned(), new]);
}

#[tokio::test]
async fn status_command_decides_whether_a_credential_is_accepted() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.status_argv =
        ["/bin/sh", "-c", "test -e signed-in || exit 4; cat signed-in; test -t 0 && exit 9; exit 0"]
            .map(str::to_owned)
            .to_vec();
    tool.credential.status_matches = Some("logged ?in".into());
    world.claim(&mut sender, tool).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    rejected(&world, "the tool's status command ended with 4").await;
    fs::write(world.home("signed-in"), "nobody").unwrap();
    rejected(&world, "the tool's status command does not say that it is signed in").await;
    assert!(deliveries(&world).is_empty());
    fs::write(world.home("signed-in"), "loggedin as x").unwrap();
    delivered(&world, &mut sender).await;
    assert_eq!(deliveries(&world), [WHOLE]);
}
