//! Another method: the tool is ended with all that it started, and another command signs in.

use crate::fixture::*;
use anteroom_wire::{
    agent::{CaptureState, CliState, Event, KEY_ENTRY, SwitchMethod},
    provider::{KeyEntry, MethodName, Provider, SettingsFile},
};
use std::fs;

const WHOLE: &str = r#"{ "tokens": { "access": "s3cret" } }"#;

fn method(name: &str, script: &str) -> Provider {
    let settings = SettingsFile { path: ".demo/settings.json".into(), content: format!("{{\"method\":\"{name}\"}}") };
    Provider {
        method: MethodName::try_from(name.to_owned()).unwrap(),
        label: name.into(),
        settings_files: vec![settings],
        ..provider(script)
    }
}

async fn switch(sender: &mut Sender, provider: &Provider) -> (u16, String) {
    let (status, body) = post(sender, "/method", &SwitchMethod { provider: provider.clone() }).await;
    (status.as_u16(), if body.is_empty() { String::new() } else { problem(&body).code })
}

async fn holds(world: &World, name: &str, text: &str) {
    until(&format!("{name} holds {text:?}"), async || {
        (fs::read_to_string(world.home(name)).unwrap_or_default() == text).then_some(())
    })
    .await;
}

fn count(world: &World, wanted: fn(&Event) -> bool) -> usize {
    world.heard.lock().unwrap().events.iter().filter(|event| wanted(&event.event)).count()
}

#[tokio::test]
async fn method_change_replaces_the_tool_and_its_child_processes() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    let mut first = method(
        "first",
        "tail -f /dev/null & echo $! > child; echo 'go https://a.example/1 now'; echo one >> runs; cat",
    );
    first.sign_in.url = Some(r"go (https://\S+) now".into());
    world.claim(&mut sender, first.clone()).await;
    until("the address", async || world.sign_in(&mut sender).await.url).await;
    holds(&world, "runs", "one\n").await;
    let child: u32 = fs::read_to_string(world.home("child")).unwrap().trim().parse().unwrap();

    let mut second = method("second", "cp .demo/settings.json copied; echo two >> runs; exec tail -f /dev/null");
    second.credential.required = vec!["/key".into()];
    assert_eq!(switch(&mut sender, &second).await, (204, String::new()));
    holds(&world, "runs", "one\ntwo\n").await;
    holds(&world, "copied", r#"{"method":"second"}"#).await;
    assert!(!alive(child), "what the tool had started is ended with it");
    world
        .event("told", |event| matches!(event, Event::MethodSwitched { method } if method == "second").then_some(()))
        .await;
    let now = until("the second runs", async || {
        let now = world.sign_in(&mut sender).await;
        (now.cli == CliState::Running).then_some(now)
    })
    .await;
    assert_eq!((now.url, now.prompt), (None, None), "what the first had said is forgotten");
    assert_eq!(count(&world, |event| matches!(event, Event::CliExited { .. })), 0, "it did not end, it was ended");

    // What stood there before the claim does not count now either; the new method's rules do.
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    let new = r#"{ "key": "n3w" }"#;
    fs::write(world.home(".config-new"), new).unwrap();
    fs::create_dir(world.home(".config")).unwrap();
    fs::rename(world.home(".config-new"), world.home(".config/demo.json")).unwrap();
    until("delivered", async || (world.sign_in(&mut sender).await.capture == CaptureState::Delivered).then_some(()))
        .await;
    let delivery = world.heard.lock().unwrap().deliveries[0].clone();
    assert_eq!(delivery.files[0].content.expose(), new.as_bytes());
}

#[tokio::test]
async fn tool_that_ignores_signals_is_killed_on_a_method_change() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let script = "trap '' HUP TERM INT; echo $$ > pid; while :; do sleep 1; done";
    world.claim(&mut sender, method("first", script)).await;
    let pid = until("the tool", async || fs::read_to_string(world.home("pid")).ok()?.trim().parse().ok()).await;
    let second = method("second", "echo two > runs; exec tail -f /dev/null");
    assert_eq!(switch(&mut sender, &second).await.0, 204);
    holds(&world, "runs", "two\n").await;
    until("its death", async || (!alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn tool_can_clean_up_on_a_method_change() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let script = "trap 'touch cleaned; exit 0' HUP; touch up; while :; do sleep 0.1; done";
    world.claim(&mut sender, method("first", script)).await;
    until("the tool", async || world.home("up").exists().then_some(())).await;
    assert_eq!(switch(&mut sender, &method("second", IDLE)).await.0, 204);
    assert!(world.home("cleaned").exists());
}

#[tokio::test]
async fn same_method_is_unchanged_while_running_and_restarted_after_its_exit() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let running = method("first", "echo run >> runs; exec tail -f /dev/null");
    world.claim(&mut sender, running.clone()).await;
    world.event("started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    assert_eq!(switch(&mut sender, &running).await.0, 204);
    let ending = method("second", "echo end >> runs");
    assert_eq!(switch(&mut sender, &ending).await.0, 204);
    world.event("ended", |event| matches!(event, Event::CliExited { code: 0, .. }).then_some(())).await;
    holds(&world, "runs", "run\nend\n").await;
    assert_eq!(switch(&mut sender, &ending).await.0, 204);
    holds(&world, "runs", "run\nend\nend\n").await;
    until("both told", async || {
        (count(&world, |event| matches!(event, Event::MethodSwitched { .. })) == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn concurrent_method_changes_start_the_tool_once() {
    let world = World::start().await;
    let mut one = world.connect().await;
    world.claim(&mut one, method("first", IDLE)).await;
    world.event("started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    let mut other = one.clone();
    let second = method("second", "echo run >> runs; exec tail -f /dev/null");
    let (first, again) = tokio::join!(switch(&mut one, &second), switch(&mut other, &second));
    assert_eq!((first.0, again.0), (204, 204));
    holds(&world, "runs", "run\n").await;
    world.event("told", |event| matches!(event, Event::MethodSwitched { .. }).then_some(())).await;
    assert_eq!(switch(&mut one, &second).await.0, 204);
    assert_eq!(count(&world, |event| matches!(event, Event::MethodSwitched { .. })), 1);
    holds(&world, "runs", "run\n").await;
}

#[tokio::test]
async fn env_unset_removes_variables_from_the_methods_environment() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut first = method("first", "env > first; exec tail -f /dev/null");
    first.env.insert("DEMO".into(), "1".into());
    world.claim(&mut sender, first.clone()).await;
    let seen = |name: &'static str| {
        until(name, async || {
            let text = fs::read_to_string(world.home(name)).unwrap_or_default();
            text.contains("TERM=").then_some(text)
        })
    };
    let before = seen("first").await;
    assert!(before.contains("DEMO=1") && before.contains("BROWSER="), "{before}");
    let mut second = method("second", "env > second; exec tail -f /dev/null");
    second.env_unset = vec!["BROWSER".into(), "DEMO".into()];
    assert_eq!(switch(&mut sender, &second).await.0, 204);
    let after = seen("second").await;
    assert!(!after.contains("DEMO=") && !after.contains("BROWSER=") && after.contains("HOME="), "{after}");
}

#[tokio::test]
async fn method_change_with_another_or_invalid_provider_is_rejected() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let first = method("first", "echo run >> runs; exec tail -f /dev/null");
    assert_eq!(switch(&mut sender, &first).await, (409, "not_ready".into()), "before the claim");
    world.claim(&mut sender, first.clone()).await;
    holds(&world, "runs", "run\n").await;
    let other = Provider { id: "other".parse().unwrap(), ..method("second", IDLE) };
    let unsound = Provider { lanes: Vec::new(), ..method("second", IDLE) };
    for bad in [other, unsound] {
        assert_eq!(switch(&mut sender, &bad).await, (400, "malformed".into()));
    }
    until("the tool", async || (world.sign_in(&mut sender).await.cli == CliState::Running).then_some(())).await;
    holds(&world, "runs", "run\n").await;
}

#[tokio::test]
async fn method_change_during_a_delivery_is_rejected() {
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, method("first", "echo run >> runs; exec tail -f /dev/null")).await;
    holds(&world, "runs", "run\n").await;
    world.disconnect_host();
    fs::write(world.home(".demo/auth.json"), WHOLE).unwrap();
    until("on its way", async || {
        matches!(world.sign_in(&mut sender).await.capture, CaptureState::Delivering { .. }).then_some(())
    })
    .await;
    assert_eq!(switch(&mut sender, &method("second", IDLE)).await, (409, "delivery_in_progress".into()));
    world.connect_host().await;
    until("delivered", async || (world.sign_in(&mut sender).await.capture == CaptureState::Delivered).then_some(()))
        .await;
    holds(&world, "runs", "run\n").await;
}

#[tokio::test]
async fn method_change_opens_and_closes_the_key_prompt() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let plain = method("first", "echo plain >> runs; exec tail -f /dev/null");
    world.claim(&mut sender, plain.clone()).await;
    holds(&world, "runs", "plain\n").await;
    let entry = KeyEntry { label: "Key".into(), shape: None, hint: None };
    let keyed = Provider { key_entry: Some(entry), ..method("key", "read -r key; echo keyed >> runs") };
    assert_eq!(switch(&mut sender, &keyed).await.0, 204);
    until("asked", async || world.sign_in(&mut sender).await.prompt.filter(|open| open.id == KEY_ENTRY)).await;
    assert_eq!(switch(&mut sender, &keyed).await.0, 204, "it is under way already");
    assert_eq!(switch(&mut sender, &plain).await.0, 204);
    holds(&world, "runs", "plain\nplain\n").await;
    assert_eq!(world.sign_in(&mut sender).await.prompt, None, "no key is wanted any more");
}

#[tokio::test]
async fn sign_in_state_names_the_current_method() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    assert_eq!(world.sign_in(&mut sender).await.method, None, "before the claim");
    world.claim(&mut sender, method("first", IDLE)).await;
    assert_eq!(world.sign_in(&mut sender).await.method.as_deref(), Some("first"));
    assert_eq!(switch(&mut sender, &method("second", IDLE)).await.0, 204);
    assert_eq!(world.sign_in(&mut sender).await.method.as_deref(), Some("second"));
}
