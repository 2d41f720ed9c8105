//! The key that the tool reads from its standard input: the person gives it, and nobody else sees it.

use crate::fixture::*;
use anteroom_wire::{
    Problem, Secret,
    agent::{CliState, Event, KEY_ENTRY, Paste, Pasted, Screen, SignIn},
    provider::{KeyEntry, Provider},
};
use std::{fs, path::Path};

const KEY: &str = "sk-demo-0f1e2d3c4b5a";

fn keyed(script: &str) -> Provider {
    let entry = KeyEntry {
        label: "Demo key".into(),
        shape: Some("sk-demo-[0-9a-f]{12}".into()),
        hint: Some("sk-demo-…".into()),
    };
    Provider { key_entry: Some(entry), ..provider(script) }
}

async fn asked(world: &World, sender: &mut Sender) -> SignIn {
    until("the key is asked for", async || {
        let now = world.sign_in(sender).await;
        now.prompt.as_ref().is_some_and(|open| open.id == KEY_ENTRY).then_some(now)
    })
    .await
}

async fn give(sender: &mut Sender, key: &str) -> (u16, Vec<u8>) {
    let (status, body) = post(sender, "/paste", &Paste { text: Secret::new(key.to_owned()) }).await;
    (status.as_u16(), body.to_vec())
}

async fn shown(sender: &mut Sender, text: &str) {
    until(text, async || {
        let screen: Screen = get(sender, "/screen").await;
        screen.lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

/// Files below `dir` that hold `text`.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() && String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(text) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test]
async fn key_reaches_only_the_standard_input_of_the_tool() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let script = "IFS= read -r key; printf %s \"$key\" > received; read -r more && touch more; \
                  test -t 1 && test -t 2 && touch on-a-terminal; touch ready; exec tail -f /dev/null";
    world.claim(&mut sender, keyed(script)).await;
    let now = asked(&world, &mut sender).await;
    let prompt = now.prompt.unwrap();
    assert_eq!((prompt.label.as_str(), prompt.secret, prompt.hint.as_deref()), ("Demo key", true, Some("sk-demo-…")));
    assert_eq!(now.cli, CliState::Waiting, "nothing runs before the key is there");
    shown(&mut sender, "Waiting for the key, which is entered in the page.").await;

    for bad in ["sk-demo-0f1e2d3c4b5", "xsk-demo-0f1e2d3c4b5a", "sk-demo-0f1e2d3c4b5a0"] {
        let (status, body) = give(&mut sender, bad).await;
        let refusal = problem(&body.into());
        assert_eq!((status, refusal.code.as_str()), (422, Problem::WrongAnswer.code()));
        assert_eq!(refusal.detail.as_deref(), Some("sk-demo-…"));
    }
    assert_eq!(world.sign_in(&mut sender).await.cli, CliState::Waiting);

    let (status, body) = give(&mut sender, &format!("  {KEY}\n")).await;
    // A line feed is a control character within the text, but blanks around it do not count.
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(serde_json::from_slice::<Pasted>(&body).unwrap(), Pasted::Key);
    until("the tool has read it", async || world.home("ready").exists().then_some(())).await;
    assert_eq!(fs::read_to_string(world.home("received")).unwrap(), KEY);
    assert!(!world.home("more").exists(), "the pipe ends after the key");
    assert!(world.home("on-a-terminal").exists());
    assert_eq!(world.sign_in(&mut sender).await.prompt, None);
    for pid in world.descendants().into_iter().chain([world.agent.id()]) {
        for file in ["cmdline", "environ"] {
            let seen = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&seen).contains(KEY), "in /proc/{pid}/{file}");
        }
    }
    assert_eq!(files_with(world.dir.path(), KEY), ["received"], "only where the tool itself wrote it");
    let heard = format!("{:?}", world.heard.lock().unwrap().events);
    assert!(!heard.contains(KEY) && heard.contains("PromptOpened") && heard.contains("PromptClosed"), "{heard}");
    let screen: Screen = get(&mut sender, "/screen").await;
    assert!(!screen.lines.iter().any(|line| line.contains(KEY)));
}

#[tokio::test]
async fn rejected_key_is_prompted_again_with_the_reason() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let script = "read -r key; test -e second && { touch good; exec tail -f /dev/null; }; touch second; \
                  echo 'That key is revoked'; exit 3";
    world.claim(&mut sender, keyed(script)).await;
    asked(&world, &mut sender).await;
    assert_eq!(give(&mut sender, KEY).await.0, 200);
    let refused = until("asked again", async || world.sign_in(&mut sender).await.prompt.and_then(|open| open.refused));
    assert!(refused.await.contains("That key is revoked"));
    world.event("the end", |event| matches!(event, Event::CliExited { code: 3, .. }).then_some(())).await;
    shown(&mut sender, "ended with 3. The key is entered in the page.").await;
    assert_eq!(give(&mut sender, KEY).await.0, 200);
    until("the second run", async || world.home("good").exists().then_some(())).await;
    assert_eq!(world.sign_in(&mut sender).await.cli, CliState::Running);
}

#[tokio::test]
async fn key_prompt_survives_a_lost_terminal() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, keyed("read -r key; printf %s \"$key\" > received; exec tail -f /dev/null")).await;
    asked(&world, &mut sender).await;
    let pane = world.descendants().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split('\0').nth(1) == Some("pane"))
    });
    let pane = pane.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pane).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the pane is gone", async || (!alive(pane)).then_some(())).await;
    assert_eq!(give(&mut sender, KEY).await.0, 200);
    until("the key", async || (fs::read_to_string(world.home("received")).ok().as_deref() == Some(KEY)).then_some(()))
        .await;
}
