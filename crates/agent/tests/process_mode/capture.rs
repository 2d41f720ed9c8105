//! Which files count as the credential, and what goes along with them.

use crate::fixture::*;
use anteroom_wire::{
    agent::{CaptureState, Delivery, Event},
    provider::{FileFormat, Provider, StoragePolicy},
};
use std::{fs, os::unix::fs::PermissionsExt};

const WHOLE: &str = r#"{ "tokens": { "access": "s3cret" } }"#;

async fn captured(world: &World, sender: &mut Sender, wanted: CaptureState) {
    until(&format!("{wanted:?}"), async || (world.sign_in(sender).await.capture == wanted).then_some(())).await;
}

async fn rejected(world: &World, path: &str) -> String {
    world
        .event(path, |event| match event {
            Event::CandidateRejected { path: at, why } if at == path => Some(why.clone()),
            _ => None,
        })
        .await
}

fn files(delivery: &Delivery) -> Vec<(&str, u32, String)> {
    let file = |file: &anteroom_wire::agent::DeliveredFile| String::from_utf8(file.content.expose().to_vec()).unwrap();
    delivery.files.iter().map(|of| (of.path.as_str(), of.mode, file(of))).collect()
}

fn the_delivery(world: &World) -> Delivery {
    let heard = world.heard.lock().unwrap();
    assert_eq!(heard.deliveries.len(), 1);
    heard.deliveries[0].clone()
}

#[tokio::test]
async fn text_credential_is_accepted_on_match_and_rejected_without_its_content() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.paths = vec![".demo/token".into()];
    tool.credential.required = Vec::new();
    tool.credential.format = FileFormat::Text;
    tool.credential.text_matches = Some(r"(?m)^oauth_token: \S{8,}$".into());
    world.claim(&mut sender, tool).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/token"), "user: me\noauth_token: s3c").unwrap();
    let why = rejected(&world, ".demo/token").await;
    assert!(!why.contains("s3c") && !why.contains("me"), "{why}");
    let whole = "user: me\noauth_token: s3cret-s3cret\n";
    fs::write(world.home(".demo/token"), whole).unwrap();
    captured(&world, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&the_delivery(&world))[0].2, whole);
}

#[tokio::test]
async fn new_regular_companion_files_are_delivered_with_the_credential() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/old"), "of the image").unwrap();
    fs::write(world.home(".demo/changed"), "of the image").unwrap();
    let mut tool = provider(IDLE);
    tool.credential.beside =
        ["old", "changed", "new", "link", "large", "none"].map(|name| format!(".demo/{name}")).to_vec();
    // The file times of what stood there before must lie before the claim by more than their coarseness.
    let old = fs::metadata(world.home(".demo/changed")).unwrap().modified().unwrap();
    until("time goes on", async || old.elapsed().is_ok_and(|since| since.as_millis() > 200).then_some(())).await;
    world.claim(&mut sender, tool).await;
    fs::write(world.home(".demo/changed"), "by the tool").unwrap();
    fs::write(world.home(".demo/new"), "account").unwrap();
    fs::set_permissions(world.home(".demo/new"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(world.home(".demo/large"), "x".repeat(70_000)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", world.home(".demo/link")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    fs::set_permissions(world.home(".demo/auth.json"), fs::Permissions::from_mode(0o600)).unwrap();
    captured(&world, &mut sender, CaptureState::Delivered).await;
    let delivery = the_delivery(&world);
    let all = files(&delivery);
    assert_eq!(all[0], (".demo/auth.json", 0o600, WHOLE.into()), "the one that was checked is the first");
    let names: Vec<&str> = all.iter().map(|file| file.0).collect();
    assert_eq!(names, [".demo/auth.json", ".demo/changed", ".demo/new"]);
    assert_eq!(all[2], (".demo/new", 0o640, "account".into()));
    assert_eq!(rejected(&world, ".demo/link").await, "a symbolic link");
    assert_eq!(rejected(&world, ".demo/large").await, "larger than 65536 bytes");
}

#[tokio::test]
async fn companion_file_alone_is_not_a_credential() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.beside = vec![".demo/account.json".into()];
    world.claim(&mut sender, tool).await;
    fs::create_dir_all(world.home(".config")).unwrap();
    fs::create_dir_all(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/account.json"), WHOLE).unwrap();
    // A rejection elsewhere shows that the watch has looked.
    fs::write(world.home(".config/demo.json"), "[").unwrap();
    rejected(&world, ".config/demo.json").await;
    assert!(world.heard.lock().unwrap().deliveries.is_empty());
}

#[tokio::test]
async fn first_path_with_a_complete_credential_is_captured() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider(IDLE)).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::create_dir(world.home(".config")).unwrap();
    fs::write(world.home(".demo/auth.json"), r#"{"tokens":{"access":7,"refresh":"s3c"}"#).unwrap();
    assert_eq!(rejected(&world, ".demo/auth.json").await, "not whole JSON");
    fs::write(world.home(".config/demo.json"), WHOLE).unwrap();
    captured(&world, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&the_delivery(&world))[0].0, ".config/demo.json");
}

#[tokio::test]
async fn file_from_the_image_is_ignored_until_it_is_replaced() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    world.claim(&mut sender, provider(IDLE)).await;
    assert_eq!(rejected(&world, ".demo/auth.json").await, "the same as before the sign-in");
    // Cut short in place, whole by rename.
    fs::write(world.home(".demo/auth.json"), &WHOLE[..20]).unwrap();
    world
        .event("cut", |event| {
            matches!(event, Event::CandidateRejected { why, .. } if why == "not whole JSON").then_some(())
        })
        .await;
    let new = WHOLE.replace("s3cret", "n3w");
    fs::write(world.home(".demo/.new"), &new).unwrap();
    fs::rename(world.home(".demo/.new"), world.home(".demo/auth.json")).unwrap();
    captured(&world, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&the_delivery(&world))[0].2, new);
}

#[tokio::test]
async fn refresh_before_the_response_replaces_the_pending_delivery() {
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider(IDLE)).await;
    world.heard.lock().unwrap().answers.push_back((503, String::new()));
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    until("a first try", async || (!world.heard.lock().unwrap().deliveries.is_empty()).then_some(())).await;
    world.disconnect_host();
    let new = WHOLE.replace("s3cret", "refreshed");
    fs::write(world.home(".demo/auth.json"), &new).unwrap();
    world.connect_host().await;
    captured(&world, &mut sender, CaptureState::Delivered).await;
    until("the newer one is there", async || {
        let heard = world.heard.lock().unwrap();
        let last = heard.deliveries.last().unwrap().files[0].content.expose().to_vec();
        (last == new.as_bytes()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credential_refreshed_by_the_status_command_is_delivered() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut tool = provider(IDLE);
    let script = "test -e new && cp new .demo/new && mv .demo/new .demo/auth.json; rm -f new; echo asked >> asked";
    tool.credential.status_argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let new = WHOLE.replace("s3cret", "refreshed");
    fs::write(world.home("new"), &new).unwrap();
    world.claim(&mut sender, tool).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    captured(&world, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&the_delivery(&world))[0].2, new);
    assert_eq!(fs::read_to_string(world.home("asked")).unwrap(), "asked\n", "it has agreed once");
}

#[tokio::test]
async fn keep_in_machine_credential_is_reported_once_and_never_delivered() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut tool = Provider { policy: StoragePolicy::KeepInMachine, ..provider(IDLE) };
    tool.credential.status_argv = ["/bin/sh", "-c", "test -e .demo/auth.json"].map(str::to_owned).to_vec();
    world.claim(&mut sender, tool).await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    captured(&world, &mut sender, CaptureState::Kept { path: ".demo/auth.json".into() }).await;
    fs::write(world.home(".demo/auth.json"), WHOLE.replace("s3cret", "refreshed")).unwrap();
    let kept = |event: &Event| matches!(event, Event::CredentialKept { path } if path == ".demo/auth.json");
    world.event("kept", |event| kept(event).then_some(())).await;
    // Longer than the time between two looks: whoever still looked would find the refreshed one.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let heard = world.heard.lock().unwrap();
    assert_eq!(heard.events.iter().filter(|event| kept(&event.event)).count(), 1);
    assert!(heard.deliveries.is_empty());
}
