//! Which files are captured as the credential, and which companion files are delivered with it.

use crate::{fixture::*, prompts::paste_rejected};
use anteroom_wire::{
    agent::{AgentEvent, CaptureEvent, CaptureState, CredentialDelivery, SignInEvent},
    provider::{FileFormat, Provider, StoragePolicy},
};
use std::{fs, os::unix::fs::PermissionsExt};

const CREDENTIAL: &str = r#"{ "tokens": { "access": "s3cret" } }"#;

async fn wait_capture_state(fixture: &AgentFixture, sender: &mut Sender, wanted: CaptureState) {
    eventually(&format!("{wanted:?}"), async || (fixture.sign_in(sender).await.capture == wanted).then_some(())).await;
}

async fn wait_rejection(fixture: &AgentFixture, path: &str) -> String {
    fixture
        .wait_event(path, |event| match event {
            AgentEvent::Capture(CaptureEvent::CandidateRejected { path: at, why }) if at == path => Some(why.clone()),
            _ => None,
        })
        .await
        .into()
}

fn files(delivery: &CredentialDelivery) -> Vec<(&str, u32, String)> {
    let file = |file: &anteroom_wire::agent::DeliveredFile| String::from_utf8(file.content.expose().to_vec()).unwrap();
    delivery.files.iter().map(|of| (of.path.as_str(), of.mode, file(of))).collect()
}

fn only_delivery(fixture: &AgentFixture) -> CredentialDelivery {
    let controller = fixture.controller.lock().unwrap();
    assert_eq!(controller.deliveries.len(), 1);
    controller.deliveries[0].clone()
}

#[tokio::test]
async fn text_credential_is_accepted_on_match_and_rejected_without_its_content() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.paths = vec![".demo/token".into()];
    tool.credential.required = Vec::new();
    tool.credential.format = FileFormat::Text;
    tool.credential.text_matches = Some(r"(?m)^oauth_token: \S{8,}$".into());
    fixture.claim(&mut sender, tool).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/token"), "user: me\noauth_token: s3c").unwrap();
    let why = wait_rejection(&fixture, ".demo/token").await;
    assert!(!why.contains("s3c") && !why.contains("me"), "{why}");
    let complete = "user: me\noauth_token: s3cret-s3cret\n";
    fs::write(fixture.home(".demo/token"), complete).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&only_delivery(&fixture))[0].2, complete);
}

#[tokio::test]
async fn new_regular_companion_files_are_delivered_with_the_credential() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/old"), "of the image").unwrap();
    fs::write(fixture.home(".demo/changed"), "of the image").unwrap();
    let mut tool = provider(IDLE);
    tool.credential.companions =
        ["old", "changed", "new", "link", "large", "none"].map(|name| format!(".demo/{name}")).to_vec();
    // Modification times before the claim must be older than it by more than their resolution.
    let old = fs::metadata(fixture.home(".demo/changed")).unwrap().modified().unwrap();
    eventually("modification times are old enough", async || {
        old.elapsed().is_ok_and(|since| since.as_millis() > 200).then_some(())
    })
    .await;
    fixture.claim(&mut sender, tool).await;
    fs::write(fixture.home(".demo/changed"), "by the tool").unwrap();
    fs::write(fixture.home(".demo/new"), "account").unwrap();
    fs::set_permissions(fixture.home(".demo/new"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(fixture.home(".demo/large"), "x".repeat(70_000)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", fixture.home(".demo/link")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    fs::set_permissions(fixture.home(".demo/auth.json"), fs::Permissions::from_mode(0o600)).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    let delivery = only_delivery(&fixture);
    let all = files(&delivery);
    assert_eq!(all[0], (".demo/auth.json", 0o600, CREDENTIAL.into()), "the one that was checked is the first");
    let names: Vec<&str> = all.iter().map(|file| file.0).collect();
    assert_eq!(names, [".demo/auth.json", ".demo/changed", ".demo/new"]);
    assert_eq!(all[2], (".demo/new", 0o640, "account".into()));
    assert_eq!(wait_rejection(&fixture, ".demo/link").await, "a symbolic link");
    assert_eq!(wait_rejection(&fixture, ".demo/large").await, "larger than 65536 bytes");
}

#[tokio::test]
async fn companion_file_alone_is_not_a_credential() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.companions = vec![".demo/account.json".into()];
    fixture.claim(&mut sender, tool).await;
    fs::create_dir_all(fixture.home(".config")).unwrap();
    fs::create_dir_all(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/account.json"), CREDENTIAL).unwrap();
    // A rejection at another path shows that the scan has run.
    fs::write(fixture.home(".config/demo.json"), "[").unwrap();
    wait_rejection(&fixture, ".config/demo.json").await;
    assert!(fixture.controller.lock().unwrap().deliveries.is_empty());
}

#[tokio::test]
async fn first_path_with_a_complete_credential_is_captured() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider(IDLE)).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::create_dir(fixture.home(".config")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), r#"{"tokens":{"access":7,"refresh":"s3c"}"#).unwrap();
    assert_eq!(wait_rejection(&fixture, ".demo/auth.json").await, "not complete JSON");
    fs::write(fixture.home(".config/demo.json"), CREDENTIAL).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&only_delivery(&fixture))[0].0, ".config/demo.json");
}

#[tokio::test]
async fn file_from_the_image_is_ignored_until_it_is_replaced() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    fixture.claim(&mut sender, provider(IDLE)).await;
    assert_eq!(wait_rejection(&fixture, ".demo/auth.json").await, "the same as before the sign-in");
    // Truncated in place, then replaced by a rename.
    fs::write(fixture.home(".demo/auth.json"), &CREDENTIAL[..20]).unwrap();
    fixture
        .wait_event("truncated file rejected", |event| {
            matches!(event, AgentEvent::Capture(CaptureEvent::CandidateRejected { why, .. }) if why == "not complete JSON")
                .then_some(())
        })
        .await;
    let new = CREDENTIAL.replace("s3cret", "n3w");
    fs::write(fixture.home(".demo/.new"), &new).unwrap();
    fs::rename(fixture.home(".demo/.new"), fixture.home(".demo/auth.json")).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&only_delivery(&fixture))[0].2, new);
}

#[tokio::test]
async fn refresh_before_the_response_replaces_the_pending_delivery() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider(IDLE)).await;
    fixture.controller.lock().unwrap().delivery_responses.push_back((503, String::new()));
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    eventually("first delivery", async || (!fixture.controller.lock().unwrap().deliveries.is_empty()).then_some(()))
        .await;
    fixture.disconnect_controller();
    let new = CREDENTIAL.replace("s3cret", "refreshed");
    fs::write(fixture.home(".demo/auth.json"), &new).unwrap();
    fixture.connect_controller().await;
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    eventually("refreshed credential delivered", async || {
        let controller = fixture.controller.lock().unwrap();
        let last = controller.deliveries.last().unwrap().files[0].content.expose().to_vec();
        (last == new.as_bytes()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credential_refreshed_by_the_status_command_is_delivered() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider(IDLE);
    let script = "test -e new && cp new .demo/new && mv .demo/new .demo/auth.json; rm -f new; echo asked >> asked";
    tool.credential.status_argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let new = CREDENTIAL.replace("s3cret", "refreshed");
    fs::write(fixture.home("new"), &new).unwrap();
    fixture.claim(&mut sender, tool).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&only_delivery(&fixture))[0].2, new);
    assert_eq!(fs::read_to_string(fixture.home("asked")).unwrap(), "asked\n", "the status command succeeded once");
}

#[tokio::test]
async fn companion_that_is_written_while_the_status_command_runs_is_delivered() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider(IDLE);
    tool.credential.companions = vec![".demo/account".into()];
    tool.credential.status_argv = ["/bin/sh", "-c", "echo ada > .demo/account"].map(str::to_owned).to_vec();
    fixture.claim(&mut sender, tool).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    let delivery = only_delivery(&fixture);
    let names: Vec<&str> = files(&delivery).iter().map(|file| file.0).collect();
    assert_eq!(names, [".demo/auth.json", ".demo/account"]);
}

/// Whether the agent watches the credential's files. It uses inotify for nothing else.
fn watches_files(fixture: &AgentFixture) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", fixture.agent.id())).unwrap().flatten();
    let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.any(|target| target.to_string_lossy().contains("inotify"))
}

#[tokio::test]
async fn keep_in_machine_credential_is_reported_once_and_never_delivered() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = Provider { storage_policy: StoragePolicy::KeepInMachine, ..provider(IDLE) };
    tool.credential.status_argv = ["/bin/sh", "-c", "test -e .demo/auth.json"].map(str::to_owned).to_vec();
    fixture.claim(&mut sender, tool).await;
    eventually("start of the watch", async || watches_files(&fixture).then_some(())).await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::KeptInMachine { path: ".demo/auth.json".into() }).await;
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL.replace("s3cret", "refreshed")).unwrap();
    let kept = |event: &AgentEvent| matches!(event, AgentEvent::Capture(CaptureEvent::KeptInMachine { path }) if path == ".demo/auth.json");
    // The watch has ended, so no later scan can find the refreshed credential.
    eventually("end of the watch", async || (!watches_files(&fixture)).then_some(())).await;
    // Events that the watch has reported are older than the one about this paste.
    assert_eq!(paste_rejected(&mut sender, "").await.0, "malformed");
    fixture
        .wait_event("rejected paste", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::PasteRejected { .. })).then_some(())
        })
        .await;
    let controller = fixture.controller.lock().unwrap();
    assert_eq!(controller.events.iter().filter(|event| kept(&event.event)).count(), 1);
    assert!(controller.deliveries.is_empty());
}

#[tokio::test]
async fn r07_credential_that_the_tool_refuses_is_delivered_once_the_tool_shows_that_it_works() {
    let fixture =
        AgentFixture::start_with(|_| serde_json::json!({ "exec_search_path": std::env::var("PATH").unwrap() })).await;
    let mut sender = fixture.connect().await;
    let script = format!(
        "mkdir -p .demo; printf '%s' '{CREDENTIAL}' > .demo/auth.json; echo 'Failed: needs a project'; \
         until test -e accepted; do sleep 0.05; done; echo 'Ready for work'; exec cat"
    );
    let mut tool = provider(&script);
    tool.credential.usable_when_done = true;
    tool.sign_in.done = Some("(?m)^Ready for work".into());
    tool.sign_in.failed = Some("(?m)^Failed: (.*)$".into());
    fixture.claim(&mut sender, tool).await;
    let why = wait_rejection(&fixture, ".demo/auth.json").await;
    assert!(why.starts_with("it is complete"), "{why}");
    assert!(fixture.controller.lock().unwrap().deliveries.is_empty(), "the tool cannot work with it yet");
    fs::write(fixture.home("accepted"), "").unwrap();
    wait_capture_state(&fixture, &mut sender, CaptureState::Delivered).await;
    assert_eq!(files(&only_delivery(&fixture))[0].2, CREDENTIAL);
}
