//! The API key: the user pastes it, the tool reads it from its standard input, and it is visible nowhere else.

use crate::fixture::*;
use anteroom_wire::{
    Problem, Secret,
    agent::{AgentEvent, CliState, KEY_ENTRY_PROMPT_ID, Paste, PasteResult, Screen, SignInStatus, ToolEvent},
    provider::{KeyEntry, Provider},
};
use std::{fs, path::Path};

const KEY: &str = "sk-demo-0f1e2d3c4b5a";

fn provider_with_key(script: &str) -> Provider {
    let entry = KeyEntry {
        label: "Demo key".into(),
        pattern: Some("sk-demo-[0-9a-f]{12}".into()),
        expected_format: Some("sk-demo-…".into()),
    };
    Provider { key_entry: Some(entry), ..provider(script) }
}

async fn wait_key_prompt(fixture: &AgentFixture, sender: &mut Sender) -> SignInStatus {
    eventually("key prompt", async || {
        let now = fixture.sign_in(sender).await;
        now.prompt.as_ref().is_some_and(|open| open.id == KEY_ENTRY_PROMPT_ID).then_some(now)
    })
    .await
}

async fn paste_key(sender: &mut Sender, key: &str) -> (u16, Vec<u8>) {
    let (status, body) = post(sender, "/paste", &Paste { text: Secret::new(key.to_owned()) }).await;
    (status.as_u16(), body.to_vec())
}

async fn wait_screen(sender: &mut Sender, text: &str) {
    eventually(text, async || {
        let screen: Screen = get_if_ready(sender, "/screen").await?;
        screen.lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

/// The names of the files below `dir` that contain `text`.
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
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "IFS= read -r key; printf %s \"$key\" > received; read -r more && touch more; \
                  test -t 1 && test -t 2 && touch on-a-terminal; touch ready; exec tail -f /dev/null";
    fixture.claim(&mut sender, provider_with_key(script)).await;
    let now = wait_key_prompt(&fixture, &mut sender).await;
    let prompt = now.prompt.unwrap();
    assert_eq!(
        (prompt.label.as_str(), prompt.secret, prompt.expected_format.as_deref()),
        ("Demo key", true, Some("sk-demo-…"))
    );
    assert_eq!(now.cli, CliState::Waiting, "nothing runs before the key is pasted");
    wait_screen(&mut sender, "Waiting for the key, which is entered in the page.").await;

    for bad in ["sk-demo-0f1e2d3c4b5", "xsk-demo-0f1e2d3c4b5a", "sk-demo-0f1e2d3c4b5a0"] {
        let (status, body) = paste_key(&mut sender, bad).await;
        let rejection = problem(&body.into());
        assert_eq!((status, rejection.code.as_str()), (422, Problem::WrongAnswer.code()));
        assert_eq!(rejection.detail.as_deref(), Some("sk-demo-…"));
    }
    assert_eq!(fixture.sign_in(&mut sender).await.cli, CliState::Waiting);

    let (status, body) = paste_key(&mut sender, &format!("  {KEY}\n")).await;
    // Leading and trailing whitespace is trimmed; a line feed within the text would be rejected.
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(serde_json::from_slice::<PasteResult>(&body).unwrap(), PasteResult::Stdin);
    eventually("key read", async || fixture.home("ready").exists().then_some(())).await;
    assert_eq!(fs::read_to_string(fixture.home("received")).unwrap(), KEY);
    assert!(!fixture.home("more").exists(), "the pipe ends after the key");
    assert!(fixture.home("on-a-terminal").exists());
    assert_eq!(fixture.sign_in(&mut sender).await.prompt, None);
    for pid in fixture.descendants().into_iter().chain([fixture.agent.id()]) {
        for file in ["cmdline", "environ"] {
            let seen = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&seen).contains(KEY), "in /proc/{pid}/{file}");
        }
    }
    assert_eq!(files_with(fixture.dir.path(), KEY), ["received"], "only in the file that the tool wrote");
    let events = format!("{:?}", fixture.controller.lock().unwrap().events);
    assert!(!events.contains(KEY) && events.contains("PromptOpened") && events.contains("PromptClosed"), "{events}");
    let screen: Screen = get(&mut sender, "/screen").await;
    assert!(!screen.lines.iter().any(|line| line.contains(KEY)));
}

#[tokio::test]
async fn rejected_key_is_prompted_again_with_the_reason() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "read -r key; test -e second && { touch good; exec tail -f /dev/null; }; touch second; \
                  echo 'That key is revoked'; exit 3";
    fixture.claim(&mut sender, provider_with_key(script)).await;
    wait_key_prompt(&fixture, &mut sender).await;
    assert_eq!(paste_key(&mut sender, KEY).await.0, 200);
    let reason = eventually("prompted again", async || {
        fixture.sign_in(&mut sender).await.prompt.and_then(|open| open.rejection)
    });
    assert!(reason.await.contains("That key is revoked"));
    fixture
        .wait_event("tool exit", |event| {
            matches!(event, AgentEvent::Tool(ToolEvent::Exited { code: 3, .. })).then_some(())
        })
        .await;
    wait_screen(&mut sender, "ended with 3. The key is entered in the page.").await;
    assert_eq!(paste_key(&mut sender, KEY).await.0, 200);
    eventually("the second run", async || fixture.home("good").exists().then_some(())).await;
    assert_eq!(fixture.sign_in(&mut sender).await.cli, CliState::Running);
}

#[tokio::test]
async fn key_prompt_survives_a_lost_terminal() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture
        .claim(&mut sender, provider_with_key("read -r key; printf %s \"$key\" > received; exec tail -f /dev/null"))
        .await;
    wait_key_prompt(&fixture, &mut sender).await;
    let pane = fixture.descendants().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split('\0').nth(1) == Some("pane"))
    });
    let pane = pane.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pane).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("pane ended", async || (!is_alive(pane)).then_some(())).await;
    assert_eq!(paste_key(&mut sender, KEY).await.0, 200);
    eventually("key received", async || {
        (fs::read_to_string(fixture.home("received")).ok().as_deref() == Some(KEY)).then_some(())
    })
    .await;
}
