//! A method change: the tool and its child processes are ended, and another command signs in.

use crate::fixture::*;
use anteroom_wire::{
    agent::{AgentEvent, CaptureState, ChangeMethod, CliState, KEY_ENTRY_PROMPT_ID, SignInEvent, ToolEvent},
    provider::{KeyEntry, MethodName, Provider, SettingsFile},
};
use std::fs;

const CREDENTIAL: &str = r#"{ "tokens": { "access": "s3cret" } }"#;

fn provider_for_method(name: &str, script: &str) -> Provider {
    let settings = SettingsFile { path: ".demo/settings.json".into(), content: format!("{{\"method\":\"{name}\"}}") };
    Provider {
        method: MethodName::try_from(name.to_owned()).unwrap(),
        label: name.into(),
        settings_files: vec![settings],
        ..provider(script)
    }
}

async fn change_method(sender: &mut Sender, provider: &Provider) -> (u16, String) {
    let (status, body) = post(sender, "/method", &ChangeMethod { provider: provider.clone(), restart: false }).await;
    (status.as_u16(), if body.is_empty() { String::new() } else { problem(&body).code })
}

async fn wait_file(fixture: &AgentFixture, name: &str, text: &str) {
    eventually(&format!("{name} holds {text:?}"), async || {
        (fs::read_to_string(fixture.home(name)).unwrap_or_default() == text).then_some(())
    })
    .await;
}

fn count_events(fixture: &AgentFixture, wanted: fn(&AgentEvent) -> bool) -> usize {
    fixture.controller.lock().unwrap().events.iter().filter(|event| wanted(&event.event)).count()
}

#[tokio::test]
async fn method_change_replaces_the_tool_and_its_child_processes() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    let mut first = provider_for_method(
        "first",
        "tail -f /dev/null & echo $! > child; echo 'go https://a.example/1 now'; echo one >> runs; cat",
    );
    first.sign_in.url = Some(r"go (https://\S+) now".into());
    fixture.claim(&mut sender, first.clone()).await;
    eventually("the address", async || fixture.sign_in(&mut sender).await.url).await;
    wait_file(&fixture, "runs", "one\n").await;
    let child: u32 = fs::read_to_string(fixture.home("child")).unwrap().trim().parse().unwrap();

    let mut second =
        provider_for_method("second", "cp .demo/settings.json copied; echo two >> runs; exec tail -f /dev/null");
    second.credential.required = vec!["/key".into()];
    assert_eq!(change_method(&mut sender, &second).await, (204, String::new()));
    wait_file(&fixture, "runs", "one\ntwo\n").await;
    wait_file(&fixture, "copied", r#"{"method":"second"}"#).await;
    assert!(!is_alive(child), "the child processes of the tool are ended");
    fixture
        .wait_event("method switched", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::MethodSwitched { method }) if method == "second")
                .then_some(())
        })
        .await;
    let now = eventually("the second runs", async || {
        let now = fixture.sign_in(&mut sender).await;
        (now.cli == CliState::Running).then_some(now)
    })
    .await;
    assert_eq!((now.url, now.prompt), (None, None), "URL and prompt of the first method are cleared");
    assert_eq!(
        count_events(&fixture, |event| matches!(event, AgentEvent::Tool(ToolEvent::Exited { .. }))),
        0,
        "an ended tool is not reported as an exit"
    );

    // A file from before the claim is still ignored; the rules of the new method apply.
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    let new = r#"{ "key": "n3w" }"#;
    fs::write(fixture.home(".config-new"), new).unwrap();
    fs::create_dir(fixture.home(".config")).unwrap();
    fs::rename(fixture.home(".config-new"), fixture.home(".config/demo.json")).unwrap();
    eventually("delivered", async || {
        (fixture.sign_in(&mut sender).await.capture == CaptureState::Delivered).then_some(())
    })
    .await;
    let delivery = fixture.controller.lock().unwrap().deliveries[0].clone();
    assert_eq!(delivery.files[0].content.expose(), new.as_bytes());
}

#[tokio::test]
async fn tool_that_ignores_signals_is_killed_on_a_method_change() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "trap '' HUP TERM INT; echo $$ > pid; while :; do sleep 1; done";
    fixture.claim(&mut sender, provider_for_method("first", script)).await;
    let pid = eventually("the tool", async || fs::read_to_string(fixture.home("pid")).ok()?.trim().parse().ok()).await;
    let second = provider_for_method("second", "echo two > runs; exec tail -f /dev/null");
    assert_eq!(change_method(&mut sender, &second).await.0, 204);
    wait_file(&fixture, "runs", "two\n").await;
    eventually("its end", async || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn tool_can_clean_up_on_a_method_change() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "trap 'touch cleaned; exit 0' HUP; touch up; while :; do sleep 0.1; done";
    fixture.claim(&mut sender, provider_for_method("first", script)).await;
    eventually("the tool", async || fixture.home("up").exists().then_some(())).await;
    assert_eq!(change_method(&mut sender, &provider_for_method("second", IDLE)).await.0, 204);
    assert!(fixture.home("cleaned").exists());
}

#[tokio::test]
async fn same_method_is_unchanged_while_running_and_restarted_after_its_exit() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let running = provider_for_method("first", "echo run >> runs; exec tail -f /dev/null");
    fixture.claim(&mut sender, running.clone()).await;
    fixture.wait_event("started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(())).await;
    assert_eq!(change_method(&mut sender, &running).await.0, 204);
    let ending = provider_for_method("second", "echo end >> runs");
    assert_eq!(change_method(&mut sender, &ending).await.0, 204);
    fixture
        .wait_event("ended", |event| matches!(event, AgentEvent::Tool(ToolEvent::Exited { code: 0, .. })).then_some(()))
        .await;
    wait_file(&fixture, "runs", "run\nend\n").await;
    assert_eq!(change_method(&mut sender, &ending).await.0, 204);
    wait_file(&fixture, "runs", "run\nend\nend\n").await;
    eventually("both method events", async || {
        (count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::MethodSwitched { .. }))) == 2)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn concurrent_method_changes_start_the_tool_once() {
    let fixture = AgentFixture::start().await;
    let mut one = fixture.connect().await;
    fixture.claim(&mut one, provider_for_method("first", IDLE)).await;
    fixture.wait_event("started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(())).await;
    let mut other = one.clone();
    let second = provider_for_method("second", "echo run >> runs; exec tail -f /dev/null");
    let (first, again) = tokio::join!(change_method(&mut one, &second), change_method(&mut other, &second));
    assert_eq!((first.0, again.0), (204, 204));
    wait_file(&fixture, "runs", "run\n").await;
    fixture
        .wait_event("method switched", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::MethodSwitched { .. })).then_some(())
        })
        .await;
    assert_eq!(change_method(&mut one, &second).await.0, 204);
    assert_eq!(
        count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::MethodSwitched { .. }))),
        1
    );
    wait_file(&fixture, "runs", "run\n").await;
}

#[tokio::test]
async fn env_unset_removes_variables_from_the_methods_environment() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut first = provider_for_method("first", "env > first; exec tail -f /dev/null");
    first.env.insert("DEMO".into(), "1".into());
    fixture.claim(&mut sender, first.clone()).await;
    let seen = |name: &'static str| {
        eventually(name, async || {
            let text = fs::read_to_string(fixture.home(name)).unwrap_or_default();
            text.contains("TERM=").then_some(text)
        })
    };
    let before = seen("first").await;
    assert!(before.contains("DEMO=1") && before.contains("BROWSER="), "{before}");
    let mut second = provider_for_method("second", "env > second; exec tail -f /dev/null");
    second.env_unset = vec!["BROWSER".into(), "DEMO".into()];
    assert_eq!(change_method(&mut sender, &second).await.0, 204);
    let after = seen("second").await;
    assert!(!after.contains("DEMO=") && !after.contains("BROWSER=") && after.contains("HOME="), "{after}");
}

#[tokio::test]
async fn method_change_with_another_or_invalid_provider_is_rejected() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let first = provider_for_method("first", "echo run >> runs; exec tail -f /dev/null");
    assert_eq!(change_method(&mut sender, &first).await, (409, "not_ready".into()), "before the claim");
    fixture.claim(&mut sender, first.clone()).await;
    wait_file(&fixture, "runs", "run\n").await;
    let other = Provider { id: "other".parse().unwrap(), ..provider_for_method("second", IDLE) };
    let invalid = Provider { lanes: Vec::new(), ..provider_for_method("second", IDLE) };
    for bad in [other, invalid] {
        assert_eq!(change_method(&mut sender, &bad).await, (400, "malformed".into()));
    }
    eventually("the tool", async || (fixture.sign_in(&mut sender).await.cli == CliState::Running).then_some(())).await;
    wait_file(&fixture, "runs", "run\n").await;
}

#[tokio::test]
async fn method_change_during_a_delivery_is_rejected() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider_for_method("first", "echo run >> runs; exec tail -f /dev/null")).await;
    wait_file(&fixture, "runs", "run\n").await;
    fixture.disconnect_controller();
    fs::write(fixture.home(".demo/auth.json"), CREDENTIAL).unwrap();
    eventually("delivering", async || {
        matches!(fixture.sign_in(&mut sender).await.capture, CaptureState::Delivering { .. }).then_some(())
    })
    .await;
    assert_eq!(
        change_method(&mut sender, &provider_for_method("second", IDLE)).await,
        (409, "delivery_in_progress".into())
    );
    fixture.connect_controller().await;
    eventually("delivered", async || {
        (fixture.sign_in(&mut sender).await.capture == CaptureState::Delivered).then_some(())
    })
    .await;
    wait_file(&fixture, "runs", "run\n").await;
}

#[tokio::test]
async fn method_change_opens_and_closes_the_key_prompt() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let plain = provider_for_method("first", "echo plain >> runs; exec tail -f /dev/null");
    fixture.claim(&mut sender, plain.clone()).await;
    wait_file(&fixture, "runs", "plain\n").await;
    let entry = KeyEntry { label: "Key".into(), pattern: None, expected_format: None };
    let with_key = Provider { key_entry: Some(entry), ..provider_for_method("key", "read -r key; echo keyed >> runs") };
    assert_eq!(change_method(&mut sender, &with_key).await.0, 204);
    eventually("key prompt", async || {
        fixture.sign_in(&mut sender).await.prompt.filter(|open| open.id == KEY_ENTRY_PROMPT_ID)
    })
    .await;
    assert_eq!(change_method(&mut sender, &with_key).await.0, 204, "already in progress");
    assert_eq!(change_method(&mut sender, &plain).await.0, 204);
    wait_file(&fixture, "runs", "plain\nplain\n").await;
    assert_eq!(fixture.sign_in(&mut sender).await.prompt, None, "the key prompt is closed");
}

#[tokio::test]
async fn sign_in_state_names_the_current_method() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    assert_eq!(fixture.sign_in(&mut sender).await.method, None, "before the claim");
    fixture.claim(&mut sender, provider_for_method("first", IDLE)).await;
    assert_eq!(fixture.sign_in(&mut sender).await.method.as_deref(), Some("first"));
    assert_eq!(change_method(&mut sender, &provider_for_method("second", IDLE)).await.0, 204);
    assert_eq!(fixture.sign_in(&mut sender).await.method.as_deref(), Some("second"));
}
